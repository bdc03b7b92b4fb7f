"""Planning and refitting that are stopped anywhere go on to the same bits, and compute nothing again that was kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gleanet.core.progress import Advance
from gleanet.prune import Plan, carry_out, keep, plan
from gleanet.prune.keep import Keep
from tests.prune.nets import Grouped, Heads, OptionB, images, lively

X = images(1)
BATCHES = [images(8, seed=seed) for seed in range(4)]
NETS: dict[str, Callable[[], nn.Module]] = {"option B": OptionB, "grouped": Grouped, "heads": Heads}  # with biases made anew, and without


class Stopped(Exception):
    pass


class Stops:
    """A progress that stops the work after so many steps, and counts those it has seen."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.seen = after, 0

    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        def advance(units: int) -> None:
            self.seen += 1
            if self.seen == self.after:
                raise Stopped

        yield advance

    def say(self, line: str) -> None:
        return None


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "EVERY_S", 0.0)


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("criterion", ["residual", "local_residual", "taylor", "activation"])
@pytest.mark.parametrize("name", NETS)
def test_a_plan_that_is_stopped_anywhere_goes_on_to_the_same_plan(name: str, criterion: str, tmp_path: Path) -> None:
    net = lively(NETS[name]())

    def planned(progress: Stops, kept: Any) -> Plan:
        return plan(net, X, flops=0.6, align=1, criterion=criterion, calibration=BATCHES, progress=progress, keep=kept)

    whole = Stops()
    expected = planned(whole, keep.FORGET)
    for after in range(1, whole.seen + 1):
        with pytest.raises(Stopped):
            planned(Stops(after), Keep(tmp_path / str(after), "this"))
        assert planned(Stops(), Keep(tmp_path / str(after), "this")) == expected, after


@pytest.mark.parametrize("name", NETS)
def test_a_refit_that_is_stopped_at_any_layer_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    net = lively(NETS[name]())
    chosen, whole = plan(net, X, flops=0.6, align=1, calibration=BATCHES), Stops()
    expected = carry_out(net, chosen, calibration=BATCHES, progress=whole)
    for after in range(1, whole.seen + 1):
        with pytest.raises(Stopped):
            carry_out(net, chosen, calibration=BATCHES, progress=Stops(after), keep=Keep(tmp_path / str(after), "this"))
        found = carry_out(net, chosen, calibration=BATCHES, keep=Keep(tmp_path / str(after), "this"))
        assert same(found, expected), after
        assert all(parameter.requires_grad for parameter in found.parameters())


def test_what_was_kept_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be solved any more, and all is there."""
    net, kept = lively(OptionB()), Keep(tmp_path, "this")
    chosen = plan(net, X, flops=0.6, align=1, calibration=BATCHES, keep=kept)
    small = carry_out(net, chosen, calibration=BATCHES, keep=kept)
    for function in ("cholesky", "solve", "lstsq"):
        monkeypatch.delattr(torch.linalg, function)
    assert plan(net, X, flops=0.6, align=1, calibration=BATCHES, keep=Keep(tmp_path, "this")) == chosen
    assert same(carry_out(net, chosen, calibration=BATCHES, keep=Keep(tmp_path, "this")), small)
    with pytest.raises(AttributeError):
        carry_out(net, chosen, calibration=BATCHES, keep=Keep(tmp_path, "another"))


def test_of_another_work_or_of_a_damaged_file_nothing_is_read(tmp_path: Path) -> None:
    Keep(tmp_path, "this").write("scores", {"a": torch.ones(3)})
    assert Keep(tmp_path, "this").read("scores")["a"].tolist() == [1.0] * 3
    assert Keep(tmp_path, "that").read("scores") == {}
    assert Keep(tmp_path, "this").read("factors") == {}
    file = tmp_path / "scores.state"
    file.write_bytes(file.read_bytes()[:-1])
    assert Keep(tmp_path, "this").read("scores") == {}


def test_short_work_writes_nothing_and_long_work_all_that_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "EVERY_S", 3600.0)
    kept = Keep(tmp_path, "this")
    kept.write("scores", {"a": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(keep, "EVERY_S", 0.0)
    kept.write("factors", {"a": torch.ones(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.state", "scores.state"]
