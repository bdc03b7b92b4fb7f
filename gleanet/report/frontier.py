"""The frontier of a run: a table and a sentence on the delivered networks, the same on the page and in the terminal."""

from gleanet.core.errors import StoreError
from gleanet.core.frontier import milliseconds, speedup
from gleanet.core.records import Change, Frontier, Point
from gleanet.report import units
from gleanet.report.tables import Table

ALONE = "quantized alone"
SHOWN = 3  # names of dropped branches in a cell; the others are counted


def frontier_table(found: Frontier | None) -> Table:
    """The float file, then every point; without rows where the run has no frontier.

    Raises:
        StoreError: the record names a delivered point that it does not have.
    """
    if found is None:
        return Table((), ())
    _check(found)
    header = (
        "Network",
        "Dropped and narrowed",
        "Accuracy (95 % interval)",
        "Change against float (95 % interval)",
        "Accuracy against quantized alone",
        "p50",
        "Speed-up over float",
        "Speed-up over quantized alone",
        "Predicted time",
        "On disk",
    )
    alone = found.points[0].measured
    own = found.original
    first = (
        "float, as given",
        units.NONE,
        units.accuracy(own.accuracy),
        "baseline",
        units.NONE,
        units.milliseconds(_finite(milliseconds(own))),
        "1×",
        _times(speedup(alone, own)),
        units.NONE,
        units.size(own.bytes),
    )
    cells = [first]
    for index, point in enumerate(found.points):
        measured = point.measured
        cells.append(
            (
                label(index),
                changes(point),
                units.accuracy(measured.accuracy),
                units.change(measured.change),
                units.NONE if index == 0 else _against(measured.change, alone.change),
                units.milliseconds(_finite(milliseconds(measured))),
                _times(speedup(own, measured)),
                "1×" if index == 0 else _times(speedup(alone, measured)),
                _predicted(point),
                units.size(measured.bytes),
            )
        )
    return Table(header, tuple(cells), _caption(found), strong=found.chosen + 1)


def label(index: int) -> str:
    """``quantized alone``, ``point 1``, ..."""
    return ALONE if index == 0 else f"point {index}"


def changes(point: Point) -> str:
    """What was dropped and narrowed, in words."""
    parts = []
    if point.dropped:
        more = f" and {len(point.dropped) - SHOWN} more" if len(point.dropped) > SHOWN else ""
        branches = "branch" if len(point.dropped) == 1 else "branches"
        parts.append(f"{len(point.dropped)} {branches} dropped: {', '.join(point.dropped[:SHOWN])}{more}")
    if narrowed := sum(width.after < width.before for width in point.widths):
        parts.append(f"{narrowed} {'layer' if narrowed == 1 else 'layers'} narrowed")
    return "; ".join(parts) or "nothing"


def verdict(found: Frontier | None) -> str:
    """What is delivered, and how it compares with the float file and with quantized alone; empty where there is no frontier."""
    if found is None:
        return ""
    _check(found)
    measured, alone = found.points[found.chosen].measured, found.points[0].measured
    fast = _times(speedup(found.original, measured))
    against = f"{fast} as fast as the float file" + (f", accuracy {units.change(measured.change)}" if measured.change else "")
    if found.chosen == 0:
        sentence = f"Delivered: {ALONE}, not pruned. It is {against}."
    else:
        other = _against(measured.change, alone.change)
        beside = "" if other == units.NONE else f", accuracy {other}"
        sentence = f"Delivered: point {found.chosen}. It is {against}, and {_times(speedup(alone, measured))} as fast as {ALONE}{beside}."
    return sentence if found.met else f"No point meets {limit_words(found)}. {sentence}"


def limit_words(found: Frontier) -> str:
    """The limit as the option that sets it."""
    option = {"max_drop": "--max-drop", "speedup": "--speedup", "latency_ms": "--latency", "point": "--point"}.get(found.limit, found.limit)
    return f"{option} {found.value:g}{' ms' if found.limit == 'latency_ms' else ''}"


def _check(found: Frontier) -> None:
    if not 0 <= found.chosen < len(found.points):
        raise StoreError(f"the record is damaged: it delivers point {found.chosen} of a frontier of {len(found.points)} points")


def _against(one: Change | None, other: Change | None) -> str:
    """Difference of two changes against the same file; without an interval, since the record does not pair the two."""
    if one is None or other is None:
        return units.NONE
    return units.change(Change(one.delta - other.delta, 0.0, 0.0, one.n)).partition(" (")[0]


def _predicted(point: Point) -> str:
    actual = milliseconds(point.measured)
    if point.predicted_ms is None or _finite(actual) is None:
        return units.milliseconds(point.predicted_ms)
    error = 100 * (point.predicted_ms / actual - 1)
    return f"{units.milliseconds(point.predicted_ms)}, {'+' if error >= 0 else units.MINUS}{abs(error):.0f} %"


def _caption(found: Frontier) -> str:
    whose = f" on {found.machine}" if found.machine else ""
    return f"Delivered files{whose}, chosen by {limit_words(found)}; p50 is the median time of one call; predicted time with its error"


def _finite(ms: float) -> float | None:
    return ms if ms < float("inf") else None


def _times(ratio: float) -> str:
    return units.times(ratio or None)
