"""One process at a time in a folder, and nobody is ever locked out by one that is gone."""

import fcntl
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from gleanet.core import store
from gleanet.core.errors import BadInput, StoreError
from gleanet.core.lock import is_locked, lock
from tests.core.test_store import NOW, another_process_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")


def test_it_is_held_until_it_is_released(tmp_path: Path) -> None:
    release = lock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(BadInput, match=f"process {os.getpid()} on "):
        lock(tmp_path)
    release()
    assert not is_locked(tmp_path)
    lock(tmp_path)()


def test_the_lock_file_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    with another_process_in(tmp_path / "run") as pid:
        assert is_locked(tmp_path / "run")
    assert (tmp_path / "run" / ".lock").read_text().startswith(f"{pid} ")
    assert not is_locked(tmp_path / "run")
    lock(tmp_path / "run")()


def test_a_holder_that_says_nothing_still_holds(tmp_path: Path) -> None:
    release = lock(tmp_path)
    (tmp_path / ".lock").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"process .* on this host is working") as caught:
        lock(tmp_path)
    assert "\n" not in str(caught.value)
    release()


def test_who_only_looks_does_not_keep_others_out(tmp_path: Path) -> None:
    """A thread that asks all the time; to ask is to hold a shared lock for a moment."""
    stop = threading.Event()
    (tmp_path / ".lock").touch()

    def ask() -> None:
        while not stop.is_set():
            is_locked(tmp_path)
            time.sleep(0.001)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(300):
            lock(tmp_path)()
    finally:
        stop.set()
        asking.join()


def test_a_lock_file_that_its_holder_removes_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder removes lock file and folder and leaves, between our opening the file and our locking it."""
    release, system = lock(tmp_path / "run"), fcntl.flock

    def late(handle: int, operation: int) -> None:
        if (tmp_path / "run" / ".lock").exists() and not removed:
            removed.append(True)
            (tmp_path / "run" / ".lock").unlink()
            (tmp_path / "run").rmdir()
            release()
        system(handle, operation)

    removed: list[bool] = []
    monkeypatch.setattr(fcntl, "flock", late)
    second = lock(tmp_path / "run")
    assert removed
    with pytest.raises(BadInput, match="is working in"):
        lock(tmp_path / "run")
    second()


def test_folders_that_come_and_go_hold_one_at_a_time(tmp_path: Path) -> None:
    """Runs that write nothing remove their folder when they leave, while others are on their way in."""
    folder, inside, turns = tmp_path / "run", [0], [0]
    together: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        for _ in range(150):
            try:
                with store.create(folder, "m", now=NOW):
                    with guard:
                        inside[0] += 1
                        turns[0] += 1
                        together.append(inside[0])
                    time.sleep(0)
                    with guard:
                        inside[0] -= 1
            except (BadInput, StoreError):  # another one is in there, or has just removed the folder: both are right answers
                time.sleep(0)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert turns[0] > 20
    assert max(together) == 1
