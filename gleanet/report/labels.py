"""Where names go in a picture of points: beside their points, and on top of as little as possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gleanet.report.charts import Shape

LETTER = 7.2  # pixels, of a bold letter; the others are narrower
LINE = 17.0
GAP = 11.0  # from a point to its name
MARK = 9.0  # half a mark, with some air
COSTS = {"frame": 40.0, "name": 12.0, "mark": 6.0, "whisker": 0.8, "distance": 0.15}

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Spot:
    """A point in pixels from the lower left corner, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Label:
    """A name that begins (left) or ends (right) at ``x``; its middle is at ``y``."""

    x: float
    y: float
    align: Align
    width: float

    @property
    def left(self) -> float:
        return self.x if self.align == "left" else self.x - self.width


def place(spots: Sequence[Spot], texts: Sequence[str], others: Sequence[Spot], shape: Shape) -> list[Label]:
    """One place for each name, in the order given: of those around its point, the one that covers the least.

    Args:
        spots: the points that are named.
        others: every mark of the picture, those of ``spots`` among them.
    """
    placed: list[Label] = []
    for spot, text in zip(spots, texts, strict=True):
        options = _around(spot, LETTER * len(text))
        placed.append(min(options, key=lambda label: _cost(label, spot, placed, others, shape)))
    return placed


def _around(spot: Spot, width: float) -> list[Label]:
    aligns: tuple[tuple[Align, float], ...] = (("left", GAP), ("right", -GAP))
    beside = [
        Label(spot.x + gap, spot.y + rise, align, width)
        for rise in (0, LINE, -LINE, 2 * LINE, -2 * LINE, 3 * LINE)
        for align, gap in aligns
    ]
    ends = [
        Label(spot.x - 4 if align == "left" else spot.x + 4, y, align, width)
        for y in (spot.high + 10, spot.low - 10)
        for align, _ in aligns
    ]
    return beside + ends


def _cost(label: Label, own: Spot, placed: Sequence[Label], others: Sequence[Spot], shape: Shape) -> float:
    right, top, bottom = label.left + label.width, label.y + LINE / 2, label.y - LINE / 2
    outside = label.left < 0 or right > shape.width + 40 or bottom < 0 or top > shape.height + 10
    names = sum(label.left < one.left + one.width and one.left < right and abs(label.y - one.y) < LINE for one in placed)
    marks = sum(
        label.left < one.x + MARK and one.x - MARK < right and bottom < one.y + MARK and one.y - MARK < top for one in others if one != own
    )
    whiskers = sum(label.left < one.x < right and bottom < one.high and one.low < top for one in others)
    found = {"frame": outside, "name": names, "mark": marks, "whisker": whiskers, "distance": abs(label.y - own.y)}
    return sum(COSTS[name] * number for name, number in found.items())
