"""Past runs rendered again: one of any kind, or several beside each other."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from gleanet.core.answers import read_answers
from gleanet.core.comparison import Compared
from gleanet.core.errors import BadInput
from gleanet.core.files import write_bytes
from gleanet.core.records import Interface, Run, loads_plain, read_record
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import SWEEP, SWEEP_RECORD, SweepRecord
from gleanet.report import figures, tradeoff
from gleanet.report.comparison_page import render_comparison
from gleanet.report.html import REPORT, filled, render
from gleanet.report.pictures import SHAPES, Picture
from gleanet.report.side import LETTERS, Entry, delivered, side_page
from gleanet.report.sweeps import render_sweep


def render_again(folder: RunFolder, out: Path | None = None, *, interface: Interface | None = None) -> Path:
    """Write one run's report anew, from what its folder holds, and return its path.

    Args:
        out: where to; None: ``report.html`` in the folder. Only for runs of ``shrink``, ``quantize``, ``prune`` and ``train``.
        interface: of the file that the run delivers, where its record does not say, as in those of older versions.

    Raises:
        BadInput: ``out`` for a run of another kind.
        StoreError: the record cannot be read, or the page cannot be written.
    """
    run = folder.read()
    page = _page_of(run)
    if page is None:
        return render(run if run.interface is not None else replace(run, interface=interface), folder.folder, out)
    if out is not None:
        raise BadInput(f"--out is not for a run of `gleanet {run.command}`: its report is {folder.path(REPORT)}")
    return page(run, folder.folder)


def _page_of(run: Run) -> Callable[[Run, Path], Path] | None:
    """What writes the page of a run that has one of its own kind; None for the report on networks."""
    if run.command.startswith("frameworks"):
        return render_comparison
    if run.command == SWEEP:
        return lambda run, folder: render_sweep(run, read_record(folder / SWEEP_RECORD, SweepRecord), folder)
    return _activations if "comparison" in run.results else None


def _activations(run: Run, folder: Path) -> Path:
    rows = loads_plain(run.results["comparison"], tuple[Compared, ...], f"the comparison of {run.id}")
    base = str(run.settings.get("baseline", rows[0].activation if rows else ""))
    return figures.render_comparison(run, rows, base, folder)


def render_side_by_side(folders: Sequence[RunFolder], out: Path) -> Path:
    """Write the page that shows runs beside each other, and return its path.

    Raises:
        BadInput: fewer than two runs, more than there are letters, the same one twice, or runs of another kind than networks.
        StoreError: a record cannot be read, or the page cannot be written.
    """
    _check(folders)
    entries = [Entry(_networks(folder.read()), read_answers(folder.folder), _link(folder, out)) for folder in folders]
    write_bytes(out, side_document(entries).encode())
    return out


def side_document(entries: Sequence[Entry]) -> str:
    """The page as text."""
    return filled("runs.html.j2", page=side_page(entries), tradeoff=_picture([entry.run for entry in entries]))


def _check(folders: Sequence[RunFolder]) -> None:
    if not 2 <= len(folders) <= len(LETTERS):
        raise BadInput(f"give 2 to {len(LETTERS)} runs to see them side by side, not {len(folders)}")
    seen: set[Path] = set()
    for folder in folders:
        path = folder.folder.resolve()
        if path in seen:
            raise BadInput(f"{folder.id} is given twice: give different runs")
        seen.add(path)


def _networks(run: Run) -> Run:
    if not run.rows:
        raise BadInput(f"{run.id} (gleanet {run.command}, {run.status}) has no table of networks to put beside another: see its own report")
    return run


def _link(folder: RunFolder, out: Path) -> str | None:
    """The run's own report as seen from the page."""
    report = folder.path(REPORT)
    return Path(os.path.relpath(report, out.parent)).as_posix() if report.is_file() else None


def _picture(runs: Sequence[Run]) -> Picture | None:
    rows = [tradeoff.Lettered(letter, row, row is delivered(run)) for letter, run in zip(LETTERS, runs, strict=False) for row in run.rows]
    wide, narrow = (tradeoff.lettered(rows, shape) for shape in SHAPES)
    if wide is None or narrow is None:
        return None
    return Picture(Markup(wide), Markup(narrow), "Accuracy against latency of every network of these runs. The figures are in the table.")
