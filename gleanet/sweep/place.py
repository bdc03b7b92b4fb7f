"""Where cells run: here, one after another, or on a Ray cluster."""

import subprocess
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from gleanet.core.errors import SettingsError
from gleanet.core.progress import Progress
from gleanet.core.sweeps import Resources
from gleanet.sweep.process import Job, said, start, stop, trouble

LOOK_S = 0.05
LINE_EVERY_S = 15.0


@dataclass(frozen=True)
class Ended:
    """One try of a cell: ``trouble`` says in one line why there is no result, else it is empty; ``where`` it was, if that is not here."""

    job: Job
    trouble: str = ""
    where: str = ""


class Place(Protocol):
    """Runs cells of one sweep. Results lie in its folder when ``wait`` returns."""

    def open(self, root: Path) -> None:
        """Take the sweep's folder, with the inputs in it."""

    def room(self) -> int:
        """How many more cells it takes now."""

    def start(self, job: Job) -> None:
        """Take a cell."""

    def wait(self) -> Ended:
        """Wait for any of the cells that it has taken."""

    def clear(self) -> None:
        """After the last cell: remove what is nowhere needed any more."""

    def stop(self) -> None:
        """End all cells so that they can go on later."""

    def close(self) -> None:
        """Let go of what it holds."""


def place(address: str | None, resources: Resources, progress: Progress) -> Place:
    """Here, or the Ray cluster at an address (``auto``: the one of this machine; ``local``: one that is started and ended with the sweep).

    Raises:
        SettingsError: Ray is not installed, there is no cluster, or none of its nodes has what one cell needs.
    """
    if address is None:
        return Here(progress)
    try:
        return cast(Place, import_module("gleanet.sweep.cluster").Cluster(address, resources, progress))
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SettingsError("--ray needs Ray, which is not installed: pip install 'gleanet[distributed]'") from error


class Here:
    """This machine, one cell after another; now and then the line that the cell has said last."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._root = Path()
        self._running: tuple[Job, subprocess.Popen[bytes]] | None = None

    def open(self, root: Path) -> None:
        self._root = root.absolute()

    def room(self) -> int:
        return 0 if self._running else 1

    def start(self, job: Job) -> None:
        self._running = job, start(job, self._root)

    def wait(self) -> Ended:
        assert self._running is not None
        job, process = self._running
        shown, spoken = time.monotonic(), ""
        while process.poll() is None:
            time.sleep(LOOK_S)
            if time.monotonic() - shown >= LINE_EVERY_S:
                shown = time.monotonic()
                line = (said(self._root, job.name).strip().splitlines() or [""])[-1]
                if line != spoken:
                    spoken = line
                    self._progress.say(f"  {line}")
        process.communicate()  # closes what it was held by
        self._running = None
        return Ended(job, trouble(job, self._root, process.returncode))

    def clear(self) -> None:
        return None

    def stop(self) -> None:
        if self._running is not None:
            stop(self._running[1])

    def close(self) -> None:
        if self._running is not None and self._running[1].poll() is None:  # an error of ours on the way
            self._running[1].kill()
