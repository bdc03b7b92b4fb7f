"""bfloat16: convolutions compute in it, weights stay float32, and the network learns."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.core.settings import Precision
from gleanet.train import Recipe, fit, range_test
from gleanet.train.step import best_precision
from tests.train.tiny import images, net, same


def recipe(precision: Precision, epochs: float = 6) -> Recipe:
    return Recipe(epochs, batch_size=16, lr=0.1, distill=0.2, flip=False, augment=False, precision=precision)


def test_it_learns_in_bfloat16_with_float32_weights() -> None:
    model, seen = net(), set()

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module.training:
            seen.add((type(module).__name__, output.dtype))

    for module in model.modules():
        module.register_forward_hook(see)
    _, curve = fit(model, images(), recipe("bf16"), preprocess=Preprocess(), seed=0, teacher=net(4), evaluate=images(200, 1))
    assert {("Conv2d", torch.bfloat16), ("Linear", torch.bfloat16)} <= seen
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32, torch.int64}
    assert curve.points[-1].accuracy is not None
    assert curve.points[-1].accuracy > 0.9


def test_it_is_near_float32_and_not_the_same() -> None:
    found = [fit(net(), images(), recipe(each, 1), preprocess=Preprocess(), seed=0, teacher=net(4)) for each in ("float32", "bf16", "bf16")]
    (exact, curve), (rough, other), (again, _) = found
    assert same(rough, again)
    assert not same(rough, exact)
    assert other.points[-1].loss == pytest.approx(curve.points[-1].loss, rel=0.05)


def test_the_range_test_computes_in_it_too() -> None:
    net_seen = net()
    seen = set()
    net_seen[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))  # type: ignore[index]
    range_test(net_seen, images(), recipe("bf16"), preprocess=Preprocess(), seed=0)
    assert seen == {torch.bfloat16}


def test_a_training_does_not_go_on_in_another_precision(tmp_path: Path) -> None:
    fit(net(), images(), recipe("float32", 1), preprocess=Preprocess(), seed=0, checkpoint=tmp_path / "state")
    with pytest.raises(CheckpointError, match="belongs to another training"):
        fit(net(), images(), recipe("bf16", 1), preprocess=Preprocess(), seed=0, checkpoint=tmp_path / "state")


def test_on_a_cpu_the_default_is_float32() -> None:
    assert best_precision(torch.device("cpu")) == "float32"


def test_another_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match="precision is half, it must be float32 or bf16"):
        recipe("half")  # type: ignore[arg-type]
