"""Throughput of ``gleanet.train.fit`` against a bare hand-written PyTorch loop: same network, same batches, same steps, interleaved.

    python benchmarks/train_throughput.py --rounds 7 --steps 40

Each round times both, in alternating order, in one process: wall time, and processor time, which other processes disturb less.
Written to benchmarks/results/train_throughput.json.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.data import ImageSet, epoch
from gleanet.nn import build
from gleanet.train import Recipe, fit

RESULT = Path(__file__).parent / "results" / "train_throughput.json"
PIXELS = Preprocess()


def images(n: int) -> ImageSet:
    """Random pixels: the time of a step does not depend on what is in the picture."""
    rng = np.random.default_rng(0)
    names = tuple("0123456789")
    return ImageSet(rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n), names, "random pixels")


def bare(model: nn.Module, data: ImageSet, recipe: Recipe, lr: float) -> None:
    """What a person writes by hand: batches, forward, backward, SGD, one schedule. Nothing is watched, saved or shown."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = -(-len(data) // recipe.batch_size)
    sgd = torch.optim.SGD(model.parameters(), lr=lr, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps)
    for x, y in epoch(data, recipe.batch_size, 0, 0, augment=True, preprocess=PIXELS):
        sgd.zero_grad()
        F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        schedule.step()


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """Throughput of fit relative to bare, over the rounds."""
    each = [bare_s / fit_s for bare_s, fit_s in zip(times["bare"], times["fit"], strict=True)]
    return {"median": median(each), "lowest": min(each), "highest": max(each), "rounds": len(each)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps a measurement")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    data, lr = images(settings.steps * settings.batch_size), 0.05
    recipe = Recipe(1, batch_size=settings.batch_size, lr=lr)
    start = build(settings.model, seed=0)
    seconds: dict[str, list[float]] = {"bare": [], "fit": []}
    processor: dict[str, list[float]] = {"bare": [], "fit": []}
    for number in range(settings.rounds + 1):
        for way in ("bare", "fit") if number % 2 else ("fit", "bare"):
            model = copy.deepcopy(start)
            began, began_cpu = time.perf_counter(), time.process_time()
            if way == "fit":
                fit(model, data, recipe, preprocess=PIXELS, seed=0)
            else:
                bare(model, data, recipe, lr)
            seconds[way].append(time.perf_counter() - began)
            processor[way].append(time.process_time() - began_cpu)
    seconds = {way: times[1:] for way, times in seconds.items()}  # the first round warms up
    processor = {way: times[1:] for way, times in processor.items()}
    wall, cpu = ratios(seconds), ratios(processor)
    rates = {way: len(data) / median(times) for way, times in seconds.items()}
    result = {
        "what": "training throughput: gleanet.train.fit against a bare PyTorch loop on the same network and batches, interleaved",
        "settings": {**vars(settings), "seed": 0, "images": len(data), "lr": lr, "data": data.name, "augment": True},
        "images_per_s": rates,
        "fit_over_bare": wall,
        "fit_over_bare_processor_time": cpu,
        "seconds": seconds,
        "processor_seconds": processor,
        "versions": versions(),
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=2).encode() + b"\n")
    sys.stdout.write(
        f"bare {rates['bare']:.1f} images/s, fit {rates['fit']:.1f} images/s; fit/bare {wall['median']:.3f} by wall time, "
        f"{cpu['median']:.3f} by processor time -> {RESULT}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
