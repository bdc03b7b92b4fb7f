"""One process at a time in a folder: a file lock that the operating system releases when its process ends, however it ends.

The lock file names the holder, "PID HOST". What it names is only for the message: a lock file whose process was killed holds nobody up.
POSIX alone; on Windows there is no lock.
"""

import os
import socket
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from gleanet.core.errors import BadInput, StoreError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
ATTEMPTS = 5  # a process that only looks (is_locked) holds a lock for a moment; nobody who works does so for as short as this
PAUSE_S = 0.05


if sys.platform != "win32":

    def lock(folder: Path) -> Callable[[], None]:
        """Take the folder's lock; the returned function, the end of the process, or the last reference to that function releases it.

        Raises:
            BadInput: another process works there; says which one, and on which host.
            StoreError: the lock file cannot be made or written, or the file system knows no locks.
        """
        try:
            handle = _locked_handle(folder)
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
            except OSError:
                os.close(handle)
                raise
        except OSError as error:
            raise StoreError(f"cannot lock the run folder {folder}: {error.strerror}") from error
        return _Release(handle)

    def is_locked(folder: Path) -> bool:
        """Whether a process works in the folder."""
        try:
            handle = os.open(folder / LOCK, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _locked_handle(folder: Path) -> int:
        """An open, locked lock file that is still the one in the folder: its holder may have removed it while we waited for it."""
        for attempt in range(1, ATTEMPTS + 1):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(handle, folder / LOCK):
                    return handle
            except BlockingIOError as error:
                if attempt == ATTEMPTS:
                    raise BadInput(_taken(handle, folder), slug="run-busy") from error
                time.sleep(PAUSE_S)
            except OSError:
                os.close(handle)
                raise
            os.close(handle)
        raise BadInput(f"other processes come and go in {folder}: choose another folder with --out", slug="run-busy")

    def _same_file(handle: int, path: Path) -> bool:
        try:
            there = os.stat(path)
        except FileNotFoundError:
            return False
        here = os.fstat(handle)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def _taken(handle: int, folder: Path) -> str:
        """Who holds the lock, in words. Closes ``handle``."""
        pid, _, host = os.pread(handle, 300, 0).decode(errors="replace").strip().partition(" ")
        os.close(handle)
        return (
            f"process {pid or 'unknown'} on {host or 'this host'} is working in {folder}: wait for it, or choose another folder with --out"
        )

else:

    def lock(folder: Path) -> Callable[[], None]:
        return lambda: None

    def is_locked(folder: Path) -> bool:
        return True  # unknown: believe the record


class _Release:
    """Closes a lock's file, once: when called, or when nothing refers to it any more."""

    def __init__(self, handle: int) -> None:
        self._close = weakref.finalize(self, os.close, handle)

    def __call__(self) -> None:
        self._close()
