"""Allocation: scores and a budget become widths. Pure arithmetic on numbers; no tensor of the network is touched.

Widths move in blocks, because a runtime computes channels in blocks: on x86 ONNX Runtime a layer of 33 channels takes 1.6 times
the time of one of 32 (measured; onnxruntime issues 6148 and 14392).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import BudgetError
from gleanet.prune.budget import CostModel

Allocation = Literal["uniform", "global"]
Widths = dict[str, int]
# Output channels per pass of the AVX-512 kernels of ONNX Runtime, float and 8-bit: 24 took the time of 32, 40 that of 48 (measured).
LANES = 16
TOLERANCE = 0.01  # DESIGN 5.1: the budget is met within 1 % of the whole, from below


@dataclass(frozen=True)
class Ladder:
    """The widths a group may take, descending from all its channels to its floor, each a multiple of ``block`` but for the first."""

    name: str
    widths: tuple[int, ...]
    block: int


@dataclass(frozen=True)
class Value:
    """What a group's channels are worth: ``worth[r]`` that of the channel at rank ``r``, ``price`` the MACs that one of them costs.

    ``lanes``: channels that the runtime computes at a time.
    """

    worth: NDArray[np.float64]
    price: int
    lanes: int

    def per_cost(self, narrow: int, wide: int) -> float:
        """Worth of the channels between two widths, for what removing them saves: a third of it MACs, two thirds time.

        A runtime computes whole lanes, so 56 channels take the time of 64, and the step to 48 saves the time of both.
        """
        channels = ((wide - narrow) + 2 * (self._computed(wide) - self._computed(narrow))) / 3
        return float(self.worth[narrow:wide].sum()) / (self.price * channels)

    def best_step(self, wide: int, widths: Sequence[int]) -> int:
        """The narrower width that loses least for what it saves: one step may be worth taking only together with the next."""
        return min(widths, key=lambda narrow: (self.per_cost(narrow, wide), narrow))

    def _computed(self, width: int) -> int:
        return min(-(-width // self.lanes) * self.lanes, len(self.worth))


def ladders(cost: CostModel, align: int, floor: float) -> dict[str, Ladder]:
    """The allowed widths of each group.

    Args:
        cost: the cost model of the network.
        align: layers' widths are multiples of this; a group of fewer than four such blocks takes the largest of align/2, ..., 2, 1
            that leaves it four, since a choice between all and half of a layer is too coarse (ResNet-20 at half the MACs, one-shot:
            80.7 instead of 79.8 %, at the same 8-bit latency). Where a channel of the group is several positions of a layer, they
            count towards the block.
        floor: the least fraction of a group that stays; never less than one block.
    """
    result = {}
    for name, count in cost.channels.items():
        block = align // int(np.gcd(align, cost.multiples[name]))
        while block > 1 and count < 4 * block:
            block //= 2
        least = block * max(1, ceil(ceil(count * floor) / block))
        widths = [w for w in range(block, count, block) if w >= least]
        result[name] = Ladder(name, (count, *reversed(widths)), block)
    return result


def allocate(
    cost: CostModel,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    target: float,
    kind: Allocation,
    align: int,
    floor: float,
    comparable: bool,
) -> Widths:
    """Choose how many channels each group keeps.

    All widths are aligned, but where that leaves more than 1 % of the MACs unused: then single groups are widened in smaller blocks,
    as few of them as it takes. A network so small that one channel of any group is more than 1 % of it may end further below.

    Args:
        cost: the cost model of the network.
        scores: importance [C] of each group's channels.
        target: MACs to keep, as a fraction of the whole network's.
        kind: "uniform" keeps one ratio everywhere; "global" removes what scores least for what it saves, wherever it is.
        align: see :func:`ladders`.
        floor: see :func:`ladders`.
        comparable: the scores of different groups are in one unit; otherwise "global" divides each group's by their mean.

    Raises:
        BudgetError: even the narrowest widths cost more; says how far it could go.
    """
    goal = target * cost.macs_before
    steps = ladders(cost, align, floor)
    least = cost.macs({name: ladder.widths[-1] for name, ladder in steps.items()})
    if least > goal:
        raise BudgetError(
            f"{target:.3g} of the MACs cannot be reached: with a floor of {floor:.0%} and widths in blocks of {align} the least is "
            f"{ceil(1000 * least / cost.macs_before) / 1000:.3f}; ask for more MACs, a lower floor or align=1"
        )
    lanes = LANES if align > 1 else 1
    values = {
        name: Value(_sorted_worth(s, comparable), max(1, cost.saved_by_one(name)), lanes // int(np.gcd(lanes, cost.multiples[name])))
        for name, s in scores.items()
    }
    widths = _uniform(cost, steps, goal) if kind == "uniform" else _global(cost, steps, values, goal)
    widths = _fill(cost, steps, widths, values, goal)
    block = align
    while cost.macs(widths) < goal - TOLERANCE * cost.macs_before and block > 1:
        block //= 2
        widths = _top_up(cost, ladders(cost, block, floor), widths, goal)
    if cost.macs(widths) < goal - TOLERANCE * cost.macs_before:
        widths = _exchange(cost, ladders(cost, 1, floor), widths, goal)
    return widths


def _sorted_worth(scores: NDArray[np.float64], comparable: bool) -> NDArray[np.float64]:
    """Scores from the most to the least important; ``worth[w]`` is what the channel at rank ``w`` is worth."""
    ordered = np.sort(scores)[::-1]
    mean = float(np.mean(np.abs(ordered)))
    return ordered if comparable or mean == 0 else ordered / mean


def _uniform(cost: CostModel, steps: Mapping[str, Ladder], goal: float) -> Widths:
    """The largest common ratio that fits, by bisection; each width is rounded to its ladder."""

    def at(ratio: float) -> Widths:
        return {name: min(ladder.widths, key=lambda w: (abs(w - ratio * cost.channels[name]), w)) for name, ladder in steps.items()}

    low, high = 0.0, 1.0
    if cost.macs(at(high)) <= goal:
        return at(high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost.macs(at(middle)) <= goal else (low, middle)
    return at(low)


def _global(cost: CostModel, steps: Mapping[str, Ladder], values: Mapping[str, Value], goal: float) -> Widths:
    """Walk down all ladders in the order of worth lost for what is saved; bisect for the shortest walk that fits the budget."""
    moves: list[tuple[float, str, int]] = []
    for name, ladder in steps.items():
        wide, left = ladder.widths[0], ladder.widths[1:]
        while left:  # the convex hull of the ladder: its steps grow dearer on the way down
            narrow = values[name].best_step(wide, left)
            moves.append((values[name].per_cost(narrow, wide), name, narrow))
            wide, left = narrow, tuple(w for w in left if w < narrow)
    moves.sort(key=lambda move: move[0])  # stable: within a group the order of the ladder stays

    def after(count: int) -> Widths:
        widths = {name: ladder.widths[0] for name, ladder in steps.items()}
        widths.update({name: narrow for _, name, narrow in moves[:count]})
        return widths

    low, high = 0, len(moves)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost.macs(after(middle)) <= goal else (middle + 1, high)
    return after(low)


def _fill(cost: CostModel, steps: Mapping[str, Ladder], widths: Widths, values: Mapping[str, Value], goal: float) -> Widths:
    """Give back blocks while they fit, those worth most for their cost first."""
    open_ = set(steps)
    while True:
        offers = []
        for name in sorted(open_):
            wider = _next_wider(steps[name], widths[name])
            if wider is not None:
                offers.append((values[name].per_cost(widths[name], wider), name, wider))
        for _, name, wider in sorted(offers, key=lambda offer: -offer[0]):
            if cost.macs({**widths, name: wider}) <= goal:
                widths = {**widths, name: wider}
                break
            open_.remove(name)  # nothing gets cheaper while others grow
        else:
            return widths


def _next_wider(ladder: Ladder, width: int) -> int | None:
    at = int(np.searchsorted([-w for w in ladder.widths], -width))  # position of the first width that is not wider
    return ladder.widths[at - 1] if at > 0 else None


def _top_up(cost: CostModel, steps: Mapping[str, Ladder], widths: Widths, goal: float) -> Widths:
    """Widen single groups, each time the one that comes closest to the goal, until the goal is met within the tolerance."""
    while cost.macs(widths) < goal - TOLERANCE * cost.macs_before:
        best = (cost.macs(widths), widths)
        for name, ladder in steps.items():
            wider = _widest_that_fits(cost, ladder, widths, goal)
            trial = {**widths, name: wider}
            if wider > widths[name] and cost.macs(trial) > best[0]:
                best = (cost.macs(trial), trial)
        if best[1] is widths:
            break
        widths = best[1]
    return widths


def _widest_that_fits(cost: CostModel, ladder: Ladder, widths: Widths, goal: float) -> int:
    low, high = 0, len(ladder.widths)
    while low < high:  # MACs fall along the ladder: find the first width that fits
        middle = (low + high) // 2
        low, high = (low, middle) if cost.macs({**widths, ladder.name: ladder.widths[middle]}) <= goal else (middle + 1, high)
    return ladder.widths[low] if low < len(ladder.widths) else 0


def _exchange(cost: CostModel, steps: Mapping[str, Ladder], widths: Widths, goal: float) -> Widths:
    """Where no group can be widened: widen one and narrow another, each time the pair that comes closest to the goal, while one helps.

    Needed where one channel is more than the tolerance: a residual width, a very small network.
    """
    while cost.macs(widths) < goal - TOLERANCE * cost.macs_before:
        best = (cost.macs(widths), widths)
        for name, ladder in steps.items():
            wider = _next_wider(ladder, widths[name])
            for other in steps.values():
                trial = {**widths, name: wider or 0}
                narrower = 0 if wider is None or other is ladder else _widest_that_fits(cost, other, trial, goal)
                trial = {**trial, other.name: narrower}
                if narrower and cost.macs(trial) > best[0]:
                    best = (cost.macs(trial), trial)
        if best[1] is widths:
            break
        widths = best[1]
    return widths
