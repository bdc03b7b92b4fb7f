"""Times from a table: the sum of the layers, stairs that are never paid for in vain, and a target that the measured whole meets."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn

from gleanet.core.errors import BudgetError, SettingsError
from gleanet.core.records import LatencyTable, LayerTimes
from gleanet.nn import build
from gleanet.prune import Grouping, find_groups, least_part, measured_widths, plan
from gleanet.prune.allocate import ladders
from gleanet.prune.budget import CostModel
from gleanet.prune.latency import TimeModel, meet
from tests.prune.nets import MobileNetV2
from tests.prune.test_budget import BUDGETED, EXAMPLE

REST = 0.75


def lanes(width: int) -> int:
    return -(-width // 16)


def stairs(out: int, in_: int) -> float:
    """A runtime that computes 16 channels at a time on both sides."""
    return float(lanes(out) * lanes(in_))


def table_of(grouping: Grouping, time: Callable[[int, int], float] = stairs, align: int = 8) -> LatencyTable:
    """A table as it is measured, of a machine on which a layer takes ``time(outputs, inputs)`` and the rest of the network ``REST``."""
    layers = tuple(
        LayerTimes(path, (path,), outs, ins, tuple(tuple(time(out, in_) for in_ in ins) for out in outs))
        for path, (outs, ins) in measured_widths(grouping, align=align, floor=0.1).items()
    )
    return LatencyTable("stairs", 1, 1, 1, REST + sum(times.ms[-1][-1] for times in layers), layers)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", BUDGETED)
def test_what_is_predicted_is_the_sum_of_the_layers(name: str, residual: bool) -> None:
    net = BUDGETED[name]()
    grouping = find_groups(net, EXAMPLE, residual=residual)
    cost, table = CostModel(grouping), table_of(grouping)
    model = TimeModel(cost, table)
    assert model.ms({}) == pytest.approx(table.base_ms)
    made = plan(net, EXAMPLE, latency=0.8, table=table, residual=residual, grouping=grouping, allocation="global")
    widths = cost.layer_widths({part.name: len(part.keep) for part in made.groups})
    assert made.ms_after == pytest.approx(REST + sum(stairs(*pair) for pair in widths.values()))
    assert made.ms_before == pytest.approx(table.base_ms)


def test_a_dropped_branch_and_its_add_cost_nothing() -> None:
    grouping = find_groups(build("resnet20", seed=0), EXAMPLE, residual=True)
    cost, table = CostModel(grouping), table_of(grouping)
    last, inner = "layer2.1.conv2", "layer2.1.conv1"
    width = cost.layer_widths({})[last][0]
    (group,) = cost.sources(last)[0]
    kept = {group: cost.channels[group] // 2}
    half = cost.layer_widths(kept)[last][0]
    add = LayerTimes("add", (f"{last}:add",), (half, width), (1,), ((3.0,), (5.0,)))
    model = TimeModel(cost, replace(table, base_ms=table.base_ms + 5.0, layers=(*table.layers, add)))
    branch = sum(stairs(*cost.layer_widths({})[path]) for path in (last, inner))
    assert model.ms({}) == pytest.approx(table.base_ms + 5.0)
    assert model.ms({}, gone={last, inner}) == pytest.approx(table.base_ms - branch)
    assert half < width
    assert model.ms(kept) == pytest.approx(TimeModel(cost, table).ms(kept) + 3.0)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("target", [0.4, 0.5, 0.6, 0.8])
@pytest.mark.parametrize("name", ["resnet20", "resnet56", "vgg"])
def test_no_width_lies_just_above_a_step(name: str, target: float, allocation: str) -> None:
    """40 channels that take the time of 48 are a gift refused: the plan keeps 48, or steps down to 32."""
    net = BUDGETED[name]()
    grouping = find_groups(net, EXAMPLE)
    table = table_of(grouping)
    try:
        made = plan(net, EXAMPLE, latency=target, table=table, allocation=allocation, grouping=grouping)  # type: ignore[arg-type]
    except BudgetError:
        assert least_part(grouping, bound="latency", align=8, floor=0.1, table=table) > target
        return
    assert made.ms_after is not None
    assert made.ms_after <= target * table.base_ms
    widths = {part.name: len(part.keep) for part in made.groups}
    model = TimeModel(CostModel(grouping), table)
    for group, ladder in ladders(CostModel(grouping), 8, 0.1).items():
        assert all(model.ms({**widths, group: wider}) > model.ms(widths) for wider in ladder.widths if wider > widths[group])


@pytest.mark.parametrize("target", [0.6, 0.8])
def test_a_smooth_time_is_met_from_below(target: float) -> None:
    net = BUDGETED["resnet56"]()
    grouping = find_groups(net, EXAMPLE)
    made = plan(net, EXAMPLE, latency=target, table=table_of(grouping, lambda out, in_: out * in_ / 256), grouping=grouping)
    assert made.ms_after is not None
    assert made.ms_before is not None
    assert target - 0.01 <= made.ms_after / made.ms_before <= target


def test_the_least_time_that_the_error_names_can_be_reached() -> None:
    net = MobileNetV2()
    grouping = find_groups(net, EXAMPLE)
    table = table_of(grouping, lambda out, in_: float(out * in_))
    with pytest.raises(BudgetError, match=r"0.05 of the float latency cannot be reached: .* \(\d+\.\d+ ms\); ask for more") as caught:
        plan(net, EXAMPLE, latency=0.05, table=table)
    least = float(str(caught.value).split("the least is ")[1].split(" ")[0])
    assert plan(net, EXAMPLE, latency=least, table=table).target == least
    with pytest.raises(BudgetError):
        plan(net, EXAMPLE, latency=least - 0.002, table=table)


def test_only_measured_widths_are_planned() -> None:
    """Between 32 and 40 the table knows nothing, so a latency does not end at 35; one with other blocks offers other widths."""
    net = BUDGETED["vgg"]()
    grouping = find_groups(net, EXAMPLE)
    table = table_of(grouping, lambda out, in_: float(out * in_))
    axes = measured_widths(grouping, align=8, floor=0.1)
    for align in (8, 1):
        made = plan(net, EXAMPLE, latency=0.5, table=table, align=align)
        assert all(len(part.keep) in axes[part.name][0] for part in made.groups)


def test_allocation_by_latency_spares_the_layers_whose_channels_cost_no_time() -> None:
    """Under a budget of MACs: outputs and inputs of one layer are free of time on this machine, so cutting them saves none."""
    net = build("resnet20", seed=0)
    grouping = find_groups(net, EXAMPLE)
    times = table_of(grouping, lambda out, in_: float(out * in_))
    free = "layer1.1.conv1"
    flat = [
        replace(layer, ms=tuple(tuple(layer.ms[-1][-1] for _ in layer.ins) for _ in layer.outs))
        if layer.what in (free, free.replace("conv1", "conv2"))
        else layer
        for layer in times.layers
    ]
    table = replace(times, layers=tuple(flat))
    by_time, by_work = (
        {part.name: len(part.keep) for part in plan(net, EXAMPLE, flops=0.7, allocation=how, table=table).groups}
        for how in ("latency", "global")
    )
    assert by_time[free] == 16
    assert by_work[free] < 16


def test_a_table_of_another_network_and_none_are_refused_in_one_line() -> None:
    table = table_of(find_groups(build("resnet20"), EXAMPLE))
    with pytest.raises(SettingsError, match="table of times is of another network: its layer layer1"):
        plan(build("resnet8"), EXAMPLE, latency=0.5, table=table)
    for asked in ({"latency": 0.5}, {"flops": 0.5, "allocation": "latency"}):
        with pytest.raises(SettingsError, match=r"pass table=gleanet\.latency_table"):
            plan(build("resnet8"), EXAMPLE, **asked)


class Machine:
    """Plans are goals on a ladder of widths; the machine takes another time than the table says."""

    def __init__(self, real: Callable[[float], float], step: float = 0.01, least: float = 0.0) -> None:
        self.real, self.step, self.least, self.asked = real, step, least, 0

    def at(self, goal: float) -> float:
        if goal < self.least:
            raise BudgetError("the widths end here")
        return self.step * int(goal / self.step + 1e-9)

    def timed(self, plan: float) -> float:
        self.asked += 1
        return self.real(plan)


@pytest.mark.parametrize(
    "real", [lambda p: p, lambda p: 0.8 * p, lambda p: 0.2 + 0.8 * p, lambda p: 1.25 * p, lambda p: p**2, lambda p: 0.1 + 0.9 * p**1.5]
)
@pytest.mark.parametrize("target", [0.35, 0.5, 0.8])
def test_the_measured_time_meets_the_target_from_below(real: Callable[[float], float], target: float) -> None:
    machine = Machine(real)
    found, ratio = meet(machine.at, target, machine.timed)
    assert ratio == real(found)
    assert 0.95 * target <= ratio <= target
    assert machine.asked <= 6


def test_what_cannot_be_met_comes_as_close_as_it_gets() -> None:
    ends = Machine(lambda p: p + 0.1, least=0.45)
    found, ratio = meet(ends.at, 0.5, ends.timed)
    assert found <= 0.5
    assert ratio == pytest.approx(found + 0.1)
    assert ratio < 0.6  # closer than the first plan
    coarse = Machine(lambda p: p, step=0.3)
    assert meet(coarse.at, 0.5, coarse.timed)[1] == pytest.approx(0.3)
    beyond = Machine(lambda p: p, least=0.6)
    with pytest.raises(BudgetError):
        meet(beyond.at, 0.5, beyond.timed)


def test_a_plan_says_what_was_measured() -> None:
    net: nn.Module = build("resnet20", seed=0)
    table = table_of(find_groups(net, EXAMPLE), lambda out, in_: float(out * in_))
    made = plan(net, EXAMPLE, latency=0.7, table=table, timed=lambda p: 1.1 * (p.ms_after or 0) / (p.ms_before or 1))
    assert made.measured is not None
    assert 0.665 <= made.measured <= 0.7
    assert "bounded: latency at 0.7" in str(made)
    assert f"measured {made.measured:.1%}" in str(made)
