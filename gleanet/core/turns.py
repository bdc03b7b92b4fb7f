"""Work that one process at a time does while the others wait: a download, an environment that is set up.

A file lock, as of a run's folder (:mod:`gleanet.core.lock`): the operating system releases it when its process ends, however it ends.
POSIX alone; on Windows, and on file systems without locks, nobody waits, and the caller is told so.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def alone(target: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Inside the block no other process, and no other thread, is in a block for ``target``.

    The lock file ``.NAME.lock`` lies beside ``target`` and is removed at the end. Yields whether there is a lock: False where the system or
    the file system has none.

    Args:
        waiting: called once, where another one is at work.

    Raises:
        OSError: the lock file cannot be made, or is a link.
    """
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, locked = _taken(path, waiting)
    try:
        yield locked
    finally:
        if locked:  # removed before the lock is released: a process that waits for it sees that the file is gone, and makes a new one
            path.unlink(missing_ok=True)
        os.close(handle)
        if not locked:  # Windows removes no open file
            path.unlink(missing_ok=True)


def _taken(path: Path, waiting: Callable[[], None]) -> tuple[int, bool]:
    """An open file that is still the one at ``path``, and whether it is locked."""
    called = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            locked = _lock(handle, wait=False)
            if locked is False and not called:
                called = True
                waiting()
            if locked is False:
                locked = _lock(handle, wait=True)
            if locked is None or _is_at(handle, path):
                return handle, locked is not None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool | None:
    """Lock an open file. False: another one holds it, and we do not wait. None: there are no locks here."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(handle))
