"""Pictures of a run as SVG for inlining in the page, drawn by Altair.

A mark that says more when it is pointed at carries a ``<title>`` (class ``tip``), which page.js shows, and every browser without it.
Colours are placeholders (``INK``, ``ACCENT``, ...) that the page's style sheet maps to its own variables, so one picture reads in light, in
dark and on paper. Each picture comes in two widths, because text in a picture that is scaled down to a phone cannot be read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import altair as alt

from gleanet.core.records import Curve, LayerSensitivity, LayerWidth, TensorRange
from gleanet.report import units
from gleanet.report.curves import WidthCurve
from gleanet.report.quantization import kept_share

INK, MUTED, GRID, ACCENT, FAINT, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
LINES = ((ACCENT, [1, 0]), (INK, [5, 3]), (MUTED, [1.5, 2.5]))  # colour and dash, so that colour is never the only difference
MAX_POINTS = 240
MAX_BARS = 24
SAID = 24  # points of a long curve that say their figures

# the colours of page.css, for pictures that leave the page
LIGHT = {"ink": "#1f2421", "muted": "#626a65", "grid": "#e7e4dc", "accent": "#0a6b50", "faint": "#eeece5", "paper": "#fbfaf7"}
DARK = {"ink": "#e7e8e3", "muted": "#a0a8a2", "grid": "#2a302d", "accent": "#62cfa6", "faint": "#262c29", "paper": "#151816"}

Encoding = dict[str, Any]
TIP = "tip:"  # what is said when a mark is pointed at travels through Vega as its description


@dataclass(frozen=True)
class Shape:
    """Room for one picture: width and height of the plot in CSS pixels."""

    width: int
    height: int


WIDE = Shape(470, 330)
NARROW = Shape(270, 270)


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
            "tip": described(
                f"{layer.layer}\n{layer.after} of {layer.before} channels left\n"
                f"{units.count(layer.macs_after)} of {units.count(layer.macs_before)} MACs"
            ),
        }
        for layer in layers
    ]
    base = alt.Chart(inline_data(values)).encode(y=alt.Y("layer:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)))
    room = 1.0 + (0.62 if full else 0.42)  # to the right of the longest bar, for its text
    x = alt.X("before:Q", title="Channels", scale=alt.Scale(domain=(0, widest * room), nice=False), axis=alt.Axis(values=_ticks(widest)))
    before = base.mark_bar(color=FAINT, stroke=MUTED, strokeWidth=1, height=13).encode(x=x, description="tip:N")
    after = base.mark_bar(color=ACCENT, height=13).encode(x=alt.X("after:Q"), description="tip:N")
    text = base.mark_text(align="left", dx=7, color=INK).encode(x=x, text="text:N")
    return as_svg(alt.layer(before, after, text), Shape(shape.width, 24 * len(layers)))


def sensitivity(layers: Sequence[LayerSensitivity], shape: Shape) -> str | None:
    """SQNR of the logits with one layer alone quantized, the most sensitive layers first, at most ``MAX_BARS``. None without layers."""
    if not layers:
        return None
    values = [
        {
            "layer": one.layer,
            "db": max(one.alone_db, 0.0),
            "text": f"{one.alone_db:.1f} dB",
            "tip": described(f"{one.layer}\n{one.alone_db:.1f} dB when it alone is quantized\n{one.others_db:.1f} dB when only it is not"),
        }
        for one in layers[:MAX_BARS]
    ]
    top = max(max(one.alone_db for one in layers[:MAX_BARS]), 1.0)
    base = alt.Chart(inline_data(values)).encode(y=alt.Y("layer:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)))
    x = alt.X("db:Q", title="SQNR of the logits, dB", scale=alt.Scale(domain=(0, 1.25 * top), nice=False))
    bar = base.mark_bar(color=ACCENT, height=13).encode(x=x, description="tip:N")
    text = base.mark_text(align="left", dx=7, color=INK).encode(x=x, text="text:N")
    return as_svg(alt.layer(bar, text), Shape(shape.width, 24 * len(values)))


def ranges(found: Sequence[TensorRange], calibrator: str, shape: Shape) -> str | None:
    """What calibration saw of each tensor (outline) and what a calibrator makes of it (bar): where it clips most, at most ``MAX_BARS``.

    None where the calibrator clips nothing.
    """
    picked = [one for one in found if calibrator in one.ranges and one.high > one.low]
    picked = sorted(picked, key=lambda one: kept_share(one, calibrator))[:MAX_BARS]
    if not picked or kept_share(picked[0], calibrator) > 0.995:
        return None
    values = []
    for one in picked:
        low, high = one.ranges[calibrator]
        tip = f"{one.tensor}\nseen {one.low:.3g} to {one.high:.3g}\n{calibrator} keeps {low:.3g} to {high:.3g}"
        share = units.percent(kept_share(one, calibrator))
        values.append(
            {"tensor": _short(one.tensor), "low": one.low, "high": one.high, "from": low, "to": high, "tip": described(tip), "text": share}
        )
    base = alt.Chart(inline_data(values)).encode(y=alt.Y("tensor:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)))
    x = alt.X("low:Q", title=f"Values; filled: what {calibrator} keeps")
    seen = base.mark_bar(color=FAINT, stroke=MUTED, strokeWidth=1, height=13).encode(x=x, x2="high:Q", description="tip:N")
    kept = base.mark_bar(color=ACCENT, height=13).encode(x="from:Q", x2="to:Q", description="tip:N")
    text = base.mark_text(align="left", dx=7, color=INK).encode(x="high:Q", text="text:N")
    return as_svg(alt.layer(seen, kept, text), Shape(shape.width, 24 * len(values)))


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


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
        said = [value | {"tip": described(_at_epoch(curve.name, what, value))} for value in _thinned(values, SAID)]
        marks = alt.Chart(inline_data(said)).encode(x=x, y=y, description="tip:N")
        few = len(values) <= 12
        layers.append(marks.mark_point(color=colour, fill=colour, size=36 if few else 90, opacity=1 if few else 0))
    if not layers:
        return None
    return as_svg(alt.layer(*layers), Shape(shape.width, round(shape.height * 0.7)))


def _at_epoch(name: str, what: str, value: Encoding) -> str:
    figure = f"{value['value']:.1f} %" if what == "accuracy" else f"loss {value['value']:.3f}"
    return f"{name}\nepoch {value['epoch']:.3g}: {figure}"


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
            alt.Chart(inline_data([_timed(curve, width, ms) for width, ms in points])).encode(x=x, y=y)
            for points in (curve.points, curve.odd)
        )
        layers = [aligned.mark_line(color=ACCENT, strokeWidth=2), _said(aligned).mark_point(color=ACCENT, fill=ACCENT, size=36, opacity=1)]
        if curve.odd:
            layers.append(_said(odd).mark_point(color=INK, fill=PAPER, size=44, opacity=1, strokeWidth=1.5))
        title = alt.Title(curve.what, fontSize=12, fontWeight="normal", color=INK, anchor="start", limit=260)
        panels.append(alt.layer(*layers).properties(width=240 if full else shape.width, height=130, title=title))
    return _rendered(alt.concat(*panels, columns=3 if full else 1))


def _said(chart: Any) -> Any:
    return chart.encode(description="tip:N")


def _timed(curve: WidthCurve, width: int, ms: float) -> Encoding:
    tip = f"{curve.name}, {curve.what}\n{width} {curve.side}: {1e3 * ms:.1f} µs"
    return {"channels": width, "us": 1e3 * ms, "tip": described(tip)}


def described(words: str) -> str:
    """Words for a mark, one line after the other, as an encoding of its description."""
    return f"{TIP}{words}"


def inline_data(values: list[Encoding]) -> Any:
    """Inline data; Altair's own constructor is untyped."""
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _ticks(widest: int) -> list[int]:
    step = max(1, 2 ** max(0, (widest // 4).bit_length() - 1))
    return list(range(0, widest + 1, step))


def _thinned(values: Sequence[Encoding], most: int = MAX_POINTS) -> list[Encoding]:
    """At most ``most`` points: each the mean of its neighbours, so that a noisy loss stays honest about its level."""
    if len(values) <= most:
        return list(values)
    size = -(-len(values) // most)
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    return [{key: sum(value[key] for value in group) / len(group) for key in ("epoch", "value")} for group in groups]


_PLACE = re.compile(r'<(\w+) data-tip="(\d+)"([^>]*?)/>')
_TIPPED = re.compile(rf'<(\w+) aria-label="{TIP}([^"]*)"([^>]*?)/>')


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
        .configure(font=font, aria=True, background="transparent")
        .configure_axis(**axis)
        .configure_view(stroke=None)
        .configure_text(fontSize=12.5)
    )
    out = StringIO()
    finished.save(out, format="svg")
    said: list[str] = []  # kept out of what follows, so that no figure in it is shortened

    def marked(found: re.Match[str]) -> str:
        said.append(found[2])
        return f'<{found[1]} data-tip="{len(said) - 1}"{found[3]}/>'

    svg = _TIPPED.sub(marked, out.getvalue())
    svg = re.sub(r'\s(?:xmlns(?::xlink)?|version|role|aria-[a-z]+|class)="[^"]*"', "", svg)
    # coordinates only: a label of an axis starts its element
    svg = re.sub(r"(?<![>\d])\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    return _PLACE.sub(lambda found: f'<{found[1]} class="tip"{found[3]}><title>{said[int(found[2])]}</title></{found[1]}>', svg)


def standalone(svg: str) -> str:
    """A picture as a file of its own: with its namespace, and the colours of the page's style sheet, light and dark."""
    names = {"ink": INK, "muted": MUTED, "grid": GRID, "accent": ACCENT, "faint": FAINT, "paper": PAPER}
    rules = "".join(f'[{kind}="{colour}"]{{{kind}:{LIGHT[name]}}}' for name, colour in names.items() for kind in ("fill", "stroke"))
    dark = "".join(f'[{kind}="{colour}"]{{{kind}:{DARK[name]}}}' for name, colour in names.items() for kind in ("fill", "stroke"))
    style = f"<style>{rules}@media (prefers-color-scheme:dark){{{dark}}}</style>"
    return re.sub(r"<svg([^>]*)>", lambda tag: f'<svg xmlns="http://www.w3.org/2000/svg"{tag[1]}>{style}', svg, count=1)
