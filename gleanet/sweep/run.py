"""A sweep from its settings to its table: which cells are left, who runs them, what is written when."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gleanet.core import host, store
from gleanet.core.errors import Interrupted, SettingsError, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.interrupt import Deferred, exit_code
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run, dumps
from gleanet.core.settings import plain
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import FINISHED, SWEEP, SWEEP_RECORD, CellRecord, Resources, SweepRecord, SweepSettings
from gleanet.report.sweeps import render_sweep
from gleanet.sweep import inputs, outcome
from gleanet.sweep.grid import Cell, cells, shape
from gleanet.sweep.options import Commands
from gleanet.sweep.place import Place
from gleanet.sweep.process import CELLS, Job, finished

SAVE_EVERY_S = 2.0  # the record of thousands of cells is not written after each; what is true stands in their folders


@dataclass
class _Sweep:
    """A sweep at work: its cells in order, and what is known of each."""

    folder: RunFolder
    run: Run
    settings: SweepSettings
    cells: tuple[Cell, ...]
    records: dict[str, CellRecord]
    begun: float = field(default_factory=time.monotonic)
    saved: float = 0.0

    def record(self) -> SweepRecord:
        known = tuple(self.records[cell.name] for cell in self.cells)
        return SweepRecord(self.settings, known, outcome.combinations(known, self.settings))

    def save(self, status: str) -> SweepRecord:
        """Write everything; ``run.json`` last."""
        record = self.record()
        spent = self.run.seconds + time.monotonic() - self.begun
        run = replace(self.run, status=status, seconds=spent, notes=notes(record), results=self._results(record))
        write_bytes(self.folder.path(SWEEP_RECORD), dumps(record))
        if status != "running":
            render_sweep(run, record, self.folder.folder)
        self.folder.write(run)
        self.saved = time.monotonic()
        return record

    def _results(self, record: SweepRecord) -> dict[str, object]:
        count = {status: sum(cell.status == status for cell in record.cells) for status in (*FINISHED, "failed", "waiting")}
        return {"folder": str(self.folder.folder), "cells": count, "sweep": msgspec.to_builtins(record.combinations)}


def sweep(
    settings: SweepSettings | None,
    connect: Callable[[Resources], Place],
    commands: Commands,
    *,
    out: Path | None = None,
    resume: str | None = None,
    how: str = "",
    progress: Progress = SILENT,
) -> tuple[Path, SweepRecord]:
    """Run every cell that has no result yet, and write ``sweep.json``, ``report.html`` and ``run.json`` into the sweep's folder.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that sweep. With both, finished cells that the settings
            still name are kept.
        connect: gives the place where cells run, which has what each of them needs.
        commands: the options of each command, for the command lines.
        out: the sweep's folder; None: ``runs/<date>-sweep-<command>-<short id>``.
        resume: folder or id of a sweep to go on with. Finished cells are never run again; failed ones are.
        how: what else the command that goes on needs, for the message after Ctrl-C.

    Returns:
        the folder, and the record; cells that failed after all retries are in it, with their errors.

    Raises:
        BadInput, StoreError: see :mod:`gleanet.core.store`; a file that is not there.
        Interrupted: by Ctrl-C, with the line that says how to go on.
    """
    found: dict[str, Path] = {}
    if settings is not None:
        settings, found = inputs.settled(settings)
    if resume is not None:
        settings = settings or saved(resume)
    assert settings is not None
    all_cells = cells(settings, commands[settings.command])
    place = connect(settings.resources)
    try:
        folder, run = _opened(settings, out, resume)
        with folder:
            inputs.copy(found, folder.folder)
            known = {cell.name: _known(cell, folder.folder) for cell in all_cells}
            work = _Sweep(folder, run, settings, all_cells, known)
            return folder.folder, _worked(work, place, f"gleanet sweep --resume {folder.folder}{how}", progress)
    finally:
        place.close()


def _worked(work: _Sweep, place: Place, again: str, progress: Progress) -> SweepRecord:
    work.save("running")
    try:
        place.open(work.folder.folder)
        _drive(work, place, progress)
        place.clear()
    except KeyboardInterrupt as stop:
        progress.say("stopping: running jobs are saving their state")
        place.stop()
        with Deferred():  # once more Ctrl-C must not cut the record short
            work.save("interrupted")
        raise Interrupted(f"interrupted: resume with {again}", exit_code=exit_code(stop)) from stop
    except BaseException:
        work.save("failed")
        raise
    return work.save("failed" if any(record.status == "failed" for record in work.records.values()) else "done")


def saved(resume: str) -> SweepSettings:
    """The settings of a sweep that is to go on.

    Raises:
        SettingsError: it is a run of another command.
        StoreError: they cannot be read back.
    """
    run = store.find(resume).read()
    if run.command != SWEEP:
        raise SettingsError(f"{resume} is a run of `gleanet {run.command}`: resume it with that command")
    try:
        return msgspec.convert(run.settings, SweepSettings)
    except msgspec.ValidationError as error:
        raise StoreError(f"the settings of {resume} cannot be read back: {error}") from error


def _opened(settings: SweepSettings, out: Path | None, resume: str | None) -> tuple[RunFolder, Run]:
    """The sweep's folder, locked, and the record to go on with."""
    now = datetime.now(UTC)
    if resume is not None:
        saved(resume)
    folder = store.resume(resume) if resume is not None else store.create(out, f"{SWEEP}-{settings.command}", now=now)
    run = Run(
        id=folder.id,
        command=SWEEP,
        model=_named(settings, "model"),
        status="running",
        started=now.isoformat(timespec="seconds"),
        seconds=0.0,
        settings=plain(settings),
        versions=host.versions(),
        machine=host.machine(),
        data={"title": _named(settings, "data")},
    )
    if resume is None:
        return folder, run
    before = folder.read()
    return folder, replace(run, started=before.started, seconds=before.seconds)


def _named(settings: SweepSettings, option: str) -> str:
    """The values of an option in the sweep."""
    found = [settings.options.get(option), *(choice.options.get(option) for axis in settings.grid.values() for choice in axis)]
    return ", ".join(dict.fromkeys(str(value) for value in found if value is not None))


def _known(cell: Cell, root: Path) -> CellRecord:
    return outcome.read(cell, root) if finished(root, cell.name) else outcome.waiting(cell)


def _drive(work: _Sweep, place: Place, progress: Progress) -> None:
    """Hand out cells until none is left; one that has failed goes to the end of the row, as long as it has tries left."""
    left = deque(cell for cell in work.cells if work.records[cell.name].status not in FINISHED)
    done = len(work.cells) - len(left)
    progress.say(shape(work.settings) + (f"; {done:,} done already" if done else ""))
    by_name = {cell.name: cell for cell in work.cells}
    tries = dict.fromkeys(by_name, 0)
    running = 0
    with progress.task(f"Sweep {work.settings.command}", len(work.cells), "cells") as advance:
        advance(done)
        while left or running:
            while left and place.room() > 0:
                place.start(_job(left.popleft(), work.settings))
                running += 1
            ended = place.wait()
            running -= 1
            cell = by_name[ended.job.name]
            tries[cell.name] += 1
            if ended.trouble and tries[cell.name] <= work.settings.retries:
                progress.say(f"{cell.title()}: {ended.trouble}; again ({tries[cell.name]} of {work.settings.retries})")
                left.append(cell)
                continue
            work.records[cell.name] = outcome.failed(cell, ended.trouble) if ended.trouble else outcome.read(cell, work.folder.folder)
            progress.say(_line(cell, work.records[cell.name], ended.where))
            if not ended.trouble:
                work.folder.path(f"{CELLS}/{cell.name}.log").unlink(missing_ok=True)
            advance(1)
            if time.monotonic() - work.saved > SAVE_EVERY_S:
                work.save("running")


def _job(cell: Cell, settings: SweepSettings) -> Job:
    return Job(cell.name, cell.words, settings.resources.cpus, settings.resources.gpus, (os.getcwd(),))


def _line(cell: Cell, record: CellRecord, where: str) -> str:
    place = f" on {where}" if where else ""
    if record.status == "failed":
        return f"{cell.title()} failed: {record.error}"
    accuracy = f"{100 * record.accuracy.value:.2f} %, " if record.accuracy is not None else ""
    return f"{cell.title()}: {accuracy}{record.seconds:.0f} s{place}"


def notes(record: SweepRecord) -> tuple[str, ...]:
    """What went wrong, one line a cell."""
    return tuple(_notes(record.cells))


def _notes(cells: Iterable[CellRecord]) -> Iterable[str]:
    for cell in cells:
        if cell.error:
            yield f"{_title(cell.labels, cell.seed)} {'failed' if cell.status == 'failed' else 'is below the bar'}: {cell.error}"


def _title(labels: Mapping[str, str], seed: int) -> str:
    return ", ".join((*labels.values(), f"seed {seed}"))
