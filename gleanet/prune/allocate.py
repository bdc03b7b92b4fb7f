"""Allocation: scores and a budget become widths. Pure arithmetic on numbers; no tensor of the network is touched.

Widths move in blocks, because a runtime computes channels in blocks: on x86 ONNX Runtime a layer of 33 channels takes 1.6 times
the time of one of 32 (measured; onnxruntime issues 6148 and 14392).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import BudgetError
from gleanet.core.records import LatencyTable
from gleanet.core.settings import Allocation as Allocation
from gleanet.core.settings import Bound
from gleanet.prune.budget import CostModel
from gleanet.prune.groups import Grouping
from gleanet.prune.latency import widths_to_measure
from gleanet.prune.quantity import TOLERANCE, Quantity, quantity

Widths = dict[str, int]


@dataclass(frozen=True)
class Ladder:
    """The widths a group may take, descending from all its channels to its floor, each a multiple of ``block`` but for the first."""

    name: str
    widths: tuple[int, ...]
    block: int


@dataclass(frozen=True)
class Value:
    """What a group's channels are worth: ``worth[r]`` that of the channel at rank ``r``, ``price`` what the group costs at a width."""

    worth: NDArray[np.float64]
    price: Callable[[int], float]

    def per_cost(self, narrow: int, wide: int) -> float:
        """Worth of the channels between two widths for what removing them saves; infinite where it saves nothing."""
        saved = self.price(wide) - self.price(narrow)
        return float(self.worth[narrow:wide].sum()) / saved if saved > 0 else float("inf")

    def best_step(self, wide: int, widths: Sequence[int]) -> int:
        """The narrower width that loses least for what it saves: one step may be worth taking only together with the next."""
        return min(widths, key=lambda narrow: (self.per_cost(narrow, wide), narrow))


def ladders(cost: CostModel, align: int, floor: float) -> dict[str, Ladder]:
    """The allowed widths of each group.

    Args:
        cost: the cost model of the network.
        align: layers' widths are multiples of this; a group of fewer than four such blocks takes the largest of align/2, ..., 2, 1
            that leaves it four, since a choice between all and half of a layer is too coarse. Where a channel of the group is several
            positions of a layer, they count towards the block.
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


def measured_widths(grouping: Grouping, *, align: int, floor: float) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """(output widths, input widths) of each layer, by path, ascending: what a table of times has to hold for these groups."""
    cost = CostModel(grouping)
    steps, finer = ({name: ladder.widths for name, ladder in ladders(cost, block, floor).items()} for block in (align, max(1, align // 2)))
    return widths_to_measure(cost, steps, {name: (*steps[name], *finer[name]) for name in steps})


def least_part(grouping: Grouping, *, bound: Bound, align: int, floor: float, table: LatencyTable | None = None) -> float:
    """The least fraction of a bounded amount that can be reached with these groups."""
    cost = CostModel(grouping)
    amount = quantity(cost, bound, table=table)
    return _least(amount, _offered(amount, ladders(cost, align, floor)))


def allocate(
    cost: CostModel,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    target: float,
    kind: Allocation,
    align: int,
    floor: float,
    comparable: bool,
    bound: Bound = "flops",
    table: LatencyTable | None = None,
) -> Widths:
    """Choose how many channels each group keeps.

    All widths are aligned, but where that leaves more than 1 % of the budget unused: then single groups are widened in smaller blocks,
    as few of them as it takes. A network so small that one channel of any group is more than 1 % of it may end further below.

    Args:
        cost: the cost model of the network.
        scores: importance [C] of each group's channels.
        target: what to keep, as a fraction of the whole network's.
        kind: "uniform" keeps one ratio everywhere; "global" removes what scores least for what it saves of the bounded amount, wherever
            it is; "latency" what scores least for the time that it saves, whatever is bounded.
        align: see :func:`ladders`.
        floor: see :func:`ladders`.
        comparable: the scores of different groups are in one unit; otherwise ranking divides each group's by their mean.
        bound: the amount that the target bounds. A latency is made of measured widths alone.
        table: what each width takes; needed where a latency is bounded or ranked by.

    Raises:
        BudgetError: even the narrowest widths cost more; says how far it could go.
        SettingsError: see :func:`gleanet.prune.quantity.quantity`.
    """
    amount = quantity(cost, bound, table=table)
    ranked = quantity(cost, "latency", table=table) if kind == "latency" else amount
    goal, enough = target * amount.whole, (target - TOLERANCE) * amount.whole
    steps = _offered(amount, ladders(cost, align, floor))
    least = _least(amount, steps)
    if least > target:
        reach = ceil(1000 * least) / 1000
        raise BudgetError(
            f"{target:.3g} of the {amount.noun} cannot be reached: with a floor of {floor:.0%} and widths in blocks of {align} the least "
            f"is {reach:.3f}{amount.shown(reach * amount.whole)}; ask for more {amount.noun}, a lower floor, align=1 or residual=True"
        )
    values = {name: Value(_sorted_worth(s, comparable), partial(ranked.price, name)) for name, s in scores.items()}
    widths = _uniform(cost, amount, steps, goal) if kind == "uniform" else _global(amount, steps, values, goal)
    widths = _fill(amount, steps, widths, values, goal)
    block = align
    while amount.of(widths) < enough and block > 1:
        block //= 2
        widths = _top_up(amount, _offered(amount, ladders(cost, block, floor)), widths, goal, enough)
    if amount.of(widths) < enough:
        widths = _exchange(amount, _offered(amount, ladders(cost, 1, floor)), widths, goal, enough)
    return widths


def _least(amount: Quantity, steps: Mapping[str, Ladder]) -> float:
    return amount.of({name: ladder.widths[-1] for name, ladder in steps.items()}) / amount.whole


def _offered(amount: Quantity, steps: Mapping[str, Ladder]) -> dict[str, Ladder]:
    """Without the widths whose amount is not known, and those that save nothing against a wider one: a time is a staircase."""
    return {name: replace(ladder, widths=tuple(_downward(amount, ladder))) if amount.noise else ladder for name, ladder in steps.items()}


def _downward(amount: Quantity, ladder: Ladder) -> Iterator[int]:
    known = [w for w in ladder.widths[1:] if amount.known(ladder.name, w)]
    prices = [amount.price(ladder.name, width) for width in (ladder.widths[0], *known)]
    yield ladder.widths[0]
    dearest, noise = prices[0], amount.noise * (prices[0] - min(prices))
    for width, price in zip(known, prices[1:], strict=True):
        if price < dearest - noise:
            dearest = price
            yield width


def _sorted_worth(scores: NDArray[np.float64], comparable: bool) -> NDArray[np.float64]:
    """Scores from the most to the least important; ``worth[w]`` is what the channel at rank ``w`` is worth."""
    ordered = np.sort(scores)[::-1]
    mean = float(np.mean(np.abs(ordered)))
    return ordered if comparable or mean == 0 else ordered / mean


def _uniform(cost: CostModel, amount: Quantity, steps: Mapping[str, Ladder], goal: float) -> Widths:
    """The largest common ratio that fits, by bisection; each width is rounded to its ladder."""

    def at(ratio: float) -> Widths:
        return {name: min(ladder.widths, key=lambda w: (abs(w - ratio * cost.channels[name]), w)) for name, ladder in steps.items()}

    low, high = 0.0, 1.0
    if amount.of(at(high)) <= goal:
        return at(high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if amount.of(at(middle)) <= goal else (low, middle)
    return at(low)


def _global(amount: Quantity, steps: Mapping[str, Ladder], values: Mapping[str, Value], goal: float) -> Widths:
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
        low, high = (low, middle) if amount.of(after(middle)) <= goal else (middle + 1, high)
    return after(low)


def _fill(amount: Quantity, steps: Mapping[str, Ladder], widths: Widths, values: Mapping[str, Value], goal: float) -> Widths:
    """Give back blocks while they fit, those worth most for their cost first."""
    open_ = set(steps)
    while True:
        offers = []
        for name in sorted(open_):
            wider = _next_wider(steps[name], widths[name])
            if wider is not None:
                offers.append((values[name].per_cost(widths[name], wider), name, wider))
        for _, name, wider in sorted(offers, key=lambda offer: -offer[0]):
            if amount.of({**widths, name: wider}) <= goal:
                widths = {**widths, name: wider}
                break
            open_.remove(name)  # nothing gets cheaper while others grow
        else:
            return widths


def _next_wider(ladder: Ladder, width: int) -> int | None:
    at = int(np.searchsorted([-w for w in ladder.widths], -width))  # position of the first width that is not wider
    return ladder.widths[at - 1] if at > 0 else None


def _top_up(amount: Quantity, steps: Mapping[str, Ladder], widths: Widths, goal: float, enough: float) -> Widths:
    """Widen single groups, each time the one that comes closest to the goal, until that is enough."""
    while amount.of(widths) < enough:
        best = (amount.of(widths), widths)
        for name, ladder in steps.items():
            wider = _widest_that_fits(amount, ladder, widths, goal)
            trial = {**widths, name: wider}
            if wider > widths[name] and amount.of(trial) > best[0]:
                best = (amount.of(trial), trial)
        if best[1] is widths:
            break
        widths = best[1]
    return widths


def _widest_that_fits(amount: Quantity, ladder: Ladder, widths: Widths, goal: float) -> int:
    low, high = 0, len(ladder.widths)
    while low < high:  # amounts fall along the ladder: find the first width that fits
        middle = (low + high) // 2
        low, high = (low, middle) if amount.of({**widths, ladder.name: ladder.widths[middle]}) <= goal else (middle + 1, high)
    return ladder.widths[low] if low < len(ladder.widths) else 0


def _exchange(amount: Quantity, steps: Mapping[str, Ladder], widths: Widths, goal: float, enough: float) -> Widths:
    """Where no group can be widened: widen one and narrow another, each time the pair that comes closest to the goal, while one helps.

    Needed where one channel is more than the tolerance: a residual width, a very small network.
    """
    while amount.of(widths) < enough:
        best = (amount.of(widths), widths)
        for name, ladder in steps.items():
            wider = _next_wider(ladder, widths[name])
            for other in steps.values():
                trial = {**widths, name: wider or 0}
                narrower = 0 if wider is None or other is ladder else _widest_that_fits(amount, other, trial, goal)
                trial = {**trial, other.name: narrower}
                if narrower and amount.of(trial) > best[0]:
                    best = (amount.of(trial), trial)
        if best[1] is widths:
            break
        widths = best[1]
    return widths
