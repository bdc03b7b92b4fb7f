"""The memory of a streamed set does not grow with it: whole processes over more and more images."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.tiny import photographs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")

# One epoch, all test images, then the largest resident size of this process, in MiB.
CODE = """
import sys
from gleanet.core.records import Preprocess
from gleanet.data import as_input, epoch, load
data = load(sys.argv[1], usual_size=int(sys.argv[2]))
seen = sum(len(y) for _, y in epoch(data.train, 32, 0, 0, augment=True, preprocess=Preprocess()))
assert seen == len(data.train)
inputs = as_input(data.test, Preprocess())
for start in range(0, len(inputs), 32):
    inputs[start : start + 32]
data.train.digest()
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def linked(source: Path, target: Path, per_class: int) -> None:
    """A folder of so many images a class, all of them links to a few files."""
    for split, n in (("train", per_class), ("val", per_class // 2)):
        files = sorted((source / split).rglob("*.JPEG"))
        for name in ("a", "b"):
            (target / split / name).mkdir(parents=True)
            for i in range(n):
                os.link(files[i % len(files)], target / split / name / f"n0144{name}_{i}.JPEG")


def peak(folder: Path, size: int) -> float:
    command = [sys.executable, "-c", CODE, str(folder), str(size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLEANET_WORKERS": "2", "MALLOC_ARENA_MAX": "2"}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=600).stdout)


@pytest.mark.parametrize(
    ("size", "fewer", "more", "noise"),
    [(96, 300, 1500, 24), pytest.param(224, 600, 6000, 128, marks=pytest.mark.slow)],
    ids=["hundreds of small images", "thousands of large images"],
)
def test_peak_memory_does_not_grow_with_the_images(tmp_path: Path, size: int, fewer: int, more: int, noise: int) -> None:
    """Decoded, the further images would take 100 MiB (small) and 2.3 GiB (large). The fewer are enough for the allocator to settle, but
    for how many batches are there at the same moment (``noise``, MiB; a batch of large ones is 19 MiB)."""
    for split, seed in (("train", 0), ("val", 1)):
        photographs(tmp_path / "files" / split, ("x",), 12, sides=(40, 120), seed=seed)
    peaks = []
    for n in (fewer, more):
        linked(tmp_path / "files", tmp_path / str(n), n)
        peaks.append(peak(tmp_path / str(n), size))
    assert peaks[1] - peaks[0] < noise, peaks
