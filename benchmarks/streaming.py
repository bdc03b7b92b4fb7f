"""Loading an ImageNet-layout folder for training: gleanet's streaming against torch's DataLoader over Pillow, interleaved, in one run.

    python benchmarks/streaming.py --rounds 5 --images 512

The rival is the usual loader written by hand, since torchvision need not be installed: a data set that opens a file with Pillow, cuts a
random part (crop, then bilinear resize), mirrors, turns it into a normalised float tensor; DataLoader puts batches together. Both give
batches of float32 [64, 3, 224, 224]. JPEGs are made from scikit-learn's two photographs, cut and resized to sizes usual in ImageNet.

Per core: images divided by processor seconds of the process, its threads and its children, which other processes disturb less.
Also measured: peak memory over few and over many images, and how long a listing takes. Written to benchmarks/results/streaming.json.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.data import ImageSet, epoch, load
from gleanet.data.listing import listing

RESULT = Path(__file__).parent / "results" / "streaming.json"
SIZES = ((500, 375), (375, 500), (500, 333), (400, 400), (640, 480), (300, 225))
BATCH, SIDE, QUALITY = 64, 224, 97
PIXELS = Preprocess()
EPOCH = """
import sys
from gleanet.core.records import Preprocess
from gleanet.data import epoch, load
data = load(sys.argv[1], image_size=224).train
for x, y in epoch(data, 64, 0, 0, augment=True, preprocess=Preprocess()):
    pass
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def photographs(folder: Path, n: int, classes: int, seed: int) -> int:
    """``n`` JPEGs in class folders; returns their bytes."""
    rng = np.random.default_rng(seed)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    total = 0
    for i in range(n):
        width, height = SIZES[int(rng.integers(len(SIZES)))]
        source = sources[int(rng.integers(len(sources)))]
        share = rng.uniform(0.6, 1)
        w, h = int(source.width * share), int(source.height * share)
        left, top = int(rng.integers(source.width - w + 1)), int(rng.integers(source.height - h + 1))
        path = folder / f"n{i % classes:08}" / f"n{i % classes:08}_{i}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = source.crop((left, top, left + w, top + h)).resize((width, height), Image.Resampling.BICUBIC)
        part.save(path, quality=QUALITY)
        total += path.stat().st_size
    return total


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """What people write by hand: the files of class folders, each opened by Pillow, cut, mirrored, normalised."""

    def __init__(self, images: ImageSet, files: list[Path]) -> None:
        self.files, self.labels = files, images.labels.tolist()
        self.mean = torch.tensor(PIXELS.mean).view(3, 1, 1)
        self.std = torch.tensor(PIXELS.std).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with open(self.files[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        left, top, w, h = self.box(image.width, image.height)
        image = image.crop((left, top, left + w, top + h)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub_(self.mean).div_(self.std), self.labels[index]

    @staticmethod
    def box(width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1)
            shape = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                return random.randint(0, width - w), random.randint(0, height - h), w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side


def ours(images: ImageSet, workers: int) -> Callable[[], int]:
    def run() -> int:
        os.environ["GLEANET_WORKERS"] = str(workers)
        return sum(len(y) for _, y in epoch(images, BATCH, 0, 0, augment=True, preprocess=PIXELS))

    return run


def theirs(images: ImageSet, files: list[Path], workers: int) -> Callable[[], int]:
    def run() -> int:
        random.seed(0)
        loader = DataLoader(Pictures(images, files), batch_size=BATCH, shuffle=True, num_workers=workers)
        return sum(len(y) for _, y in loader)

    return run


def processor_seconds() -> float:
    """Of this process with its threads, and of its children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def timed(ways: dict[str, Callable[[], int]], rounds: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """Images per second, by the clock and by processor time, way after way in another order each round; the first round warms up."""
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "core": []} for name in ways}
    rng = np.random.default_rng(seed)
    for number in range(rounds + 1):
        for name in rng.permutation(list(ways)).tolist():
            began, began_cpu = time.perf_counter(), processor_seconds()
            n = ways[name]()
            wall, core = time.perf_counter() - began, processor_seconds() - began_cpu
            if number:
                found[name]["wall"].append(n / wall)
                found[name]["core"].append(n / core)
    return found


def compared(rates: dict[str, dict[str, list[float]]], one: str, other: str, kind: str) -> dict[str, float]:
    each = [a / b for a, b in zip(rates[one][kind], rates[other][kind], strict=True)]
    return {"median": median(each), "lowest": min(each), "highest": max(each), "rounds": len(each)}


def peaks(files: list[Path], folder: Path, counts: tuple[int, ...]) -> dict[str, int]:
    """Peak memory, in bytes, of a process that goes through so many images once (links to the same files)."""
    found = {}
    for n in counts:
        for split, some in (("train", n), ("val", 20)):
            for i in range(some):
                path = folder / str(n) / split / f"c{i % 10}" / f"{i}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(files[i % len(files)], path)
        environment = {**os.environ, "GLEANET_WORKERS": "2"}
        done = subprocess.run(
            [sys.executable, "-c", EPOCH, str(folder / str(n))], env=environment, capture_output=True, text=True, check=True
        )
        found[str(n)] = int(done.stdout)
    return found


def listed(folder: Path, n: int) -> dict[str, float]:
    """How long it takes to list ``n`` (empty) files in a thousand class folders."""
    for i in range(n):
        path = folder / f"n{i % 1000:08}"
        if i < 1000:
            path.mkdir(parents=True)
        os.close(os.open(path / f"n{i % 1000:08}_{i}.JPEG", os.O_CREAT | os.O_WRONLY))
    began, began_cpu = time.perf_counter(), time.process_time()
    found = listing(folder)
    seconds, processor = time.perf_counter() - began, time.process_time() - began_cpu
    size = len(found.names) + found.ends.nbytes + found.labels.nbytes
    return {"files": n, "seconds": seconds, "processor_seconds": processor, "bytes_per_file": size / n}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--listed", type=int, default=128_000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        total = photographs(root / "data" / "train", settings.images, 8, settings.seed)
        photographs(root / "data" / "val", 16, 8, settings.seed + 1)
        images = load(str(root / "data"), image_size=SIDE).train
        files = list(listing(root / "data" / "train").paths())
        several = settings.workers
        ways = {
            "gleanet, 1 thread": ours(images, 1),
            "DataLoader, in the process": theirs(images, files, 0),
            f"gleanet, {several} threads": ours(images, several),
            f"DataLoader, {several} processes": theirs(images, files, several),
        }
        rates = timed(ways, settings.rounds, settings.seed)
        memory = peaks(files, root / "memory", (1000, 5000))
        scan = listed(root / "scan", settings.listed)
    pairs = {f"{a} / {b}": (a, b) for a, b in (list(ways)[:2], list(ways)[2:])}
    result: dict[str, Any] = {
        "what": "loading for training: gleanet's streaming against a DataLoader over Pillow, interleaved",
        "settings": {**vars(settings), "batch": BATCH, "side": SIDE, "jpeg_quality": QUALITY, "sizes": SIZES, "bytes": total},
        "images_per_s": {name: {kind: median(each) for kind, each in kinds.items()} for name, kinds in rates.items()},
        "ratios": {name: {kind: compared(rates, *pair, kind) for kind in ("core", "wall")} for name, pair in pairs.items()},
        "rates": rates,
        "peak_bytes": memory,
        "listing": scan,
        "versions": {**versions(), "pillow": PIL.__version__},
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=2).encode() + b"\n")
    sys.stdout.write(json.dumps({key: result[key] for key in ("images_per_s", "ratios", "peak_bytes", "listing")}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
