"""Real processes in tests: waiting for what they do, and seeing that none is left."""

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil  # type: ignore[import-untyped]

PAUSE_S = 0.01
TRIES = 30_000


def wait_for(seen: Callable[[], object], process: "subprocess.Popen[Any]") -> None:
    """Return when ``seen`` is true or the process has ended."""
    for _ in range(TRIES):
        if seen() or process.poll() is not None:
            return
        time.sleep(PAUSE_S)
    raise TimeoutError(f"process {process.pid} does not do what is waited for")


def gone(pid: int, tries: int = 1000) -> bool:
    """Whether the process ends, which takes a killed one a moment."""
    return _soon(lambda: not _alive(pid), tries)


def none_left(mark: str) -> bool:
    """Whether all processes end that have this text in their command line or in a variable, as all that those have started."""
    return _soon(lambda: not _marked(mark), 1000)


def _soon(seen: Callable[[], bool], tries: int) -> bool:
    for _ in range(tries):
        if seen():
            return True
        time.sleep(PAUSE_S)
    return False


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _marked(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if process.pid != os.getpid() and any(mark in word for word in words):
            found.append(process.pid)
    return found
