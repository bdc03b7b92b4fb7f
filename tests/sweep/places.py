"""A place that needs no time: a cell's result depends on its command line alone."""

import zlib
from pathlib import Path
from typing import Any

from gleanet.core.records import Run
from gleanet.core.store import RunFolder
from gleanet.sweep.place import Ended
from gleanet.sweep.process import CELLS, Job

N = 1000


def correct(words: tuple[str, ...]) -> int:
    return 400 + zlib.crc32(" ".join(words).encode()) % 500


def record(job: Job, status: str = "done") -> Run:
    value = correct(job.words) / N
    results: dict[str, Any] = {"accuracy": {"value": value, "low": value - 0.03, "high": value + 0.03, "n": N}}
    return Run(job.name, job.words[0], "resnet8", status, "2026-01-02T03:04:05+00:00", 1.0, {}, {}, {}, results=results)


class Scripted:
    """Takes ``slots`` cells at a time and ends the last one first. ``troubles``: part of a command line -> what goes wrong, try by try.

    ``ctrl_c``: after so many cells, Ctrl-C.
    """

    def __init__(self, troubles: dict[str, list[str]] | None = None, *, slots: int = 1, ctrl_c: int | None = None) -> None:
        self.troubles = {key: list(values) for key, values in (troubles or {}).items()}
        self.slots, self.ctrl_c = slots, ctrl_c
        self.started: list[Job] = []
        self.running: list[Job] = []
        self.root = Path()
        self.stopped = self.closed = self.cleared = False

    def open(self, root: Path) -> None:
        self.root = root

    def room(self) -> int:
        return self.slots - len(self.running)

    def start(self, job: Job) -> None:
        assert self.room() > 0
        self.started.append(job)
        self.running.append(job)

    def wait(self) -> Ended:
        if self.ctrl_c is not None and len(self.started) > self.ctrl_c:
            raise KeyboardInterrupt
        job = self.running.pop()
        for key, left in self.troubles.items():
            if key in " ".join(job.words) and left and (trouble := left.pop(0)):
                return Ended(job, trouble)
        folder = self.root / CELLS / job.name
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write(record(job))
        return Ended(job)

    def clear(self) -> None:
        self.cleared = True

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True
