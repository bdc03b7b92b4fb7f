"""Pruning while training goes on: killed at any step, it goes on and ends with the same network to the bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gleanet.core.errors import CheckpointError
from gleanet.core.records import Preprocess
from gleanet.prune import FCR
from gleanet.train import Recipe, fit, resume
from tests.train.test_loop import Killed
from tests.train.tiny import images, net, same

RECIPE = Recipe(epochs=2, batch_size=12, lr=0.05, distill=0.5, flip=False)
STEPS = 16


def trained(options: dict[str, Any], checkpoint: Path | None, stop: int = 0) -> nn.Module:
    """Train and prune; ``stop``: be killed after that step. The network as it starts is the teacher, as in the pipeline."""
    model = net(3)
    fcr = FCR(model, torch.zeros(1, 3, 8, 8), flops=0.5, total_steps=STEPS, align=1, **options)

    def hook(done: int) -> None:
        fcr.step()
        if done == stop:
            raise Killed

    fit(
        model, images(), RECIPE, preprocess=Preprocess(), seed=0, teacher=model, after_step=hook, along=fcr, checkpoint=checkpoint
    )  # fmt: skip
    return fcr.finish()


@pytest.mark.parametrize("stop", [3, 9, 11, 16])
@pytest.mark.parametrize(
    "options",
    [
        {"recycle": "features", "images": 30},  # enough after three steps: killed before, at and after the plan
        {"recycle": "features", "images": 120, "criterion": "l2"},  # enough in the second epoch only
        {"recycle": "weights", "interval": 2},
        {"recycle": "weights", "interval": 4, "criterion": "taylor"},
        {"recycle": "none", "interval": 3, "criterion": "activation", "phase": 0.9},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_killed_pruning_goes_on(options: dict[str, Any], stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gleanet.train.loop.SAVE_EVERY_S", 0.0)  # after every step
    whole = trained(options, None)
    with pytest.raises(Killed):
        trained(options, tmp_path / "state", stop)
    again = trained(options, tmp_path / "state")
    assert same(again, whole)
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in net(3).parameters())


def test_nested_values_come_back_as_they_were(tmp_path: Path) -> None:
    last = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    given = {"step": 3, "keep": {"a": [1, 2]}, "images": [last, torch.ones(2)], "sums": {"b": torch.zeros(0, dtype=torch.float64)}}

    class Along:
        def state_dict(self) -> dict[str, Any]:
            return given

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise AssertionError(state)

    model = net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    resume.write(tmp_path / "s", model, sgd, resume.Standing({}, 1, 0.1), Along())
    found = resume.read(tmp_path / "s", {})
    assert found is not None
    state = resume.state_along(*found)
    assert torch.equal(state["images"][0], last)
    assert state["images"][0].stride() == last.stride()
    assert torch.equal(state["images"][1], torch.ones(2))
    assert state["sums"]["b"].dtype == torch.float64
    assert (state["step"], state["keep"]) == (3, {"a": [1, 2]})
    del found[1]["along/" + str(len(model.state_dict()))]
    with pytest.raises(CheckpointError, match="damaged"):
        resume.state_along(*found)


def test_a_state_of_another_network_changes_nothing() -> None:
    def digest(model: nn.Module) -> Callable[[], bool]:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return lambda: all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    model = net()
    unchanged, sgd = digest(model), torch.optim.SGD(model.parameters(), lr=0.1)
    for tensors in ({}, {"model/0.weight": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match="does not fit"):
            resume.put(model, sgd, tensors)
        assert unchanged()
