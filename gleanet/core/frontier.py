"""Which point of a frontier is delivered. Pure functions of the records: accuracy is that of the held-out images, time the measured one."""

from collections.abc import Sequence

from gleanet.core.errors import BadInput
from gleanet.core.records import Measurement, Point

LIMITS = ("max_drop", "speedup", "latency_ms", "point")
SLACK = 1e-9  # so that a limit is not missed by the rounding of 100 * 0.01


def choose(original: Measurement, points: Sequence[Point], limit: str, value: float) -> tuple[int, bool]:
    """The point that a limit selects, and whether it meets the limit. Point 0, quantized and not pruned, is a candidate like the others.

    Args:
        original: the float file of the network as given; speed-ups are against its time.
        points: at least one.
        limit: ``max_drop``: the fastest whose accuracy is within ``value`` percentage points of the original, by the whole 95 % interval;
            where there is none, the most accurate. ``speedup`` (at least) and ``latency_ms`` (at most): the most accurate that is fast
            enough; where there is none, the fastest. ``point``: the one at position ``value``.

    Raises:
        BadInput: no such limit, or no such point.
    """
    if limit == "point":
        if value not in range(len(points)):
            raise BadInput(f"there is no point {value:g}: this frontier has points 0 to {len(points) - 1}")
        return int(value), True
    if limit not in LIMITS:
        raise BadInput(f"{limit!r} is not a limit: choose one of {', '.join(LIMITS)}")
    fits = [index for index, point in enumerate(points) if _meets(original, point, limit, value)]
    among = fits or range(len(points))
    if (limit == "max_drop") == bool(fits):
        return min(among, key=lambda index: (milliseconds(points[index].measured), -points[index].held_out.value)), bool(fits)
    return min(among, key=lambda index: (-points[index].held_out.value, milliseconds(points[index].measured))), bool(fits)


def dominated(points: Sequence[Point]) -> frozenset[int]:
    """Positions of the points that another one beats in time or accuracy without losing in the other."""
    figures = [(milliseconds(point.measured), -point.held_out.value) for point in points]
    return frozenset(
        index for index, own in enumerate(figures) if any(one != own and one[0] <= own[0] and one[1] <= own[1] for one in figures)
    )


def milliseconds(measured: Measurement) -> float:
    """Median time of one call at the smallest batch that was timed; infinite where nothing was."""
    first = min(measured.latencies, key=lambda latency: latency.batch, default=None)
    return float("inf") if first is None else first.p50_ms


def speedup(original: Measurement, measured: Measurement) -> float:
    """How many times as fast as the original; 0 where either was not timed."""
    before, after = milliseconds(original), milliseconds(measured)
    return before / after if 0 < after < float("inf") and before < float("inf") else 0.0


def _meets(original: Measurement, point: Point, limit: str, value: float) -> bool:
    if limit == "max_drop":
        return -100 * point.held_out_change.low <= value + SLACK
    if limit == "speedup":
        return speedup(original, point.measured) >= value - SLACK
    return milliseconds(point.measured) <= value + SLACK
