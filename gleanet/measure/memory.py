"""Peak memory of running a file, taken in a process of its own: the peak of this one is that of everything it ever did."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from gleanet.core.errors import ModelError
from gleanet.core.host import cores
from gleanet.core.progress import SILENT, Progress
from gleanet.measure.runtimes import DEFAULT, Candidate, candidate, load, open_session
from gleanet.measure.session import StrPath

if sys.platform != "win32":
    import resource

CALLS = 2  # ONNX Runtime plans its buffers in the first call, and allocates by that plan from the second on
_CHILD = "import sys; from gleanet.measure.memory import child; child(sys.argv[1])"


def peak_memory(
    path: StrPath | Candidate, *, batch: int = 1, threads: int = 1, runtime: str = DEFAULT, image_shape: tuple[int, ...] | None = None
) -> int:
    """Bytes that opening a file and running it add to a process that has imported the runtime: the largest resident size less that before.

    Counted are weights, buffers, and what of the runtime's own code is needed, which differs between
    runtimes and is most of it for a small file; not counted are the images.

    Args:
        batch: images per call; a file with a fixed batch is run at its own.
        threads: threads per call.
        image_shape: shape of one image, for files that leave it open.

    Raises:
        ModelError: the file cannot be read or run, or the process that ran it was ended, for instance for want of memory.
        SettingsError: an unknown runtime, or one that is not installed.
    """
    one = candidate(path, runtime)
    session = open_session(one, threads=threads)
    shape = (session.batch or batch, *session.image_shape(image_shape))
    asked = json.dumps([str(one.path.absolute()), one.runtime, threads, session.dtype.name, shape])
    # -P: a file in the working folder must not be taken for a library; the path: what this process can import, that one can
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
    done = subprocess.run([sys.executable, "-P", "-c", _CHILD, asked], env=found, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        why = f"its process was ended by signal {-done.returncode}: too little memory?" if done.returncode < 0 else last
        raise ModelError(f"cannot measure the memory of {one.path} in {one.runtime} at batch {shape[0]}: {why}")
    return int(done.stdout.split()[-1])


def peak_memories(
    files: Sequence[Candidate],
    *,
    batch: int = 1,
    threads: int = 1,
    image_shape: tuple[int, ...] | None = None,
    progress: Progress = SILENT,
) -> dict[Candidate, int]:
    """:func:`peak_memory` of each; several at once, because other processes do not change it."""

    def one(file: Candidate) -> int:
        return peak_memory(file, batch=batch, threads=threads, image_shape=image_shape)

    distinct = list(dict.fromkeys(files))
    with progress.task("Measure memory", len(distinct), "files") as advance, ThreadPoolExecutor(max(1, cores() // threads)) as pool:
        found: dict[Candidate, int] = {}
        for file, peak in zip(distinct, pool.map(one, distinct), strict=True):
            found[file] = peak
            advance(1)
    return found


def child(asked: str) -> None:
    """What the process does: import, note, open, run, write the difference to standard output."""
    path, runtime, threads, dtype, shape = json.loads(asked)
    chosen = load(runtime)
    images = np.ones(shape, dtype)
    _forget()
    before = int(psutil.Process().memory_info().rss)
    session = chosen.open_checked(Path(path), threads=threads)
    for _ in range(CALLS):
        session.run(images)
    sys.stdout.write(f"{max(0, _peak() - before)}\n")


def _forget() -> None:
    """Let the peak start again from what is resident now. Linux alone can; elsewhere it includes what the imports took for a moment."""
    reset = Path("/proc/self/clear_refs")
    if os.access(reset, os.W_OK):
        reset.write_text("5")


def _peak() -> int:
    """Largest resident size of this process, in bytes.

    ``ru_maxrss`` would not do on Linux: there it starts with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
