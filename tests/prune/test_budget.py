"""The cost model equals counting the network that removal builds, and budgets are met."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gleanet.core.errors import BudgetError
from gleanet.nn import build, cost
from gleanet.prune import Plan, apply, find_groups, plan
from gleanet.prune.allocate import allocate, ladders
from gleanet.prune.budget import CostModel
from tests.prune.nets import KINDS, NETS, Heads, MobileNetV2, OptionB, conv_bn, images, lively, random_plan


class Vgg(nn.Sequential):
    """VGG's shape for 12 x 12 pixels: convolutions in a row, then flatten and hidden linear layers."""

    def __init__(self) -> None:
        pool = nn.MaxPool2d(2)
        early = [conv_bn(3, 32), conv_bn(32, 32), pool, conv_bn(32, 64), conv_bn(64, 64), pool, conv_bn(64, 96), conv_bn(96, 96)]
        super().__init__(*early, nn.Flatten(), nn.Linear(96 * 9, 128), nn.ReLU(), nn.Linear(128, 10))


BUDGETED: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: build("resnet20", seed=0),
    "resnet56": lambda: build("resnet56", seed=0),
    "vgg": Vgg,
    "mobilenet-v2": lambda: MobileNetV2(widths=(16, 24, 32), blocks=3, stem=16, last=128),
    "bottleneck": lambda: OptionB(bottleneck=True, widths=(16, 32)),
}
EXAMPLE = images(1, dtype=torch.float32)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_costs_equal_those_of_the_network_that_removal_builds(name: str, residual: bool) -> None:
    net = NETS[name]()
    grouping = find_groups(net, EXAMPLE, residual=residual)
    model = CostModel(grouping)
    whole = cost(net, EXAMPLE)
    assert (model.macs_before, model.params_before) == (whole.macs, whole.params)
    for seed in range(2):
        chosen = random_plan(grouping, seed)
        counted = cost(apply(net, chosen, grouping=grouping), EXAMPLE)
        widths = {part.name: len(part.keep) for part in chosen.groups}
        assert (model.macs(widths), model.params(widths)) == (counted.macs, counted.params) == (chosen.macs_after, chosen.params_after)
        assert {layer.path: layer.macs for layer in counted.layers} == model.layer_macs(widths)


def test_a_layer_that_is_called_twice_works_twice_and_is_held_once() -> None:
    model = CostModel(find_groups(Heads(), EXAMPLE))
    assert model.layer_macs({})["shared.0"] == 2 * 8 * 8 * 9 * 144
    assert model.layer_macs({"stem.0": 2})["shared.0"] == 2 * 2 * 2 * 9 * 144


def check(chosen: Plan, target: float, align: int, floor: float) -> None:
    """Within 1 % from below; above the floor; in blocks, but for the few groups that took up the rest."""
    assert target - 0.01 <= chosen.macs_after / chosen.macs_before <= target
    ragged = 0
    for part in chosen.groups:
        block = align
        while block > 1 and part.channels < 4 * block:
            block //= 2
        ragged += len(part.keep) % block != 0 and len(part.keep) < part.channels
        assert len(part.keep) >= max(1, floor * part.channels)
    assert ragged <= 2


@pytest.mark.parametrize("align", [8, 4, 1])
@pytest.mark.parametrize("name", BUDGETED)
def test_the_budget_is_met_from_below(name: str, align: int) -> None:
    net = BUDGETED[name]()
    for residual in (False, True):
        grouping = find_groups(net, EXAMPLE, residual=residual)
        model = CostModel(grouping)
        for allocation in ("uniform", "global"):
            for target in (0.3, 0.5, 0.7):
                try:
                    chosen = plan(net, EXAMPLE, flops=target, allocation=allocation, align=align, residual=residual, grouping=grouping)
                except BudgetError:
                    least = {ladder.name: ladder.widths[-1] for ladder in ladders(model, align, 0.1).values()}
                    assert model.macs(least) > target * model.macs_before
                else:
                    check(chosen, target, align, 0.1)


def test_the_plan_costs_what_the_pruned_network_costs() -> None:
    net = build("resnet20", seed=0)
    chosen = plan(net, EXAMPLE, flops=0.5)
    counted = cost(apply(net, chosen), EXAMPLE)
    assert (counted.macs, counted.params) == (chosen.macs_after, chosen.params_after)
    assert counted.macs <= 0.5 * cost(net, EXAMPLE).macs


@pytest.mark.parametrize("align", [8, 1])
def test_the_least_that_the_error_names_can_be_reached(align: int) -> None:
    net = MobileNetV2()
    with pytest.raises(
        BudgetError, match=rf"0.05 of the MACs cannot be reached: with a floor of 10% and widths in blocks of {align}"
    ) as caught:
        plan(net, EXAMPLE, flops=0.05, align=align)
    least = float(str(caught.value).split("the least is ")[1].split(";")[0])
    assert plan(net, EXAMPLE, flops=least, align=align).macs_after <= least * cost(net, EXAMPLE).macs
    with pytest.raises(BudgetError):
        plan(net, EXAMPLE, flops=least - 0.002, align=align)


def test_all_that_fits_is_kept() -> None:
    chosen = plan(build("resnet8"), EXAMPLE, flops=1.0)
    assert all(len(part.keep) == part.channels for part in chosen.groups)


def test_blocks_count_all_positions_of_a_channel() -> None:
    """A channel of the grouped convolution is four positions of the layer, so any number of channels is a multiple of four."""
    grouping = find_groups(NETS["grouped"](), EXAMPLE)
    steps = ladders(CostModel(grouping), 4, 0.1)
    assert steps["stem.0"].widths == (4, 3, 2, 1)
    assert steps["mixed.0"].widths == (8, 6, 4, 2)  # too few channels for four blocks of four


def test_ladders_hold_floor_and_block() -> None:
    steps = ladders(CostModel(find_groups(BUDGETED["vgg"](), EXAMPLE)), 8, 0.4)
    assert steps["0.0"].widths == (32, 24, 16)
    assert steps["6.0"].widths == (96, 88, 80, 72, 64, 56, 48, 40)
    few = ladders(CostModel(find_groups(build("resnet20"), EXAMPLE)), 8, 0.1)
    assert few["layer1.0.conv1"].widths == (16, 12, 8, 4)


def test_global_allocation_follows_worth_for_each_mac() -> None:
    """One layer's channels worth nothing: they go first, whatever the others cost."""
    model = CostModel(find_groups(lively(BUDGETED["resnet20"]()), images(1)))
    scores = {name: torch.ones(count).double().numpy() for name, count in model.channels.items()}
    scores["layer3.1.conv1"] = scores["layer3.1.conv1"] * 1e-6
    widths = allocate(model, scores, target=0.85, kind="global", align=1, floor=0.1, comparable=True)
    assert widths["layer3.1.conv1"] <= 12  # of 64; what the budget left over may come back
    price = {name: model.macs_before - model.macs({name: model.channels[name] - 1}) for name in widths}
    cut = {name for name, width in widths.items() if width < model.channels[name] and name != "layer3.1.conv1"}
    whole = {name for name, width in widths.items() if width == model.channels[name]}
    assert min(price[name] for name in cut) >= max(price[name] for name in whole)  # then the dearest for equal worth


def test_the_rest_is_taken_up_by_half_a_block() -> None:
    chosen = plan(BUDGETED["vgg"](), EXAMPLE, flops=0.4, allocation="uniform")
    ragged = [len(part.keep) for part in chosen.groups if len(part.keep) % 8 and part.channels >= 32]
    assert ragged
    assert all(width % 4 == 0 for width in ragged)


def test_scores_that_are_not_comparable_are_measured_against_their_group() -> None:
    """Scaling one group's scores changes nothing, unless scores of all groups are in one unit."""
    model = CostModel(find_groups(BUDGETED["vgg"](), EXAMPLE))
    generator = np.random.default_rng(0)
    scores = {name: generator.random(count) + 0.5 for name, count in model.channels.items()}
    scaled = {**scores, "4.0": scores["4.0"] * 1000}
    for comparable in (False, True):
        one, other = (allocate(model, s, target=0.5, kind="global", align=1, floor=0.1, comparable=comparable) for s in (scores, scaled))
        assert (one == other) is not comparable


def test_uniform_allocation_keeps_one_ratio() -> None:
    chosen = plan(build("resnet56", seed=0), EXAMPLE, flops=0.5, align=1, allocation="uniform")
    ratios = [len(part.keep) / part.channels for part in chosen.groups]
    assert max(ratios) - min(ratios) <= 0.125


def test_costs_without_a_bias_for_folding(recwarn: pytest.WarningsRecorder) -> None:
    net = lively(OptionB())
    chosen = replace(random_plan(find_groups(net, images(1)), 0), align=1)
    assert cost(apply(net, chosen), images(1)).params == chosen.params_after
    assert not recwarn.list
