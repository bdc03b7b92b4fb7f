"""Milliseconds as a function of widths, from a measured table; and the plan whose *measured* time meets a target."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from gleanet.core.errors import BudgetError, SettingsError
from gleanet.core.records import LatencyTable
from gleanet.prune.budget import CostModel

PlanT = TypeVar("PlanT")

MOST = 17  # widths of one layer that are measured where only its outputs or only its inputs vary
TRIES = 6
WITHIN = 0.05  # of the target
ADD = ":add"  # "<layer>:add" in a table: the add that the branch ending with this layer meets; one width, that of the layer's outputs


class TimeModel:
    """Milliseconds of one call of the whole network: the sum of its layers as measured, and the rest of the network, which stays.

    Between two measured widths the time is interpolated; narrower than the narrowest costs as much as that one. The network as given
    takes exactly what was measured for it.

    Raises:
        SettingsError: the table is of another network.
    """

    def __init__(self, cost: CostModel, table: LatencyTable) -> None:
        self._cost = cost
        self._layers = [(path, times.outs, times.ins, times.ms) for times in table.layers for path in times.layers]
        whole = cost.layer_widths({})
        for path, outs, ins, _ in self._layers:
            layer = path.removesuffix(ADD)
            if layer not in whole or _widths(path, whole) != (outs[-1], ins[-1]):
                raise SettingsError(f"the table of times is of another network: its layer {layer} has {outs[-1]} x {ins[-1]} channels")
        self._rest = table.base_ms - self._sum(whole)
        self._grids: dict[str, list[tuple[str, int, tuple[int, ...]]]] = {name: [] for name in cost.channels}
        for path, outs, ins, _ in self._layers:
            names_out, names_in = cost.sources(path.removesuffix(ADD))
            sources = (names_out, set[str]() if path.endswith(ADD) else names_in)
            for side, (names, axis) in enumerate(zip(sources, (outs, ins), strict=True)):
                if len(names) == 1:  # of several groups beside each other only some sums can be measured
                    self._grids[next(iter(names))].append((path, side, axis))

    def ms(self, kept: Mapping[str, int], gone: Collection[str] = frozenset()) -> float:
        """Milliseconds of the network that keeps these channels (all, of a group that is not named).

        Args:
            kept: channels by group.
            gone: paths of the layers with weights in dropped branches: they cost nothing, nor do the adds that they end in.
        """
        return self._rest + self._sum(self._cost.layer_widths(kept), gone)

    def measured(self, name: str, width: int) -> bool:
        """Whether every layer that a group belongs to was measured at this width of the group."""
        widths = self._cost.layer_widths({name: width})
        return all(_widths(path, widths)[side] in axis for path, side, axis in self._grids[name])

    def _sum(self, widths: Mapping[str, tuple[int, int]], gone: Collection[str] = frozenset()) -> float:
        there = (one for one in self._layers if one[0].removesuffix(ADD) not in gone)
        return sum(_between(outs, ins, ms, *_widths(path, widths)) for path, outs, ins, ms in there)


def _widths(path: str, widths: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """(outputs, inputs) of an entry of the table; an add has one width."""
    return (widths[path.removesuffix(ADD)][0], 1) if path.endswith(ADD) else widths[path]


def _between(outs: Sequence[int], ins: Sequence[int], ms: Sequence[Sequence[float]], out: int, in_: int) -> float:
    """Bilinear between the four measured neighbours."""
    (i, i2, a), (j, j2, b) = _neighbours(outs, out), _neighbours(ins, in_)
    return (1 - a) * ((1 - b) * ms[i][j] + b * ms[i][j2]) + a * ((1 - b) * ms[i2][j] + b * ms[i2][j2])


def _neighbours(axis: Sequence[int], value: int) -> tuple[int, int, float]:
    """Positions of the measured widths at or below and at or above, and how far between them the value lies."""
    high = min(bisect_left(axis, value), len(axis) - 1)
    if axis[high] <= value or high == 0:
        return high, high, 0.0
    return high - 1, high, (value - axis[high - 1]) / (axis[high] - axis[high - 1])


def widths_to_measure(
    cost: CostModel, coarse: Mapping[str, Sequence[int]], fine: Mapping[str, Sequence[int]]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """(output widths, input widths) of each layer that a table has to hold, ascending.

    Args:
        cost: the cost model of the network.
        coarse: the widths that allocation takes for each group.
        fine: those that it takes to use up the rest, measured too where they are few and only one side of the layer varies.
    """
    result = {}
    for path, whole in cost.layer_widths({}).items():
        sources = cost.sources(path)
        most = MOST // 2 + 1 if all(sources) else MOST
        axes = []
        for side in (0, 1):
            axis, finer = (
                sorted({whole[side], *(cost.layer_widths({name: w})[path][side] for name in sources[side] for w in steps[name])})
                for steps in (coarse, fine)
            )
            axes.append(tuple(finer) if len(finer) <= most and not all(sources) else _thinned(axis, most))
        result[path] = (axes[0], axes[1])
    return result


def _thinned(axis: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many widths, both ends among them; those of a smaller number are among those of a larger one (17, 9)."""
    if len(axis) <= most:
        return tuple(axis)
    return tuple(axis[round(k * (len(axis) - 1) / (most - 1))] for k in range(most))


def meet(at: Callable[[float], PlanT], target: float, timed: Callable[[PlanT], float], *, within: float = WITHIN) -> tuple[PlanT, float]:
    """Plan, measure, correct the goal, plan again, until the measured ratio is within 5 % of the target, from below if it can be.

    Sums of layers are not quite the time of a network: it is the measured whole that has to meet the target.

    Args:
        at: makes the plan for a goal, a fraction of the predicted time.
        target: the fraction of the measured time to reach.
        timed: the measured time of a plan's network as a fraction of that of the whole network.
        within: how far from the target it may end, as a fraction of it.

    Returns:
        the plan that came closest, and its measured ratio.

    Raises:
        BudgetError: the first goal, the target itself, is out of reach.
    """
    goal, tried = target, [(0.0, 0.0)]  # (goal, measured); nothing takes no time
    best: tuple[PlanT, float] | None = None
    low, high = 0.0, 1.0
    for _ in range(TRIES):
        try:
            plan = at(goal)
        except BudgetError:
            if best is None:
                raise
            low = goal  # the widths end here
        else:
            ratio = timed(plan)
            if best is None or _distance(ratio, target, within) < _distance(best[1], target, within):
                best = plan, ratio
            if (1 - within) * target <= ratio <= target:
                break
            tried.append((goal, ratio))
            low, high = (max(low, goal), high) if ratio < target else (low, min(high, goal))
        (a, at_a), (b, at_b) = sorted(tried, key=lambda point: abs(point[1] - target))[:2]
        aim = (1 - within / 2) * target
        goal = a + (aim - at_a) * (b - a) / (at_b - at_a) if at_a != at_b else goal
        if not low < goal < high:
            goal = (low + high) / 2
    assert best is not None
    return best


def _distance(ratio: float, target: float, within: float) -> tuple[bool, bool, float]:
    """Smaller is better: within the tolerance, then from below, then near."""
    away = abs(ratio - target)
    return away > within * target, ratio > target, away
