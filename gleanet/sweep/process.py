"""A cell as a process of its own: started, watched, stopped. The same here and in a worker of a cluster."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gleanet.core.errors import StoreError
from gleanet.core.lock import is_locked
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import FINISHED

CELLS = "cells"
DONE = (0, 3)  # exit codes of a command that has its result
RESUMABLE = ("running", "interrupted")
GRACE_S = 60.0  # to the end of a step, and to save it
_RAYS_OWN = tuple(os.path.join(packages, "ray", "") for packages in ("site-packages", "dist-packages"))  # in a worker: copies of libraries
LETTING_GO_S = 15.0  # how long a process that was left alone may take to end


@dataclass(frozen=True)
class Job:
    """A cell for whoever runs it: its name, its command line without ``--out``, what it may use, and further folders to import from."""

    name: str
    words: tuple[str, ...]
    cpus: int
    gpus: float
    imports: tuple[str, ...] = ()


def finished(root: Path, name: str) -> bool:
    """Whether the cell's run in the sweep's folder ``root`` has its result."""
    return _status(root / CELLS / name) in FINISHED


def start(job: Job, root: Path) -> "subprocess.Popen[bytes]":
    """Start the cell, or go on with it where it was killed, in ``root/cells/<name>``; what it says goes to ``<name>.log`` beside it.

    All paths in its record are relative to ``root``, so that they are the same everywhere.
    """
    folder = root / CELLS / job.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    _wait_until_free(folder)
    where = Path(CELLS, job.name)
    if _status(folder) in RESUMABLE:
        words: tuple[str, ...] = (job.words[0], f"--resume={where}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        words = (job.words[0], f"--out={where}", *job.words[1:])
    with open(_log(root, job.name), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "gleanet.sweep.child", *words],
            cwd=root,
            env=_environment(job, os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for whoever started us; we pass it on
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """As by Ctrl-C: it ends its step and saves its state; killed where that takes too long, or at a second Ctrl-C."""
    try:
        process.send_signal(signal.SIGINT)
        process.wait(GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
    process.communicate()


def trouble(job: Job, root: Path, code: int) -> str:
    """Why the cell has no result, in one line; empty where it has one."""
    if code in DONE and finished(root, job.name):
        return ""
    if code < 0:
        return f"its process was ended by signal {-code}"
    lines = [line for line in said(root, job.name).splitlines() if line.strip()]
    ours = [line.removeprefix("gleanet: ") for line in lines if line.startswith("gleanet: ")]
    return (ours or lines or [f"it ended with exit code {code}, and without a result"])[-1][:500]


def said(root: Path, name: str) -> str:
    """What the cell's process has said on standard error."""
    log = _log(root, name)
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def _log(root: Path, name: str) -> Path:
    return root / CELLS / f"{name}.log"


def _status(folder: Path) -> str:
    """What the record says; empty where there is none that can be read."""
    try:
        return RunFolder(folder).read().status
    except StoreError:
        return ""


def _wait_until_free(folder: Path) -> None:
    """A process whose worker was killed ends at once, but not in no time."""
    until = time.monotonic() + LETTING_GO_S
    while folder.is_dir() and is_locked(folder) and time.monotonic() < until:
        time.sleep(0.1)


def _environment(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    """The same number of threads everywhere, because sums depend on it; and what this process can import, that one can."""
    known = [folder or os.getcwd() for folder in sys.path if not any(part in folder for part in _RAYS_OWN)]
    paths = [*known, *(folder for folder in job.imports if folder not in known)]
    found = {**given, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(job.cpus), "COLUMNS": "200"}
    if job.gpus == 0:
        found["CUDA_VISIBLE_DEVICES"] = ""
    if data := given.get("GLEANET_DATA"):
        found["GLEANET_DATA"] = str(Path(data).expanduser().absolute())
    return found
