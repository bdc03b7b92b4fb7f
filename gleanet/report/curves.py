"""Time against width, per kind of layer: what a table of times says, in curves, in words and as a picture's data."""

from collections.abc import Sequence
from dataclasses import dataclass

from gleanet.core.records import LatencyTable, LayerTimes
from gleanet.report import units
from gleanet.report.tables import Table, threads_text

MOST = 6  # curves in the picture: those of the layers that take most of the time


@dataclass(frozen=True)
class WidthCurve:
    """One kind of layer over its output or its input channels, the other side whole: (channels, ms), and the same beside the blocks."""

    name: str
    what: str
    side: str
    points: tuple[tuple[int, float], ...]
    odd: tuple[tuple[int, float], ...]
    total_ms: float


def width_curves(table: LatencyTable | None) -> tuple[WidthCurve, ...]:
    """Every curve with at least three widths, in the order of the network."""
    if table is None:
        return ()
    return tuple(curve for times in table.layers for curve in _curves(times) if len(curve.points) > 2)


def picked(curves: Sequence[WidthCurve]) -> tuple[WidthCurve, ...]:
    """Those of the layers that take most of the time, in the order of the network."""
    ranked = sorted(curves, key=lambda curve: -curve.total_ms)[:MOST]
    return tuple(curve for curve in curves if curve in ranked)


def curve_table(table: LatencyTable | None) -> Table:
    """Every curve as a row of numbers."""
    cells = tuple((f"{curve.name} ({curve.side})", curve.what, _listed(curve.points), _listed(curve.odd)) for curve in width_curves(table))
    return Table(("Layer", "Kind", "Channels: µs", "Beside the blocks"), cells, "Time of one layer at each width, the other side whole")


def curve_caption(table: LatencyTable | None, cpu: str) -> str:
    """Where, how and how often it was timed, and what an unaligned width costs."""
    if table is None:
        return ""
    where = f"{table.runtime}{f' on {cpu}' if cpu else ''}, {threads_text(table.threads)}, batch {table.batch}"
    return (
        f"Median time of one layer alone at each width: {where}, {table.repeats:,} interleaved rounds; the cost of calling the runtime is "
        f"taken off. {_unaligned(width_curves(table))}"
    )


def _unaligned(curves: Sequence[WidthCurve]) -> str:
    worst: tuple[float, WidthCurve, tuple[int, float], tuple[int, float]] | None = None
    for curve in curves:
        for width, ms in curve.odd:
            wider = next((point for point in curve.points if point[0] > width), None)
            if wider and wider[1] > 0 and (worst is None or ms / wider[1] > worst[0]):
                worst = ms / wider[1], curve, (width, ms), wider
    if worst is None:
        return ""
    ratio, curve, (width, ms), (wide, wide_ms) = worst
    if ratio < 1.02:
        return "No unaligned width that was tried costs more than the next aligned one."
    return (
        f"An unaligned width costs up to {units.factor(ratio)} times the next wider aligned one: {width} {curve.side} of {curve.name} take "
        f"{_micro(ms)} µs, {wide} take {_micro(wide_ms)} µs."
    )


def _curves(times: LayerTimes) -> list[WidthCurve]:
    name = times.layers[0] + (f" and {len(times.layers) - 1} more" if len(times.layers) > 1 else "")
    total = len(times.layers) * times.ms[-1][-1]
    whole_out, whole_in = times.outs[-1], times.ins[-1]
    by_out = tuple((out, row[-1]) for out, row in zip(times.outs, times.ms, strict=True))
    by_in = tuple(zip(times.ins, times.ms[-1], strict=True))
    odd_out = tuple((out, ms) for out, in_, ms in times.odd if in_ == whole_in)
    odd_in = tuple((in_, ms) for out, in_, ms in times.odd if out == whole_out)
    return [
        WidthCurve(name, times.what, "outputs", by_out, odd_out, total),
        WidthCurve(name, times.what, "inputs", by_in, odd_in, total),
    ]


def _listed(points: Sequence[tuple[int, float]]) -> str:
    return ", ".join(f"{width}: {_micro(ms)}" for width, ms in points) or units.NONE


def _micro(ms: float) -> str:
    return f"{1e3 * ms:,.1f}" if ms < 0.1 else f"{1e3 * ms:,.0f}"
