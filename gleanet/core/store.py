"""Run folders: where a run keeps its record (``run.json``) and its artefacts.

Rules, so that no result is ever lost or mixed up:

- ``create`` makes a new folder, or takes an empty or foreign one. It refuses a folder that already holds a run (continue that with
  ``--resume``) or a file that a run would overwrite. A resumed run replaces files one by one, each whole or untouched (``core/files.py``).
- While a process works in a run folder it holds the folder's lock (``core/lock.py``): a second one is told who works there, a killed one
  never leaves a folder shut.
- A folder that cannot be written is found out before the work, not after it.
"""

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from gleanet.core.errors import BadInput, StoreError
from gleanet.core.files import sweep, write_bytes
from gleanet.core.lock import LOCK, lock
from gleanet.core.records import Run, dumps, read_record

RECORD = "run.json"
ANSWERS = "answers.json"
CARD = "README.md"
ARTEFACTS = ("base.onnx", "model.onnx", "model.int8.onnx", "model.gleanet", "report.html", CARD)
RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. From :func:`create` and :func:`resume` it holds the folder's lock until ``close``, or the end of a ``with``."""

    folder: Path
    _release: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        """The run's name: that of its folder."""
        return self.folder.resolve().name

    def path(self, name: str) -> Path:
        """Path of an artefact in the folder."""
        return self.folder / name

    def write(self, run: Run) -> None:
        """Write ``run.json``: whole, or not at all.

        Raises:
            StoreError: the folder cannot be written (read-only, disk full).
        """
        write_bytes(self.path(RECORD), dumps(run))

    def read(self) -> Run:
        """Read ``run.json``.

        Raises:
            StoreError: missing, not a run record, or written by a newer gleanet.
        """
        return read_record(self.path(RECORD), Run)

    def close(self) -> None:
        """Release the lock. A folder into which nothing was written is removed, so that a run refused for bad input leaves no trace."""
        if self._release is None:
            return
        if self.folder.is_dir() and [entry.name for entry in self.folder.iterdir()] == [LOCK]:
            with suppress(OSError):  # another process has come in between: the folder is its own now
                self.path(LOCK).unlink()
                self.folder.rmdir()
        self._release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def create(out: Path | None, model: str, *, now: datetime, root: Path = RUNS) -> RunFolder:
    """Make the folder of a new run, check that it can be written, and lock it.

    Args:
        out: the folder to use; None: ``<root>/<date>-<model>-<short id>``, never an existing one.
        model: built-in name, checkpoint path or ``package.module:function``; gives the default folder its name.
        now: time of the run's start; gives the default folder its date.

    Raises:
        BadInput: ``out`` already holds a run, or a file that the run would overwrite, or another process works in it.
        StoreError: the folder cannot be made or written.
    """
    path = out if out is not None else root / f"{now:%Y-%m-%d}-{_slug(model)}-{secrets.token_hex(3)}"
    _make_writable(path)
    release = lock(path)
    taken = next((name for name in (RECORD, ANSWERS, *ARTEFACTS) if (path / name).exists()), None)
    if taken is not None:
        release()
        if taken == RECORD:
            raise BadInput(
                f"{path} already holds a run: continue it with --resume {path}, or choose another folder with --out", slug="run-exists"
            )
        raise BadInput(f"{path} holds {taken}, which this run would overwrite: choose another folder with --out", slug="run-exists")
    return RunFolder(path, release)


def resume(which: str | Path, *, root: Path = RUNS) -> RunFolder:
    """Open the folder of an earlier run for writing, lock it, and clear away what its process left half-written when it was killed.

    Raises:
        BadInput: no such run, or another process works in it.
        StoreError: its record cannot be read, or the folder cannot be written.
    """
    path = find(which, root=root).folder
    _make_writable(path)
    folder = RunFolder(path, lock(path))
    try:
        folder.read()
        sweep(path)
    except StoreError:
        folder.close()
        raise
    return folder


def find(which: str | Path, *, root: Path = RUNS) -> RunFolder:
    """The folder of a run, for reading.

    Args:
        which: a run's folder, its ``run.json``, its id, or the beginning or the last part (short id) of its id where only one run has it.

    Raises:
        BadInput: no run, or more than one, goes by that name.
    """
    given = Path(which)
    for path in (given, given.parent if given.name == RECORD else given, root / given):
        if (path / RECORD).is_file():
            return RunFolder(path)
    name = str(which)
    hits = [folder for folder in _folders(root) if folder.id.startswith(name) or folder.id.endswith(f"-{name}")] if name else []
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise BadInput(f"{name!r} could be {', '.join(folder.id for folder in hits[:5])}: give more of the name")
    raise BadInput(f"no run {name!r} in {root} and no folder of that name with a {RECORD}: see `gleanet runs list`", slug="run-unknown")


def listing(root: Path = RUNS) -> list[Run]:
    """The whole records of the runs under ``root`` that can be read, newest first. To search: :mod:`gleanet.core.index`."""
    found = []
    for folder in _folders(root):
        with suppress(StoreError):  # damaged, or of a newer gleanet: the index lists it, and says why
            found.append(folder.read())
    return sorted(found, key=lambda run: run.started, reverse=True)


def _folders(root: Path) -> list[RunFolder]:
    return [RunFolder(record.parent) for record in sorted(root.glob(f"*/{RECORD}"))]


def _slug(model: str) -> str:
    """A folder name for a model: the stem of a path, the function of ``package.module:function``, plain characters only."""
    name = model.rpartition(":")[2]
    name = name.replace("\\", "/").rpartition("/")[2]
    name = name.removesuffix(".gleanet").removesuffix(".onnx")
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:40] or "model"


def _make_writable(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path) as probe:
            probe.write(b"gleanet")
    except OSError as error:
        raise StoreError(f"cannot write in the run folder {path}: {error.strerror}; choose another with --out") from error
