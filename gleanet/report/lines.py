"""A picture of several lines over one axis, told apart by colour and dash, with a key that is drawn beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from gleanet.report import charts
from gleanet.report.charts import ACCENT, INK, MUTED, Shape

_DASHES: tuple[list[float], ...] = ([1, 0], [6, 3], [1.5, 2.5], [8, 2, 1.5, 2])
STYLES: tuple[tuple[str, list[float]], ...] = tuple((colour, dash) for dash in _DASHES for colour in (ACCENT, INK, MUTED))


@dataclass(frozen=True)
class Line:
    """A name and its points (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Key:
    """What a line looks like, for the list beside the picture."""

    name: str
    colour: str
    dash: str


def keys(lines: Sequence[Line]) -> tuple[Key, ...]:
    """The key, in the order of the lines; after twelve the looks repeat."""
    looks = [STYLES[index % len(STYLES)] for index in range(len(lines))]
    return tuple(Key(line.name, colour, " ".join(map(str, dash))) for line, (colour, dash) in zip(lines, looks, strict=True))


def picture(lines: Sequence[Line], x_title: str, y_title: str, shape: Shape) -> str | None:
    """SVG with one line each; None where no line has two points."""
    layers: list[Any] = []
    for index, line in enumerate(lines):
        if len(line.points) < 2:
            continue
        colour, dash = STYLES[index % len(STYLES)]
        data = charts.inline_data([{"x": x, "y": y} for x, y in line.points])
        base = alt.Chart(data).encode(x=alt.X("x:Q", title=x_title), y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False)))
        layers.append(base.mark_line(color=colour, strokeDash=dash, strokeWidth=2))
    if not layers:
        return None
    return charts.as_svg(alt.layer(*layers), shape)
