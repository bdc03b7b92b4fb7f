"""The index of a runs folder: many thousand runs listed and searched by words in milliseconds.

One SQLite file, ``.index.sqlite``, beside the runs, with a full-text table (FTS5, https://sqlite.org/fts5.html). It holds nothing that is
not in the run folders: every look first takes up the records that have changed since the last one (told by size, time and inode, so a clock
that goes back hides nothing), and an index that is lost, damaged or of another version is made again. Where it cannot be written the same
index is made in memory. Several processes may look and write at a time (write-ahead log, https://sqlite.org/wal.html).
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gleanet.core.errors import BadInput, StoreError
from gleanet.core.lock import is_locked
from gleanet.core.records import Run
from gleanet.core.store import RECORD, RUNS, RunFolder

FILE = ".index.sqlite"
VERSION = 1
BUSY_S = 10.0  # how long to wait for another process that writes
MATCHES = 100
# Read-only, full, held by another process for too long, a file system without locks: then the file stays, and is not used.
_NOT_DAMAGE = ("SQLITE_BUSY", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED", "SQLITE_PROTOCOL")

_SCHEMA = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY, folder TEXT UNIQUE, stamp TEXT, id TEXT, command TEXT, model TEXT, data TEXT, status TEXT, started TEXT,
    at REAL, seconds REAL, note TEXT
);
CREATE INDEX newest ON runs (at DESC);
CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = "unicode61 remove_diacritics 2", prefix = '2 3');
"""
_COLUMNS = "folder, id, command, model, data, status, started, seconds, note"


@dataclass(frozen=True)
class Entry:
    """A run as lists show it.

    Attributes:
        folder: name of its folder in the runs folder.
        data: title of its data set.
        status: as in the record; ``interrupted`` where it says running and no process holds its lock; ``broken`` where it cannot be read.
        seconds: time it took, s.
        note: why it cannot be read; in a search, the words around the match.
    """

    folder: str
    id: str
    command: str
    model: str
    data: str
    status: str
    started: str
    seconds: float
    note: str


def listing(root: Path = RUNS) -> tuple[Entry, ...]:
    """The runs under ``root``, newest first; empty where there is no such folder.

    Raises:
        StoreError: the folder cannot be read.
    """
    return _ask(root, f"SELECT {_COLUMNS} FROM runs ORDER BY at DESC, folder", ())


def search(words: Iterable[str], root: Path = RUNS) -> tuple[Entry, ...]:
    """The runs that hold every one of ``words`` (or a word that begins with it), the best match first, at most ``MATCHES``.

    Looked for in all that a record says: names, settings, data, classes, methods, verdicts, notes, versions, machine.

    Raises:
        BadInput: no words.
        StoreError: the folder cannot be read.
    """
    phrases = ['"' + word.replace('"', '""') + '"*' for word in " ".join(words).split() if any(map(str.isalnum, word))]
    if not phrases:
        raise BadInput("search for what? give words, for instance: gleanet runs search resnet20 global")
    shown = _COLUMNS.replace("note", "snippet(words, 0, '', '', ' ... ', 12)")
    query = f"SELECT {shown} FROM words JOIN runs ON key = words.rowid WHERE words MATCH ? ORDER BY bm25(words), at DESC LIMIT {MATCHES}"
    return _ask(root, query, (" ".join(phrases),))


def _ask(root: Path, query: str, values: tuple[str, ...]) -> tuple[Entry, ...]:
    """Ask an index that is up to date; made anew where it is of no use; in memory where none can be kept."""
    stamps = dict(_stamps(root))
    if not stamps:
        return ()
    for place in (root / FILE, root / FILE):
        try:
            return _asked(place, root, stamps, query, values)
        except sqlite3.Error as error:
            if not getattr(error, "sqlite_errorname", "").startswith(_NOT_DAMAGE):
                _remove(root)
    try:
        return _asked(":memory:", root, stamps, query, values)
    except sqlite3.Error as error:
        raise StoreError(f"the runs of {root} cannot be indexed: {error}") from error


def _asked(place: Path | str, root: Path, stamps: dict[str, str], query: str, values: tuple[str, ...]) -> tuple[Entry, ...]:
    with closing(sqlite3.connect(place, timeout=BUSY_S, isolation_level=None)) as index:
        _prepare(index)
        index.execute("BEGIN")  # what is compared is what is asked: another process may write in between
        if _known(index) != stamps:
            index.execute("COMMIT")
            index.execute("BEGIN IMMEDIATE")
            _update(index, root, stamps)
        found = [Entry(*row) for row in index.execute(query, values)]
        index.execute("COMMIT")
    return tuple(_living(root, entry) for entry in found)


def _living(root: Path, entry: Entry) -> Entry:
    if entry.status != "running" or is_locked(root / entry.folder):
        return entry
    return Entry(**{**entry.__dict__, "status": "interrupted"})


def _prepare(index: sqlite3.Connection) -> None:
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = NORMAL")
    if index.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    index.execute("BEGIN IMMEDIATE")  # another process may be doing the same
    if index.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        for name in ("words", "runs"):
            index.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _SCHEMA.split(";\n"):
            index.execute(statement)
        index.execute(f"PRAGMA user_version = {VERSION}")
    index.execute("COMMIT")


def _known(index: sqlite3.Connection) -> dict[str, str]:
    return dict(index.execute("SELECT folder, stamp FROM runs"))


def _update(index: sqlite3.Connection, root: Path, stamps: dict[str, str]) -> None:
    """Take up what has changed. Who read a record just before it changed leaves its older stamp, so the next look reads it again."""
    known = _known(index)
    changed = [name for name, stamp in stamps.items() if known.get(name) != stamp]
    rows = [_row(RunFolder(root / name), stamps[name]) for name in changed]
    for name in [*changed, *(name for name in known if name not in stamps)]:
        index.execute("DELETE FROM words WHERE rowid IN (SELECT key FROM runs WHERE folder = ?)", (name,))
        index.execute("DELETE FROM runs WHERE folder = ?", (name,))
    for row, text in rows:
        key = index.execute(f"INSERT INTO runs (stamp, at, {_COLUMNS}) VALUES ({', '.join('?' * 11)})", row).lastrowid
        index.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (key, text))


def _stamps(root: Path) -> Iterator[tuple[str, str]]:
    """(folder, what tells one state of its record from another) of every run."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot read the runs folder {root}: {error.strerror}") from error
    for name in names:
        with suppress(OSError):  # no run, or gone by now
            status = os.stat(os.path.join(root, name, RECORD))
            yield name, f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


def _row(folder: RunFolder, stamp: str) -> tuple[tuple[Any, ...], str]:
    """A run's columns (stamp, time, then ``_COLUMNS``) and the text to search in."""
    name = folder.folder.name
    try:
        run = folder.read()
    except StoreError as error:
        at = float(stamp.split()[0]) / 1e9
        return (stamp, at, name, name, "", "", "", "broken", "", 0.0, str(error)), _clean(f"{name} broken {error}")
    title = str(run.data.get("title", ""))
    texts = (run.id, run.command, run.model, title, run.status, run.started)
    row = (stamp, _time(run.started, stamp), name, *map(_clean, texts), run.seconds, "")
    return row, _clean(f"{name} {' '.join(_words(run))}")


def _words(run: Run) -> Iterator[str]:
    """All that a record says in words, and its settings with their names."""
    yield from (run.id, run.command, run.model, run.status, run.started[:10], *run.notes)
    for part in (run.data, run.settings, run.versions, run.machine, run.results):
        yield from _flat(part)
    yield from (row.label for row in run.rows)
    for trial in run.trials:
        yield from (trial.method, trial.verdict, trial.reason)


def _flat(value: Any) -> Iterator[str]:
    """Names and values of nested JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is not None and inner is not False:
                yield str(key)
                yield from _flat(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    else:
        yield str(value)


def _clean(text: str) -> str:
    """Text as SQLite takes it: lone surrogates stand for bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _time(started: str, stamp: str) -> float:
    """Seconds since the epoch at which the run started; for a record that does not say, when it was written."""
    try:
        time = datetime.fromisoformat(started)
    except ValueError:
        return float(stamp.split()[0]) / 1e9
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _remove(root: Path) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        with suppress(OSError):  # in memory, then
            (root / name).unlink(missing_ok=True)
