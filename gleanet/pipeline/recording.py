"""A run's record from start to end: written when the run starts, when it is cut short, and when it is done."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gleanet.core import host, store
from gleanet.core.errors import Interrupted, PeerLost, SettingsError, StoreError
from gleanet.core.interrupt import Deferred, exit_code
from gleanet.core.launch import launch
from gleanet.core.lock import LOCK
from gleanet.core.progress import Progress
from gleanet.core.records import Run
from gleanet.core.store import RunFolder
from gleanet.data import Dataset
from gleanet.report import render, write_card
from gleanet.train.team import ALONE, Team

Settings = TypeVar("Settings")
FINISHED = ("done", "below bar")
TRIALS = "trials"  # folder of a run that is not done: what quantization has tried so far


@dataclass
class Recorder:
    """Holds the run's record while it grows; ``update`` writes it, with the seconds spent so far (those before a resume included).

    ``found``: what was in the folder before the run.
    """

    folder: RunFolder
    run: Run
    found: frozenset[str] = frozenset()
    begun: float = field(default_factory=time.monotonic)
    updated: bool = False

    def __post_init__(self) -> None:
        self.spent = self.run.seconds

    def update(self, *, results: Mapping[str, Any] | None = None, **changes: Any) -> Run:
        self.run = self._grown(results, changes)
        self.folder.write(self.run)
        self.updated = True
        return self.run

    def finish(self, *, status: str, results: Mapping[str, Any] | None = None, **changes: Any) -> Run:
        """Render report and card, then write the record: a run that says it is done has all. What it could go on from is removed."""
        whole = self._grown(results, changes | {"status": status})
        render(whole, self.folder.folder)
        write_card(whole, self.folder.folder)
        run = self.update(status=status, results=results, **changes)
        _discard_states(self.folder)
        return run

    def _grown(self, results: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Run:
        merged = _placed({**self.run.results, **(results or {})}, self.folder)
        return replace(self.run, seconds=self.spent + time.monotonic() - self.begun, results=merged, **changes)

    def has_work(self) -> bool:
        """Whether the run has anything to show for itself."""
        return self.updated or bool({entry.name for entry in self.folder.folder.iterdir()} - self.found - {LOCK, store.RECORD})

    def end(self, status: str) -> None:
        """Write how a run ended that is not done; without any work, take its record away."""
        if self.has_work():
            self.update(status=status)
        else:
            self.folder.path(store.RECORD).unlink(missing_ok=True)


class Follower(Recorder):
    """The record in a process that only helps the one of rank 0: it grows in memory, and nothing is written."""

    def update(self, *, results: Mapping[str, Any] | None = None, **changes: Any) -> Run:
        self.run = self._grown(results, changes)
        self.updated = True
        return self.run

    def finish(self, *, status: str, results: Mapping[str, Any] | None = None, **changes: Any) -> Run:
        return self.update(results=results, status=status, **changes)

    def has_work(self) -> bool:
        return self.updated

    def end(self, status: str) -> None:
        self.run = replace(self.run, status=status)


def _placed(results: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """What came of a run, with the folder that it lies in: of one that was copied, the copy's."""
    return {**results, "folder": str(folder.folder)}


@contextmanager
def recorded(
    command: str, model: str, settings: dict[str, Any], *, out: Path | None, resume: str | None = None, team: Team = ALONE
) -> Iterator[Recorder]:
    """Open (or reopen) a run folder and keep its record true, however the run ends.

    The record says ``running`` from before the work, so that a run that is killed at any moment can be resumed, until the block ends; then
    ``done`` unless the block set another status, ``interrupted`` by a signal, ``failed`` on an error. A run that fails before it has
    written
    any artefact leaves no folder; one that was resumed keeps what its record had. Of several processes (``team``) the one of rank 0 alone
    opens the folder and writes.

    Raises:
        BadInput, StoreError: see :mod:`gleanet.core.store`.
        Interrupted: on one of these signals, with the line that says how to resume.
        PeerLost: another process has died; the line says how to go on.
    """
    started = datetime.now(UTC)
    with ExitStack() as held:
        folder = RunFolder(team.shared(lambda: held.enter_context(_opened(resume, out, model, started)).folder))
        fresh = Run(
            id=folder.id,
            command=command,
            model=model,
            status="running",
            started=started.isoformat(timespec="seconds"),
            seconds=0.0,
            settings=settings,
            versions=host.versions(),
            machine=host.machine(),
        )
        recorder = _begun(folder, fresh, resumed=bool(resume)) if team.rank == 0 else Follower(folder, fresh, updated=bool(resume))
        try:
            yield recorder
        except KeyboardInterrupt as stop:
            with Deferred():  # once more Ctrl-C must not cut the record short
                recorder.end("interrupted")
            how = f": resume with {_command(command, folder)}" if recorder.has_work() else " before anything was done"
            raise Interrupted(f"interrupted{how}", exit_code=exit_code(stop)) from stop
        except PeerLost as loss:
            recorder.end("interrupted")
            raise PeerLost(f"{loss}: resume with {_command(command, folder)}" if recorder.has_work() else str(loss)) from loss
        except BaseException:
            recorder.end("failed")
            raise
        if recorder.run.status == "running":
            recorder.update(status="done")


def _opened(resume: str | None, out: Path | None, model: str, now: datetime) -> RunFolder:
    return store.resume(resume) if resume else store.create(out, model, now=now)


def _begun(folder: RunFolder, fresh: Run, *, resumed: bool) -> Recorder:
    """The record as it is at the start, written."""
    run = replace(folder.read(), status="running", versions=fresh.versions, machine=fresh.machine) if resumed else fresh
    recorder = Recorder(folder, run, frozenset(entry.name for entry in folder.folder.iterdir()), updated=resumed)
    folder.write(run)
    return recorder


def _command(command: str, folder: RunFolder) -> str:
    """What goes on with the run."""
    arguments, together = f"{command} --resume {folder.folder}", launch()
    return f"gleanet {arguments}" if together is None else together.command(arguments)


def done_already(resume: str | None, command: str, progress: Progress, needs: Sequence[str] = ("model.gleanet",)) -> Run | None:
    """The record of a run that is to be resumed, is done, and has the files it ``needs``; None for any other."""
    if resume is None:
        return None
    folder = store.find(resume)
    run = folder.read()
    if run.command != command or run.status not in FINISHED or not all(folder.path(name).is_file() for name in needs):
        return None
    together = launch()
    if together is None or together.rank == 0:
        with store.resume(resume) as locked:
            _discard_states(locked)
    progress.say(f"{folder.folder} is {run.status}: nothing to resume")
    return replace(run, results=_placed(run.results, folder))


def _discard_states(folder: RunFolder) -> None:
    for state in folder.folder.rglob("*.state"):
        state.unlink(missing_ok=True)
    shutil.rmtree(folder.path(TRIALS), ignore_errors=True)


def described(data: Dataset) -> dict[str, Any]:
    """What the record says of the data: its name stands beside every figure."""
    return {
        "name": data.name,
        "title": data.title,
        "train": len(data.train),
        "test": len(data.test),
        "classes": list(data.classes),
        "image_size": list(data.test.images.shape[2:]),
        "source": data.source,
        "complete": data.complete,
    }


def saved_settings(resume: str | None, command: str, kind: type[Settings]) -> Settings:
    """The settings of the run that is to be resumed.

    Raises:
        SettingsError: no run is named, or it is one of another command.
        StoreError: its settings cannot be read back.
    """
    if resume is None:
        raise SettingsError(f"{command} needs a network and data, or --resume RUN")
    run = store.find(resume).read()
    if run.command != command:
        raise SettingsError(f"{resume} is a run of `gleanet {run.command}`: resume it with that command")
    try:
        return msgspec.convert(run.settings, kind)
    except msgspec.ValidationError as error:
        raise StoreError(f"the settings of {resume} cannot be read back: {error}") from error
