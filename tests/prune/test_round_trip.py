"""Every network that can be pruned can be saved pruned and rebuilt from its record: its factory, then the shapes of its tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gleanet.core.errors import CheckpointError
from gleanet.nn import Architecture, architecture_of, build, load, save, set_architecture
from gleanet.prune import apply, find_groups
from tests.prune.nets import NETS, SHAPE, images, lively, logits, random_plan

FACTORY = "tests.prune.nets:network"
BUILT_IN = (
    "resnet20", "resnet20_b", "resnet18", "resnet18_cifar", "vgg16_bn_cifar", "mobilenet_v2", "mobilenet_v2_cifar", "squeezenet1_1",
    "squeezenet1_1_cifar", "densenet40",
)  # fmt: skip


def pruned(net: nn.Module, example: torch.Tensor, *, fold: bool = False) -> nn.Module:
    """Random channels removed from every group, residual widths too; ``fold``: zero filters leave constants that go into new biases."""
    net = lively(net, dtype=torch.float32)
    grouping = find_groups(net, example, residual=True)
    plan = random_plan(grouping, 7)
    if fold:
        with torch.no_grad():
            for group, part in zip(grouping.groups, plan.groups, strict=True):
                for member in group.producers():
                    weight = net.get_submodule(member.path).get_parameter("weight")
                    if not isinstance(net.get_submodule(member.path), nn.ConvTranspose2d):
                        weight[member.positions(list(part.drop()))] = 0.0
    return apply(net, plan, grouping=grouping)


def check(small: nn.Module, again: nn.Module, x: torch.Tensor) -> None:
    assert torch.equal(logits(again, x), logits(small, x))
    for (path, module), other in zip(small.named_modules(), again.modules(), strict=True):
        assert module.extra_repr() == other.extra_repr(), path


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_users_network_comes_back_to_the_bit(name: str, fold: bool, tmp_path: Path) -> None:
    net = NETS[name]()
    set_architecture(net, Architecture(FACTORY, {"name": name}, input_shape=SHAPE))
    small = pruned(net, images(1, dtype=torch.float32), fold=fold)
    save(small, tmp_path / "small.gleanet")
    with pytest.raises(CheckpointError, match="not a built-in network and was not run"):
        load(tmp_path / "small.gleanet")
    check(small, load(tmp_path / "small.gleanet", factory=FACTORY), images(2, dtype=torch.float32))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_network_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    net = build(name, num_classes=5, seed=0)
    shape = (3, 32, 32) if architecture_of(net).input_shape[1] <= 32 else (3, 48, 48)
    set_architecture(net, replace(architecture_of(net), input_shape=shape))
    small = pruned(net, images(1, shape=shape, dtype=torch.float32))
    save(small, tmp_path / "small.gleanet")
    check(small, load(tmp_path / "small.gleanet"), images(2, shape=shape, dtype=torch.float32))
    again = pruned(build(tmp_path / "small.gleanet"), images(1, shape=shape, dtype=torch.float32))  # and can be pruned once more
    save(again, tmp_path / "smaller.gleanet")
    check(again, load(tmp_path / "smaller.gleanet"), images(2, shape=shape, dtype=torch.float32))
