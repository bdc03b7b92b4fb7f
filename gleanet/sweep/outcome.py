"""What came out: the figures of a cell from its run's record, and of each combination over its seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from gleanet.core.records import Accuracy, Run
from gleanet.core.stats import Interval, mean_interval
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import FINISHED, CellRecord, Combination, SweepSettings
from gleanet.sweep.grid import Cell
from gleanet.sweep.process import CELLS


def waiting(cell: Cell) -> CellRecord:
    return CellRecord(cell.name, cell.labels, cell.seed, "waiting")


def failed(cell: Cell, error: str) -> CellRecord:
    return CellRecord(cell.name, cell.labels, cell.seed, "failed", error)


def read(cell: Cell, root: Path) -> CellRecord:
    """The figures of a cell that has finished, in the sweep's folder ``root``.

    Raises:
        StoreError: its record cannot be read.
    """
    run = RunFolder(root / CELLS / cell.name).read()
    row = run.rows[-1] if run.rows and (run.command != "quantize" or run.rows[-1].role == "quantized") else None
    measured = row.measured if row is not None else None
    macs = run.results.get("macs")
    return CellRecord(
        name=cell.name,
        labels=cell.labels,
        seed=cell.seed,
        status=run.status,
        error="" if run.status == "done" else (run.notes or ("below the bar",))[-1],
        seconds=run.seconds,
        accuracy=measured.accuracy if measured is not None else _accuracy(run),
        macs=measured.macs if measured is not None else macs if isinstance(macs, int) else None,
        bytes=measured.bytes if measured is not None else None,
        latencies=measured.latencies if measured is not None else (),
    )


def _accuracy(run: Run) -> Accuracy | None:
    """As ``train`` and ``prune`` leave it: value, low, high, n."""
    found = run.results.get("accuracy")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), int | float) for key in ("value", "low", "high", "n")):
        return None
    return Accuracy(round(found["value"] * found["n"]), int(found["n"]), found["low"], found["high"])


def combinations(cells: Sequence[CellRecord], settings: SweepSettings) -> tuple[Combination, ...]:
    """One for each combination of the grid, in the order of the cells."""
    groups: dict[tuple[tuple[str, str], ...], list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.labels.items()), []).append(cell)
    return tuple(_combination(dict(labels), own, groups, settings.baseline) for labels, own in groups.items())


def _combination(
    labels: dict[str, str],
    own: Sequence[CellRecord],
    groups: Mapping[tuple[tuple[str, str], ...], Sequence[CellRecord]],
    baseline: Mapping[str, str],
) -> Combination:
    against = {axis: baseline.get(axis, name) for axis, name in labels.items()}
    base = {cell.seed: cell.accuracy.value for cell in groups[tuple(against.items())] if cell.accuracy is not None} if baseline else {}
    good = [(cell.seed, cell.accuracy) for cell in own if cell.accuracy is not None]
    pairs = [found.value - base[seed] for seed, found in good if seed in base] if labels != against else []
    done = [cell for cell in own if cell.status in FINISHED]
    batches = sorted({latency.batch for cell in done for latency in cell.latencies})
    return Combination(
        labels=labels,
        accuracies=tuple(found.value for _, found in good),
        mean=_mean([found for _, found in good]),
        difference=mean_interval(pairs) if pairs else None,
        baseline=bool(baseline) and labels == against,
        macs=_median([cell.macs for cell in done]),
        bytes=_median([cell.bytes for cell in done]),
        p50_ms={str(batch): median(t.p50_ms for cell in done for t in cell.latencies if t.batch == batch) for batch in batches},
        seconds=_median([cell.seconds for cell in done]),
        waiting=sum(cell.status == "waiting" for cell in own),
        failed=tuple((cell.seed, cell.error) for cell in own if cell.status == "failed"),
    )


def _mean(found: Sequence[Accuracy]) -> Interval | None:
    if not found:
        return None
    if len(found) == 1:
        return Interval(found[0].value, found[0].low, found[0].high, 1)
    return mean_interval([one.value for one in found])


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
