"""The built-in networks, whole: the law of removal (DESIGN 5.2) in float64, and budgets at the size they are made for."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gleanet.core.errors import BudgetError
from gleanet.nn import NAMES, architecture_of, build, cost
from gleanet.nn.networks import NETWORKS
from gleanet.prune import Grouping, Plan, apply, find_groups, plan, zero
from tests.prune.nets import (
    Grouped,
    Heads,
    Inception,
    Moves,
    Normed,
    Parts,
    SqueezeExcite,
    UpAndDown,
    images,
    lively,
    logits,
    random_plan,
)

FEW = ("resnet20", "resnet20_b", "squeezenet1_1_cifar")  # every group is a matter of a second
MANY = ("resnet8", "resnet56", "resnet110_b", "resnet18_cifar", "resnet50", "vgg16_bn_cifar", "mobilenet_v2_cifar", "densenet40")
SLOW = (*MANY, "resnet110", "mobilenet_v2", "resnet34")  # the large VGG is a gigabyte in float64: see below


def side(name: str) -> int:
    """Images as small as the network takes: removal does not depend on their size."""
    return 16 if NETWORKS[name].input_shape[1] <= 32 else 48


def calibrated(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random weights, and batch-norm statistics of the activations they make: as in a trained network, no value grows with depth."""
    net = lively(build(name, num_classes=10), dtype=dtype).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        net(images(16, seed=9, shape=(3, side(name), side(name)), dtype=dtype))
    return net.eval()


def broken_by(net: nn.Module, chosen: Plan, grouping: Grouping, pixels: int) -> float:
    """The largest difference between logits with channels zeroed and removed, at several batch sizes; a share of logits beyond 1."""
    zeroed = zero(net, chosen, grouping=grouping)
    small = apply(net, chosen, grouping=grouping)
    worst = 0.0
    for count in (1, 2, 5):
        x = images(count, seed=count, shape=(3, pixels, pixels), dtype=next(net.parameters()).dtype)
        expected = logits(zeroed, x)
        worst = max(worst, float((logits(small, x) - expected).abs().max() / expected.abs().max().clamp(min=1)))
    return worst


def law(name: str, *, every: bool) -> None:
    net, pixels = calibrated(name), side(name)
    assert float(logits(net, images(4, shape=(3, pixels, pixels))).std(0).max()) > 0.1  # they depend on the image
    for residual in (False, True):
        grouping = find_groups(net, images(1, shape=(3, pixels, pixels)), residual=residual)
        plans = [random_plan(grouping, 3)]
        if every:
            plans += [random_plan(grouping, seed, only=group.name) for seed, group in enumerate(grouping.groups)]
        for chosen in plans:
            assert broken_by(net, chosen, grouping, pixels) <= 1e-12


@pytest.mark.parametrize("name", FEW)
def test_law_for_every_group(name: str) -> None:
    law(name, every=True)


@pytest.mark.parametrize("name", MANY)
def test_law_for_a_random_plan(name: str) -> None:
    law(name, every=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_law_for_every_group_of_the_larger_ones(name: str) -> None:
    law(name, every=True)


@pytest.mark.slow
def test_law_of_the_large_vgg_in_single_precision() -> None:
    net = calibrated("vgg16_bn", torch.float32)
    grouping = find_groups(net, images(1, shape=(3, 48, 48), dtype=torch.float32))
    flat = {m.path: m for g in grouping.groups for m in g.members if m.path == "classifier.0" and m.role == "in"}["classifier.0"]
    assert flat.index[5] == tuple(range(5 * 49, 6 * 49))  # 7 x 7 features for each channel
    assert broken_by(net, random_plan(grouping, 3), grouping, 48) <= 1e-5


def budgets(net: nn.Module, example: torch.Tensor) -> None:
    """Met within 1 % from below, or an error that names the least, which is reachable; costs are those of the network that is built."""
    for residual in (False, True):
        grouping = find_groups(net, example, residual=residual)
        for allocation in ("uniform", "global"):
            for target in (0.3, 0.5, 0.7):
                chosen = plan(net, example, flops=target, allocation=allocation, residual=residual, grouping=grouping)
                assert target - 0.01 <= chosen.macs_after / chosen.macs_before <= target
            with pytest.raises(BudgetError, match="cannot be reached") as caught:
                plan(net, example, flops=0.001, allocation=allocation, residual=residual, grouping=grouping)
            least = float(str(caught.value).split("the least is ")[1].split(";")[0])
            chosen = plan(net, example, flops=least, allocation=allocation, residual=residual, grouping=grouping)
            assert chosen.macs_after <= least * chosen.macs_before
    assert cost(apply(net, chosen, grouping=grouping), example).macs == chosen.macs_after


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name == "vgg16_bn" else name for name in NAMES])
def test_budgets_of_built_in_networks(name: str) -> None:
    net = build(name, seed=0)
    budgets(net, torch.zeros(1, *architecture_of(net).input_shape))


# Other structures, wide enough that one channel is less than the tolerance.
WIDE: dict[str, Callable[[], nn.Module]] = {
    "inception": lambda: Inception(8),
    "squeeze-excite": lambda: SqueezeExcite(8),
    "grouped": lambda: Grouped(8),
    "chunk, split and shuffles": lambda: Parts(8),
    "two heads and a shared module": lambda: Heads(256),
    "transposed and dilated": lambda: UpAndDown(8),
    "group-norm": lambda: Normed("group", 8),
    "permute, slices and means": lambda: Moves(8),
}


@pytest.mark.parametrize("name", WIDE)
def test_budgets_of_other_structures(name: str) -> None:
    budgets(WIDE[name](), images(1, dtype=torch.float32))


def test_what_is_left_alone_is_listed_with_its_reason() -> None:
    """Widths of residual adds, in every network that has them; what stays even when they are asked for."""
    for name in ("resnet20", "resnet20_b", "mobilenet_v2_cifar", "squeezenet1_1_cifar"):
        net = build(name, seed=0)
        groupings = {residual: find_groups(net, torch.zeros(1, 3, 16, 16), residual=residual) for residual in (False, True)}
        asked = {item.path for item in groupings[False].left if "ask for residual=True" in item.reason}
        assert bool(asked) == (name != "squeezenet1_1_cifar")
        layers = [path for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for grouping in groupings.values():
            pruned = {member.path for group in grouping.groups for member in group.producers()}
            assert set(layers) <= pruned | {item.path for item in grouping.left}  # every layer is in a group or in the list
        final = [item.path for item in groupings[True].left if item.reason == "it is the network's output"]
        assert final == [layers[-1]]
