"""Accuracy against latency: what a run made, and every quantization candidate, each a point that says what it is when it is pointed at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import altair as alt

from gleanet.core.records import Accuracy, Frontier, Latency, Row, Trial
from gleanet.report import units
from gleanet.report.charts import ACCENT, INK, MUTED, Encoding, Shape, as_svg, described, inline_data
from gleanet.report.frontier import changes, label
from gleanet.report.labels import Align, Spot, place

DEPTH = 10.0  # points of accuracy below the best that the picture of candidates shows; what lies lower is marked at its edge
BREADTH = 2.0  # the same to the right: times the slowest of what matters

Domain = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One candidate: percent and milliseconds.

    ``kind`` is chosen, float, best (nothing else is both faster and more accurate) or beaten; ``beyond`` says at which edge of the picture
    it is put, below or right, because it lies outside.
    """

    name: str
    kind: str
    ms: float
    value: float
    low: float
    high: float
    tip: str
    beyond: str = ""


def steps(rows: Sequence[Row], shape: Shape, *, chosen: Row | None = None) -> str | None:
    """Accuracy on the test images with its 95 % interval against the median latency of one image, for every row, each with its name.

    Args:
        chosen: the row to mark.

    Returns:
        SVG, or None where fewer than two rows have both figures.
    """
    points = [
        point
        for row in rows
        if (point := _point(row.label, "chosen" if row is chosen else "", row.measured.accuracy, row.measured.latencies, _facts(row)))
    ]
    return _drawn(ranked(points), shape, whiskers=True, names=True)


@dataclass(frozen=True)
class Lettered:
    """A row of one of several runs; ``last``: it is what the run delivers."""

    letter: str
    row: Row
    last: bool


def lettered(rows: Sequence[Lettered], shape: Shape) -> str | None:
    """The same for the rows of several runs in one picture: what a run delivers has its letter, what any other one beats is faint."""
    points = []
    for one in rows:
        facts = f"{one.letter}: {one.row.label}\n{_facts(one.row)}"
        found = _point(one.letter, "chosen" if one.last else "", one.row.measured.accuracy, one.row.measured.latencies, facts)
        points += [found] if found is not None else []
    return _drawn(ranked(points), shape, whiskers=False, names=False)


def candidates(trials: Sequence[Trial], shape: Shape, *, base: tuple[Accuracy, Sequence[Latency]] | None = None) -> str | None:
    """The same for everything that quantization tried, on the images that it was chosen with; only the chosen one is named.

    Args:
        base: accuracy and times of the float file on the same images.
    """
    found = [
        _point(t.method, "chosen" if t.verdict == "chosen" else "", t.accuracy, t.latencies, f"{t.verdict}\n{_agreement(t)}")
        for t in trials
        if t.verdict not in ("failed", "impossible", "float")
    ]
    points = [point for point in found if point is not None]
    if base is not None and (own := _point("float", "float", *base, "the file that was quantized")) is not None:
        points.append(own)
    return _drawn(_within(ranked(points)), shape, whiskers=False, names=False)


def frontier(found: Frontier, shape: Shape) -> str | None:
    """The delivered files of a frontier with the float file; pointing at a point shows what was dropped and narrowed."""
    own = found.original
    points = [_point("float", "float", own.accuracy, own.latencies, "as given")]
    for index, one in enumerate(found.points):
        kind = "chosen" if index == found.chosen else ""
        points.append(_point(label(index), kind, one.measured.accuracy, one.measured.latencies, changes(one)))
    return _drawn(ranked([point for point in points if point is not None]), shape, whiskers=True, names=True)


def ranked(points: Sequence[Point]) -> list[Point]:
    """The points with their kinds; what another one beats in both, or in one with the other equal, is beaten."""

    def beaten(one: Point) -> bool:
        return any(o.ms <= one.ms and o.value >= one.value and (o.ms, o.value) != (one.ms, one.value) for o in points)

    return [p if p.kind in ("chosen", "float") else replace(p, kind="beaten" if beaten(p) else "best") for p in points]


def _facts(row: Row) -> str:
    found = row.measured
    return f"{units.count(found.macs)} MACs, {units.size(found.bytes)}" + (f"\n{units.change(found.change)}" if found.change else "")


def _agreement(trial: Trial) -> str:
    found = [units.size(trial.bytes)] if trial.bytes else []
    if trial.sqnr_db is not None:
        found.append(f"SQNR {trial.sqnr_db:.1f} dB")
    return ", ".join(found)


def _point(name: str, kind: str, accuracy: Accuracy | None, latencies: Sequence[Latency], more: str) -> Point | None:
    if accuracy is None or not latencies:
        return None
    first = min(latencies, key=lambda latency: latency.batch)
    tip = f"{name}\n{units.accuracy(accuracy)}\n{units.milliseconds(first.p50_ms)} at batch {first.batch}\n{more}".strip()
    return Point(name, kind, first.p50_ms, 100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high, tip)


def _within(points: Sequence[Point]) -> list[Point]:
    """Points far below or far to the right are put at the edge, so that those that matter have room."""
    if not points:
        return []
    matter = [p for p in points if p.kind != "beaten"]
    floor = max(p.value for p in points) - DEPTH
    wall = BREADTH * max(p.ms for p in matter)
    return [_at_the_edge(p, floor, wall) for p in points]


def _at_the_edge(p: Point, floor: float, wall: float) -> Point:
    below, late = p.value < floor, p.ms > wall
    if not below and not late:
        return p
    value = floor if below else p.value
    return replace(p, ms=min(p.ms, wall), value=value, low=value, high=value, beyond="below" if below else "right")


def _drawn(points: Sequence[Point], shape: Shape, *, whiskers: bool, names: bool) -> str | None:
    if len(points) < 2:
        return None
    shown = [p for p in points if whiskers or p.kind != "beaten"]
    low = min(min(p.low for p in shown), min(p.value for p in points))
    high = max(max(p.high for p in shown), max(p.value for p in points))
    pad = max(0.6, (high - low) * 0.08)
    domain_y = (max(0.0, low - pad), min(100.0, high + pad))
    domain_x = (0.0, 1.06 * max(p.ms for p in points))
    x = alt.X("ms:Q", title="Median latency of one image, ms", scale=alt.Scale(domain=domain_x, nice=False))
    y = alt.Y("value:Q", title="Accuracy, %", scale=alt.Scale(domain=domain_y, nice=False, zero=False))
    layers: list[Any] = [_front(points, x, y)]
    for kind in _MARKS:  # layers without data would cost as much time as any
        ends = [asdict(p) for p in shown if p.kind == kind and not p.beyond]
        if ends:
            looks: dict[str, Any] = {
                "color": ACCENT if kind == "chosen" else INK,
                "strokeWidth": 1.2,
                "opacity": 0.4 if kind == "beaten" else 0.9,
            }
            layers.append(alt.Chart(inline_data(ends)).mark_rule(**looks).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"))
    for kind, mark in _MARKS.items():
        for beyond, edge in _EDGES.items():
            values = [asdict(p) | {"tip": described(p.tip)} for p in points if p.kind == kind and p.beyond == beyond]
            if values:
                layers.append(alt.Chart(inline_data(values)).mark_point(**(mark | edge)).encode(x=x, y=y, description="tip:N"))
    layers += _labels(points, names, domain_x, domain_y, shape)
    return as_svg(alt.layer(*layers), shape)


_MARKS: dict[str, dict[str, Any]] = {
    "beaten": {"shape": "circle", "size": 60, "stroke": MUTED, "fill": MUTED, "opacity": 0.45},
    "best": {"shape": "circle", "size": 80, "stroke": INK, "fill": INK, "opacity": 1},
    "float": {"shape": "square", "size": 80, "stroke": INK, "fill": INK, "opacity": 1},
    "chosen": {"shape": "diamond", "size": 190, "stroke": ACCENT, "fill": ACCENT, "opacity": 1},
}
_EDGES: dict[str, dict[str, Any]] = {"": {}, "below": {"shape": "triangle-down"}, "right": {"shape": "triangle-right"}}


def _front(points: Sequence[Point], x: Any, y: Any) -> Any:
    """A thin line along the points that nothing beats: below and to the right of it is worse in every way."""
    best: list[Encoding] = []
    for p in sorted((p for p in points if not p.beyond), key=lambda p: (p.ms, -p.value)):
        if not best or p.value > best[-1]["value"]:
            best.append({"ms": p.ms, "value": p.value})
    line = alt.Chart(inline_data(best)).mark_line(interpolate="step-after", color=MUTED, strokeWidth=1, strokeDash=[2, 3])
    return line.encode(x=x, y=y)


def _labels(points: Sequence[Point], names: bool, domain_x: Domain, domain_y: Domain, shape: Shape) -> list[Any]:
    """Names beside their points, the chosen one's first."""
    per_x, per_y = shape.width / (domain_x[1] - domain_x[0]), shape.height / (domain_y[1] - domain_y[0])
    spots = [
        Spot(p.ms * per_x, (p.value - domain_y[0]) * per_y, (p.low - domain_y[0]) * per_y, (p.high - domain_y[0]) * per_y) for p in points
    ]
    named = [i for i, p in enumerate(points) if p.kind == "chosen"] + [i for i, p in enumerate(points) if p.kind != "chosen"]
    named = [i for i in named if names or points[i].kind in ("chosen", "float")]
    texts = [_shortened(points[i].name, shape) for i in named]
    placed = place([spots[i] for i in named], texts, spots, shape)
    values: list[Encoding] = [
        {"ms": label.x / per_x, "y": domain_y[0] + label.y / per_y, "name": text, "kind": points[i].kind, "align": label.align}
        for i, text, label in zip(named, texts, placed, strict=True)
    ]
    layers: list[Any] = []
    kinds: tuple[tuple[bool, dict[str, Any]], ...] = ((True, {"color": ACCENT, "fontWeight": "bold"}), (False, {"color": INK}))
    aligns: tuple[Align, ...] = ("left", "right")
    for align in aligns:
        for own, looks in kinds:
            some = [v for v in values if v["align"] == align and (v["kind"] == "chosen") == own]
            if some:
                text = alt.Chart(inline_data(some)).mark_text(align=align, baseline="middle", **looks)
                layers.append(text.encode(x="ms:Q", y="y:Q", text="name:N"))
    return layers


def _shortened(name: str, shape: Shape) -> str:
    room = shape.width // 12  # letters that fit beside a point, on the side with more room
    return name if len(name) <= room else name[: room - 1] + "…"
