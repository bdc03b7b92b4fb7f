"""Allocation: scores and a budget become widths. Pure arithmetic on numbers; no tensor of the network is touched.

Widths move in blocks, because a runtime computes channels in blocks: on x86 ONNX Runtime a layer of 33 channels takes 1.6 times
the time of one of 32 (measured; onnxruntime issues 6148 and 14392).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import BudgetError
from gleanet.prune.budget import CostModel

Allocation = Literal["uniform", "global"]
TOLERANCE = 0.01  # DESIGN 5.1: the budget is met within 1 % of the whole, from below


@dataclass(frozen=True)
class Ladder:
    """The widths a group may take, descending from all its channels to its floor, each a multiple of ``block`` but for the first."""

    name: str
    widths: tuple[int, ...]
    block: int


def ladders(channels: Mapping[str, int], align: int, floor: float) -> dict[str, Ladder]:
    """The allowed widths of each group.

    Args:
        channels: channels of each group.
        align: widths are multiples of this; a group of fewer than two such blocks takes the largest of 4, 2, 1 that divides it twice.
        floor: the least fraction of a group that stays; never less than one block.
    """
    result = {}
    for name, count in channels.items():
        block = align
        while block > 1 and count < 2 * block:
            block //= 2
        least = max(1, -(-int(np.ceil(count * floor)) // block)) * block
        widths = [w for w in range(block, count, block) if w >= min(least, count)]
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
) -> dict[str, int]:
    """Choose how many channels each group keeps.

    Args:
        cost: the cost model of the network.
        scores: importance [C] of each group's channels.
        target: MACs to keep, as a fraction of the whole network's.
        kind: "uniform" keeps one ratio everywhere; "global" removes what scores least per MAC saved, wherever it is.
        align: see :func:`ladders`.
        floor: see :func:`ladders`.
        comparable: the scores of different groups are in one unit; otherwise "global" divides each group's by their mean.

    Raises:
        BudgetError: even the narrowest widths cost more; says how far it could go.
    """
    goal = target * cost.macs_before
    steps = ladders(cost.channels, align, floor)
    least = {name: ladder.widths[-1] for name, ladder in steps.items()}
    if cost.macs(least) > goal:
        raise BudgetError(
            f"{target:.3g} of the MACs cannot be reached: with a floor of {floor:.0%} and widths in blocks of {align} the least is "
            f"{cost.macs(least) / cost.macs_before:.3f}; ask for more MACs, a lower floor or align=1"
        )
    worth = {name: _sorted_worth(s, comparable) for name, s in scores.items()}
    price = {name: cost.saved_by_one(name) for name in cost.channels}
    widths = _uniform(cost, steps, goal) if kind == "uniform" else _global(cost, steps, worth, price, goal)
    block = align
    while True:  # fill what rounding left over, in ever smaller blocks, until the budget is met within its tolerance
        widths = _fill(cost, ladders(cost.channels, block, floor), widths, worth, price, goal)
        if cost.macs(widths) >= goal - TOLERANCE * cost.macs_before or block == 1:
            return widths
        block //= 2


def _sorted_worth(scores: NDArray[np.float64], comparable: bool) -> NDArray[np.float64]:
    """Scores from the most to the least important; ``worth[w]`` is what the channel at rank ``w`` is worth."""
    ordered = np.sort(scores)[::-1]
    mean = float(np.mean(np.abs(ordered)))
    return ordered if comparable or mean == 0 else ordered / mean


def _uniform(cost: CostModel, steps: Mapping[str, Ladder], goal: float) -> dict[str, int]:
    """The largest common ratio that fits, by bisection; each width is rounded to its ladder."""

    def at(ratio: float) -> dict[str, int]:
        return {name: min(ladder.widths, key=lambda w: (abs(w - ratio * cost.channels[name]), w)) for name, ladder in steps.items()}

    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost.macs(at(middle)) <= goal else (low, middle)
    return at(low)


def _global(
    cost: CostModel, steps: Mapping[str, Ladder], worth: Mapping[str, NDArray[np.float64]], price: Mapping[str, float], goal: float
) -> dict[str, int]:
    """Walk down all ladders in the order of worth lost per MAC saved; bisect for the shortest walk that fits the budget."""
    moves: list[tuple[float, str, int]] = []
    for name, ladder in steps.items():
        steepest = -np.inf  # a step never comes before the one above it: keep the running maximum
        for wide, narrow in zip(ladder.widths, ladder.widths[1:], strict=False):
            loss = float(worth[name][narrow:wide].sum()) / ((wide - narrow) * price[name])
            steepest = max(steepest, loss)
            moves.append((steepest, name, narrow))
    moves.sort(key=lambda move: move[0])  # stable: within a group the order of the ladder stays

    def after(count: int) -> dict[str, int]:
        widths = {name: ladder.widths[0] for name, ladder in steps.items()}
        widths.update({name: narrow for _, name, narrow in moves[:count]})
        return widths

    low, high = 0, len(moves)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost.macs(after(middle)) <= goal else (middle + 1, high)
    return after(low)


def _fill(
    cost: CostModel,
    steps: Mapping[str, Ladder],
    widths: dict[str, int],
    worth: Mapping[str, NDArray[np.float64]],
    price: Mapping[str, float],
    goal: float,
) -> dict[str, int]:
    """Give back blocks while they fit, those worth most per MAC first."""
    widths = dict(widths)
    blocked: set[str] = set()
    while True:
        slack = goal - cost.macs(widths)
        best: tuple[float, str, int] | None = None
        for name, ladder in steps.items():
            wider = [w for w in ladder.widths if w > widths[name]]
            if name in blocked or not wider or (min(wider) - widths[name]) * price[name] > 4 * slack:
                continue
            gain = float(worth[name][widths[name] : min(wider)].sum()) / ((min(wider) - widths[name]) * price[name])
            if best is None or gain > best[0]:
                best = (gain, name, min(wider))
        if best is None:
            return widths
        trial = {**widths, best[1]: best[2]}
        if cost.macs(trial) <= goal:
            widths = trial
        else:
            blocked.add(best[1])
