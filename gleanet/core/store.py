"""Run folders: where a run keeps its record (``run.json``) and its artefacts.

Rules, so that no result is ever lost or mixed up:

- ``create`` makes a new folder, or takes an empty or foreign one. It refuses a folder that already holds a run (continue that with
  ``--resume``) or a file that a run would overwrite. A resumed run replaces files one by one, each whole or untouched (``core/files.py``).
- While a process works in a run folder it holds the lock file ``.lock``, with its process id inside. The operating system releases the lock
  when the process ends, however it ends, so a killed run never leaves a folder shut. (POSIX; on Windows there is no lock.)
- A folder that cannot be written is found out before the work, not after it.
"""

import os
import re
import secrets
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from gleanet.core.errors import BadInput, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.records import Run, dumps, loads

if sys.platform != "win32":
    import fcntl

RECORD = "run.json"
LOCK = ".lock"
ARTEFACTS = ("base.onnx", "model.onnx", "model.int8.onnx", "model.gleanet", "report.html")
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
        record = self.path(RECORD)
        try:
            data = record.read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {record}: {error.strerror}") from error
        return loads(data, Run, str(record))

    def close(self) -> None:
        """Release the lock. A folder into which nothing was written is removed, so that a run refused for bad input leaves no trace."""
        if self._release is None:
            return
        if self.folder.is_dir() and [entry.name for entry in self.folder.iterdir()] == [LOCK]:
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
        BadInput: ``out`` already holds a run, or a file that the run would overwrite.
        StoreError: the folder cannot be made or written, or another process works in it.
    """
    path = out if out is not None else root / f"{now:%Y-%m-%d}-{_slug(model)}-{secrets.token_hex(3)}"
    _make_writable(path)
    release = _lock(path)
    taken = next((name for name in (RECORD, *ARTEFACTS) if (path / name).exists()), None)
    if taken is not None:
        release()
        if taken == RECORD:
            raise BadInput(f"{path} already holds a run: continue it with --resume {path}, or choose another folder with --out")
        raise BadInput(f"{path} holds {taken}, which this run would overwrite: choose another folder with --out")
    return RunFolder(path, release)


def resume(which: str | Path, *, root: Path = RUNS) -> RunFolder:
    """Open the folder of an earlier run for writing, and lock it.

    Raises:
        BadInput: no such run.
        StoreError: its record cannot be read, the folder cannot be written, or another process works in it.
    """
    path = find(which, root=root).folder
    _make_writable(path)
    folder = RunFolder(path, _lock(path))
    try:
        folder.read()
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
    raise BadInput(f"no run {name!r} in {root} and no folder of that name with a {RECORD}: see `gleanet runs list`")


def listing(root: Path = RUNS) -> list[Run]:
    """The runs under ``root``, newest first; empty where there is no such folder.

    A folder whose record cannot be read is an entry with status ``broken`` and the reason as its note. A run that says it is running while
    no process holds its lock was killed: its status here is ``interrupted``.
    """
    found = [(folder, _read_or_explain(folder)) for folder in _folders(root)]
    newest = sorted(found, key=lambda pair: _start(pair[0], pair[1]), reverse=True)
    return [run for _, run in newest]


def _folders(root: Path) -> list[RunFolder]:
    return [RunFolder(record.parent) for record in sorted(root.glob(f"*/{RECORD}"))]


def _read_or_explain(folder: RunFolder) -> Run:
    try:
        run = folder.read()
    except StoreError as error:
        return Run(
            id=folder.id,
            command="",
            model="",
            status="broken",
            started="",
            seconds=0.0,
            settings={},
            versions={},
            machine={},
            notes=(str(error),),
        )
    return replace(run, status="interrupted") if run.status == "running" and not _is_locked(folder.folder) else run


def _start(folder: RunFolder, run: Run) -> float:
    """Seconds since the epoch at which the run started; for a record that does not say, when it was written."""
    try:
        started = datetime.fromisoformat(run.started)
    except ValueError:
        return folder.path(RECORD).stat().st_mtime
    return (started if started.tzinfo else started.replace(tzinfo=UTC)).timestamp()


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


if sys.platform != "win32":

    def _lock(path: Path) -> Callable[[], None]:
        """Take the folder's lock; the returned function, the end of the process, or the last reference to that function releases it."""
        try:
            handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"cannot lock the run folder {path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise StoreError(f"process {owner} is working in {path}: wait for it, or choose another folder with --out") from error
        except OSError as error:  # a file system without locks
            os.close(handle)
            raise StoreError(f"cannot lock the run folder {path}: {error.strerror}") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return _Release(handle)

    def _is_locked(path: Path) -> bool:
        """Whether a process works in the folder."""
        try:
            handle = os.open(path / LOCK, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

else:

    def _lock(path: Path) -> Callable[[], None]:
        return lambda: None

    def _is_locked(path: Path) -> bool:
        return True  # unknown: believe the record


class _Release:
    """Closes a lock's file, once: when called, or when nothing refers to it any more."""

    def __init__(self, handle: int) -> None:
        self._close = weakref.finalize(self, os.close, handle)

    def __call__(self) -> None:
        self._close()
