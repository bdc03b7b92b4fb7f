"""The tables of a run as finished strings, the same on the page and in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gleanet.core.records import Latency, LayerWidth, Row
from gleanet.report import units

_FINAL = ("quantized", "recovered", "one-shot")
_BASE = ("fine-tuned", "given")


@dataclass(frozen=True)
class Table:
    """Rows of finished strings; the first column names the rows.

    Attributes:
        strong: index of the row that the run is about.
        first: rows of a long table that decide; a page shows the others when asked. Empty: all.
        tags: a word for each row, by which a page can filter; empty where there are none.
    """

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: int | None = None
    first: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()


def table(rows: Sequence[Row], baseline: Row | None) -> Table:
    """The result table, one line per row, the same in the terminal and on the page.

    Args:
        baseline: the row whose change reads ``baseline`` and against which missing speed-ups are computed.
    """
    batches = batches_of(row.measured.latencies for row in rows)
    header: tuple[str, ...] = ("Network", "MACs", "Parameters", "On disk", "Accuracy (95 % interval)", "Change (95 % interval)")
    header += tuple(f"p50, batch {batch}" for batch in batches) + tuple(f"Speed-up, batch {batch}" for batch in batches)
    cells = [_cells(row, baseline, batches) for row in rows]
    caption = _timing(row.measured.latencies for row in rows)
    if any(row.measured.memory is not None for row in rows):
        header += ("Peak memory",)
        cells = [(*cell, units.size(row.measured.memory)) for cell, row in zip(cells, rows, strict=True)]
        caption += f"; peak memory is what opening and running a file adds{f', at batch {batches[-1]}' if batches else ''}"
    last = final(rows)
    return Table(
        header=header,
        cells=tuple(cells),
        caption=caption,
        strong=next((index for index, row in enumerate(rows) if row is last), None),
    )


def width_table(widths: Sequence[LayerWidth]) -> Table:
    """Channels and MACs of each prunable layer, before and after."""
    header = ("Layer", "Channels before", "Channels after", "Kept", "MACs before", "MACs after")
    return Table(
        header,
        tuple(
            (w.layer, str(w.before), str(w.after), units.percent(w.after / w.before), units.count(w.macs_before), units.count(w.macs_after))
            for w in widths
        ),
        "Channels and MACs of each prunable layer",
    )


def fact_table(caption: str, facts: Mapping[str, object]) -> Table:
    """Names and values; nested settings become ``recovery.epochs``."""
    return Table(("Name", "Value"), tuple((name, units.plain(value)) for name, value in flat(facts)), caption)


def baseline(rows: Sequence[Row]) -> Row | None:
    """The row that the others are compared with: it has no change of its own; of several, the fine-tuned before the given."""
    unchanged = [row for row in rows if row.measured.change is None]
    if not unchanged:  # a baseline compared with itself
        unchanged = [row for row in rows if row.measured.change is not None and row.measured.change.delta == 0 and row.role in _BASE]
    candidates = [row for role in _BASE for row in unchanged if row.role == role] + unchanged
    return candidates[0] if candidates else None


def final(rows: Sequence[Row]) -> Row | None:
    """The row that the run is about: the last of the pipeline's stages that was reached."""
    return next((row for role in _FINAL for row in reversed(rows) if row.role == role), None)


def speedup(row: Row, baseline: Row, latency: Latency) -> float | None:
    """How many times as fast as the baseline at this batch: from the record, else from the two medians."""
    recorded = row.measured.speedup.get(str(latency.batch))
    if recorded is not None:
        return recorded
    before, after = p50(baseline.measured.latencies, latency.batch), latency.p50_ms
    return before / after if before and after else None


def split(cell: str) -> tuple[str, str]:
    """``88.0 % (87.4 to 88.6)`` -> ``88.0 %`` and ``87.4 to 88.6``, for a page that sets the interval smaller."""
    main, bracket, rest = cell.partition(" (")
    return (main, rest[:-1]) if bracket and rest.endswith(")") and " to " in rest else (cell, "")


def _cells(row: Row, baseline: Row | None, batches: Sequence[int]) -> tuple[str, ...]:
    measured = row.measured
    by_batch = {latency.batch: latency for latency in measured.latencies}
    ratios = (speedup(row, baseline, by_batch[batch]) if baseline and batch in by_batch else None for batch in batches)
    return (
        row.label,
        units.count(measured.macs),
        units.count(measured.params),
        units.size(measured.bytes),
        units.accuracy(measured.accuracy),
        "baseline" if row is baseline else units.change(measured.change),
        *(units.milliseconds(p50(measured.latencies, batch)) for batch in batches),
        *("1×" if row is baseline and ratio is not None else units.times(ratio) for ratio in ratios),
    )


def batches_of(measured: Iterable[Sequence[Latency]]) -> list[int]:
    """Batch sizes at which something was timed, the smallest first."""
    return sorted({latency.batch for latencies in measured for latency in latencies})


def p50(latencies: Sequence[Latency], batch: int | None) -> float | None:
    """Median of one batch size; None: of the smallest that was measured."""
    ordered = sorted(latencies, key=lambda latency: latency.batch)
    return next((latency.p50_ms for latency in ordered if batch in (None, latency.batch)), None)


def _timing(measured: Iterable[Sequence[Latency]]) -> str:
    found = [latency for latencies in measured for latency in latencies]
    if not found:
        return "MACs of one image, bytes and accuracy of every step"
    repeats = min(latency.repeats for latency in found)
    threads = " and ".join(threads_text(number) for number in sorted({latency.threads for latency in found}))
    return f"MACs are of one image; p50 is the median time of one call, {threads}, at least {repeats:,} repeats, interleaved"


def threads_text(number: int) -> str:
    """``one thread``, ``2 threads``."""
    return "one thread" if number == 1 else f"{number} threads"


def flat(facts: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Names and values; nested ones get dotted names."""
    found: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
