"""Pictures of a run as SVG for inlining in the page, drawn by Altair.

Colours are placeholders (``INK``, ``ACCENT``, ...) that the page's style sheet maps to its own variables, so one picture reads in light, in
dark and on paper. Each picture comes in two widths, because text in a picture that is scaled down to a phone cannot be read.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any, Literal

import altair as alt

from gleanet.core.records import Accuracy, Curve, LayerSensitivity, LayerWidth, Row
from gleanet.report import units
from gleanet.report.curves import WidthCurve

INK, MUTED, GRID, ACCENT, FAINT, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
LINES = ((ACCENT, [1, 0]), (INK, [5, 3]), (MUTED, [1.5, 2.5]))  # colour and dash, so that colour is never the only difference
MAX_POINTS = 240
MAX_BARS = 24

# the colours of page.css, for pictures that leave the page
LIGHT = {"ink": "#1f2421", "muted": "#626a65", "grid": "#e7e4dc", "accent": "#0a6b50", "faint": "#eeece5", "paper": "#fbfaf7"}
DARK = {"ink": "#e7e8e3", "muted": "#a0a8a2", "grid": "#2a302d", "accent": "#62cfa6", "faint": "#262c29", "paper": "#151816"}

Encoding = dict[str, Any]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Shape:
    """Room for one picture: width and height of the plot in CSS pixels."""

    width: int
    height: int


WIDE = Shape(470, 330)
NARROW = Shape(270, 270)


@dataclass(frozen=True)
class _Point:
    """One candidate in the picture of accuracy against latency; percent and milliseconds."""

    name: str
    kind: str
    ms: float
    value: float
    low: float
    high: float


def tradeoff(rows: Sequence[Row], shape: Shape, *, chosen: Row | None = None) -> str | None:
    """Accuracy on the test images with its 95 % interval against the median latency of one image, for every row.

    Quantization trials are not drawn here: their accuracies are on the images that the choice was made on, not on the test images.

    Args:
        chosen: the row to ring.

    Returns:
        SVG, or None where fewer than two rows have both figures.
    """
    points = [_point(row.label, "chosen" if row is chosen else "row", row.measured.accuracy, row.measured.latencies) for row in rows]
    found = [point for point in points if point is not None]
    if len(found) < 2:
        return None
    low, high = min(p.low for p in found), max(p.high for p in found)
    pad = max(0.6, (high - low) * 0.08)
    domain_y = (max(0.0, low - pad), min(100.0, high + pad))
    domain_x = (0.0, 1.06 * max(p.ms for p in found))
    x = alt.X("ms:Q", title="Median latency of one image, ms", scale=alt.Scale(domain=domain_x, nice=False))
    y = alt.Y("value:Q", title="Accuracy, %", scale=alt.Scale(domain=domain_y, nice=False, zero=False))
    layers: list[Any] = []
    for kind, mark in _MARKS.items():
        data = inline_data([asdict(p) for p in found if p.kind == kind])
        base = alt.Chart(data)
        colour = ACCENT if kind == "chosen" else INK
        layers.append(base.mark_rule(color=colour, strokeWidth=1.2, opacity=0.9).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"))
        layers.append(base.mark_point(**mark).encode(x=x, y=y))
    layers += _labels(found, domain_x, domain_y, shape)
    return as_svg(alt.layer(*layers), shape)


def widths(layers: Sequence[LayerWidth], shape: Shape) -> str | None:
    """Channels of each prunable layer: the bar is what is left, the outline what there was. None without layers."""
    if not layers:
        return None
    widest = max(layer.before for layer in layers)
    full = shape.width > NARROW.width
    values = [
        {
            "layer": layer.layer,
            "before": layer.before,
            "after": layer.after,
            "text": f"{layer.after} of {layer.before}" + (f" · MACs {units.percent(layer.macs_after / layer.macs_before)}" if full else ""),
        }
        for layer in layers
    ]
    base = alt.Chart(inline_data(values)).encode(y=alt.Y("layer:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)))
    room = 1.0 + (0.62 if full else 0.42)  # to the right of the longest bar, for its text
    x = alt.X("before:Q", title="Channels", scale=alt.Scale(domain=(0, widest * room), nice=False), axis=alt.Axis(values=_ticks(widest)))
    before = base.mark_bar(color=FAINT, stroke=MUTED, strokeWidth=1, height=13).encode(x=x)
    after = base.mark_bar(color=ACCENT, height=13).encode(x=alt.X("after:Q"))
    text = base.mark_text(align="left", dx=7, color=INK).encode(x=x, text="text:N")
    return as_svg(alt.layer(before, after, text), Shape(shape.width, 24 * len(layers)))


def sensitivity(layers: Sequence[LayerSensitivity], shape: Shape) -> str | None:
    """SQNR of the logits with one layer alone quantized, the most sensitive layers first, at most ``MAX_BARS``. None without layers."""
    if not layers:
        return None
    values = [{"layer": one.layer, "db": max(one.alone_db, 0.0), "text": f"{one.alone_db:.1f} dB"} for one in layers[:MAX_BARS]]
    top = max(max(one.alone_db for one in layers[:MAX_BARS]), 1.0)
    base = alt.Chart(inline_data(values)).encode(y=alt.Y("layer:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)))
    x = alt.X("db:Q", title="SQNR of the logits, dB", scale=alt.Scale(domain=(0, 1.25 * top), nice=False))
    bar = base.mark_bar(color=ACCENT, height=13).encode(x=x)
    text = base.mark_text(align="left", dx=7, color=INK).encode(x=x, text="text:N")
    return as_svg(alt.layer(bar, text), Shape(shape.width, 24 * len(values)))


def learning(curves: Sequence[Curve], what: str, shape: Shape) -> str | None:
    """``loss`` or ``accuracy`` (in percent) over the epochs, one line per training, styled by ``LINES`` in turn. None without values."""
    layers: list[Any] = []
    for index, curve in enumerate(curves):
        scale = 100 if what == "accuracy" else 1
        values = [{"epoch": p.epoch, "value": scale * v} for p in curve.points if (v := getattr(p, what)) is not None]
        if len(values) < 2:
            continue
        colour, dash = LINES[index % len(LINES)]
        x = alt.X("epoch:Q", title="Epoch")
        y = alt.Y("value:Q", title="Test accuracy, %" if what == "accuracy" else "Training loss", scale=alt.Scale(zero=False))
        line = alt.Chart(inline_data(_thinned(values))).encode(x=x, y=y)
        layers.append(line.mark_line(color=colour, strokeDash=dash, strokeWidth=2))
        if len(values) <= 12:
            layers.append(line.mark_point(color=colour, fill=colour, size=36))
    if not layers:
        return None
    return as_svg(alt.layer(*layers), Shape(shape.width, round(shape.height * 0.7)))


def width_times(curves: Sequence[WidthCurve], shape: Shape) -> str | None:
    """A panel for each kind of layer: microseconds over its channels; hollow marks are widths beside the blocks. None without curves."""
    if not curves:
        return None
    full = shape.width > NARROW.width
    panels = []
    for curve in curves:
        top = max(ms for _, ms in (*curve.points, *curve.odd))
        whole = curve.points[-1][0]
        axis = alt.Axis(values=_ticks(whole), titleLimit=240)
        scale = alt.Scale(domain=(0, whole), nice=False)
        x = alt.X("channels:Q", title=f"{curve.side.capitalize()} of {curve.name}", scale=scale, axis=axis)
        y = alt.Y("us:Q", title="µs", scale=alt.Scale(domain=(0, 1.1e3 * top), nice=False), axis=alt.Axis(tickCount=4))
        aligned, odd = (
            alt.Chart(inline_data([{"channels": width, "us": 1e3 * ms} for width, ms in points])).encode(x=x, y=y)
            for points in (curve.points, curve.odd)
        )
        layers = [aligned.mark_line(color=ACCENT, strokeWidth=2), aligned.mark_point(color=ACCENT, fill=ACCENT, size=36, opacity=1)]
        if curve.odd:
            layers.append(odd.mark_point(color=INK, fill=PAPER, size=44, opacity=1, strokeWidth=1.5))
        title = alt.Title(curve.what, fontSize=12, fontWeight="normal", color=INK, anchor="start", limit=260)
        panels.append(alt.layer(*layers).properties(width=240 if full else shape.width, height=130, title=title))
    return _rendered(alt.concat(*panels, columns=3 if full else 1))


_MARKS: dict[str, dict[str, Any]] = {
    "row": {"shape": "circle", "size": 80, "stroke": INK, "fill": INK, "opacity": 1},
    "chosen": {"shape": "diamond", "size": 190, "stroke": ACCENT, "fill": ACCENT, "opacity": 1},
}


def _point(name: str, kind: str, accuracy: Accuracy | None, latencies: Sequence[Any]) -> _Point | None:
    if accuracy is None or not latencies:
        return None
    first = min(latencies, key=lambda latency: latency.batch)
    return _Point(name, kind, first.p50_ms, 100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high)


def _labels(points: Sequence[_Point], domain_x: tuple[float, float], domain_y: tuple[float, float], shape: Shape) -> list[Any]:
    """Names beside their points, on the side with more room, moved apart vertically where they would touch."""
    # the chosen one sits among the methods it beat: its name goes above its interval, at the side of the picture that has room for it
    best: list[Encoding] = [{"ms": p.ms, "y": p.high, "name": p.name} for p in points if p.kind == "chosen"]
    side_of_best: Side = "right" if any(p["ms"] > 0.7 * domain_x[1] for p in best) else "left"
    above = alt.Chart(inline_data(best)).mark_text(
        align=side_of_best, dx=-8 if side_of_best == "left" else 8, dy=-12, color=ACCENT, fontWeight="bold"
    )
    layers: list[Any] = [above.encode(x="ms:Q", y="y:Q", text="name:N")]
    points = [p for p in points if p.kind != "chosen"]
    line = 16 * (domain_y[1] - domain_y[0]) / shape.height
    sides: tuple[tuple[Side, int], ...] = (("left", 11), ("right", -11))
    for align, dx in sides:
        side = sorted((p for p in points if (p.ms > 0.7 * domain_x[1]) == (align == "right")), key=lambda p: p.value)
        values: list[Encoding] = []
        for p in side:
            y = max(p.value, values[-1]["y"] + line) if values else p.value
            values.append({"ms": p.ms, "y": y, "name": _shortened(p.name, shape)})
        mark = alt.Chart(inline_data(values)).mark_text(align=align, dx=dx, color=INK)
        layers.append(mark.encode(x="ms:Q", y="y:Q", text="name:N"))
    return layers


def _shortened(name: str, shape: Shape) -> str:
    room = shape.width // 13  # letters that fit beside a point, on the side with more room
    return name if len(name) <= room else name[: room - 1] + "…"


def inline_data(values: list[Encoding]) -> Any:
    """Inline data; Altair's own constructor is untyped."""
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _ticks(widest: int) -> list[int]:
    step = max(1, 2 ** max(0, (widest // 4).bit_length() - 1))
    return list(range(0, widest + 1, step))


def _thinned(values: Sequence[Encoding]) -> list[Encoding]:
    """At most ``MAX_POINTS`` points: each the mean of its neighbours, so that a noisy loss stays honest about its level."""
    if len(values) <= MAX_POINTS:
        return list(values)
    size = -(-len(values) // MAX_POINTS)
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    return [{key: sum(value[key] for value in group) / len(group) for key in ("epoch", "value")} for group in groups]


def as_svg(chart: Any, shape: Shape) -> str:
    return _rendered(chart.properties(width=shape.width, height=shape.height))


def _rendered(chart: Any) -> str:
    """Render and strip: no namespaces, no roles (the figure speaks for the picture)."""
    font = "system-ui, sans-serif"  # the browser's differs from the one measured here: the padding at the sides is for its wider letters
    axis = {
        "labelColor": MUTED,
        "titleColor": INK,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelPadding": 5,
        "tickCount": 6,
        "labelLimit": 160,
        "labelFlush": False,
    }
    finished = (
        chart.properties(padding={"left": 14, "right": 10, "top": 4, "bottom": 4})
        .configure(font=font, aria=False, background="transparent")
        .configure_axis(**axis)
        .configure_view(stroke=None)
        .configure_text(fontSize=12.5)
    )
    out = StringIO()
    finished.save(out, format="svg")
    svg = out.getvalue()
    svg = re.sub(r'\s(?:xmlns(?::xlink)?|version|role|aria-[a-z]+|class)="[^"]*"', "", svg)
    # coordinates only: a label of an axis starts its element
    return re.sub(r"(?<![>\d])\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)


def standalone(svg: str) -> str:
    """A picture as a file of its own: with its namespace, and the colours of the page's style sheet, light and dark."""
    names = {"ink": INK, "muted": MUTED, "grid": GRID, "accent": ACCENT, "faint": FAINT, "paper": PAPER}
    rules = "".join(f'[{kind}="{colour}"]{{{kind}:{LIGHT[name]}}}' for name, colour in names.items() for kind in ("fill", "stroke"))
    dark = "".join(f'[{kind}="{colour}"]{{{kind}:{DARK[name]}}}' for name, colour in names.items() for kind in ("fill", "stroke"))
    style = f"<style>{rules}@media (prefers-color-scheme:dark){{{dark}}}</style>"
    return re.sub(r"<svg([^>]*)>", lambda tag: f'<svg xmlns="http://www.w3.org/2000/svg"{tag[1]}>{style}', svg, count=1)
