"""The table of a sweep, the same in the terminal and on its page."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gleanet.core.files import write_bytes
from gleanet.core.records import Run
from gleanet.core.sweeps import Combination, SweepRecord
from gleanet.report import units
from gleanet.report.figures import FiguresPage, interval_percent, interval_points, panels_of, rendered
from gleanet.report.html import REPORT
from gleanet.report.lines import Line, keys
from gleanet.report.tables import Table

_STATUS = {"done": "All cells are done", "failed": "Some cells failed", "interrupted": "Interrupted"}


def sweep_table(record: SweepRecord) -> Table:
    """One line for each combination; columns that no combination has a value for are left out."""
    settings, rows = record.settings, record.combinations
    axes = tuple(settings.grid) or ("command",)
    batches = sorted({int(batch) for row in rows for batch in row.p50_ms})
    against = ", ".join(settings.baseline.values())
    columns: dict[str, list[str]] = {axis: [row.labels.get(axis, settings.command) for row in rows] for axis in axes}
    columns["Accuracy (95 % interval)"] = [interval_percent(row.mean) for row in rows]
    if settings.baseline:
        columns[f"Difference to {against} (95 % interval)"] = [
            "baseline" if row.baseline else interval_points(row.difference) for row in rows
        ]
    columns["Seeds"] = [_seeds(row) for row in rows]
    columns["MACs"] = [units.NONE if row.macs is None else units.count(round(row.macs)) for row in rows]
    columns["On disk"] = [units.size(None if row.bytes is None else round(row.bytes)) for row in rows]
    for batch in batches:
        columns[f"p50, batch {batch}"] = [units.milliseconds(row.p50_ms.get(str(batch))) for row in rows]
    columns["One run"] = [units.NONE if row.seconds is None else units.duration(row.seconds) for row in rows]
    columns["Failed"] = ["; ".join(f"seed {seed}: {error}" for seed, error in row.failed) for row in rows]
    shown = {name: cells for name, cells in columns.items() if name in axes or any(cell not in ("", units.NONE) for cell in cells)}
    return Table(tuple(shown), tuple(zip(*shown.values(), strict=True)), _caption(record))


def _seeds(row: Combination) -> str:
    count = str(len(row.accuracies))
    count += f", {len(row.failed)} failed" if row.failed else ""
    return count + (f", {row.waiting} to run" if row.waiting else "")


def _caption(record: SweepRecord) -> str:
    if len(record.settings.seeds) == 1:
        over = "Accuracy of one seed with Wilson's 95 % interval over the test images; a difference of single runs has none"
    else:
        over = "Means over seeds with Student's 95 % interval; differences are paired by seed"
    timed = any(row.p50_ms for row in record.combinations)
    return over + ("; times and sizes are medians over seeds, times of different rows were not taken together" if timed else "")


def render_sweep(run: Run, record: SweepRecord, folder: Path) -> Path:
    """Write the page of a sweep into its folder and return its path."""
    settings = record.settings
    combined, seeds = len(record.combinations), len(settings.seeds)
    counted = f"{combined} combination{'' if combined == 1 else 's'}, {seeds} seed{'' if seeds == 1 else 's'} each"
    shared = ", ".join(f"{name} {units.plain(value)}" for name, value in settings.options.items())
    lines = list(_lines(record))
    axis = _number_axis(record)
    page = FiguresPage(
        title=f"gleanet {settings.command}: {counted}",
        eyebrow=("gleanet", run.model, str(run.data.get("title", "")), run.started.replace("T", " ")[:16]),
        context=(
            f"All cells share: {shared or 'nothing'}. Seeds {', '.join(map(str, settings.seeds[:20]))}.",
            f"{_STATUS.get(run.status, run.status)}, after {units.duration(run.seconds)}. Each cell is a run in the folder cells.",
        ),
        table=sweep_table(record),
        table_title="Accuracy and cost",
        notes=run.notes,
        keys=keys(lines),
        panels=panels_of([(lines, axis or "", "Accuracy, %", f"Accuracy against {axis}, mean over seeds")]),
        panels_title="Accuracy",
        footer=f"Written by gleanet {run.versions.get('gleanet', '')} from sweep.json.",
    )
    target = folder / REPORT
    write_bytes(target, rendered(page).encode())
    return target


def _number_axis(record: SweepRecord) -> str | None:
    """The first axis whose values are numbers: what accuracy is drawn against."""
    for axis, choices in record.settings.grid.items():
        values = [choice.options.get(axis) for choice in choices]
        if len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return axis
    return None


def _lines(record: SweepRecord) -> Iterator[Line]:
    """One line for each choice of the other axes."""
    axis = _number_axis(record)
    if axis is None:
        return
    points: dict[str, list[tuple[float, float]]] = {}
    for row in record.combinations:
        name = _others(row.labels, axis) or record.settings.command
        if row.mean is not None:
            points.setdefault(name, []).append((float(row.labels[axis]), 100 * row.mean.mean))
    yield from (Line(name, tuple(sorted(found))) for name, found in points.items())


def _others(labels: Mapping[str, str], axis: str) -> str:
    return ", ".join(label for name, label in labels.items() if name != axis)
