"""What a training step costs on 224 x 224 images, for the ImageNet ResNets: seconds an image, and memory by batch size.

    python benchmarks/imagenet_steps.py --rounds 3

A step is what ``gleanet train`` does for a batch: forward, loss, backward, SGD with momentum; float32, channels last, one thread. Seconds
are medians over rounds in which the networks take turns. The memory is the peak of a process of its own that takes two steps of that batch;
what grows with the batch is the activations that wait for the backward pass.
Written to benchmarks/results/imagenet_steps.json.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.nn import build, cost
from gleanet.train import Recipe
from gleanet.train.recipe import optimizer

RESULT = Path(__file__).parent / "results" / "imagenet_steps.json"
NETWORKS = ("resnet18", "resnet34", "resnet50")
SIDE = 224
SMALL, LARGE = 4, 12  # images a step


def stepper(name: str, batch: int) -> Callable[[], None]:
    """A network with its optimizer: each call is one step on random pixels."""
    net = build(name, seed=0).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer(net, Recipe(1), 0.01)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, SIDE, SIDE, generator=generator).to(memory_format=torch.channels_last)
    y = torch.randint(0, 1000, (batch,), generator=generator)

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        sgd.step()

    return step


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def one_memory(name: str, batch: int) -> int:
    """Peak bytes of a process that takes two steps; batch 0: none."""
    command = [sys.executable, __file__, "--peak-of", name, "--batch", str(batch)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak-of", default=None, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.peak_of:
        step = stepper(settings.peak_of, max(1, settings.batch))
        for _ in range(2 if settings.batch else 0):
            step()
        sys.stdout.write(f"{peak()}\n")
        return 0
    steps = {name: stepper(name, settings.batch) for name in NETWORKS}
    seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
    processor: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for number in range(settings.rounds + 1):
        for name in NETWORKS:
            began, began_cpu = time.perf_counter(), time.process_time()
            steps[name]()
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - began) / settings.batch)
                processor[name].append((time.process_time() - began_cpu) / settings.batch)
    networks: dict[str, dict[str, Any]] = {}
    for name in NETWORKS:
        found = cost(build(name, seed=0), torch.zeros(1, 3, SIDE, SIDE))
        memory = {str(batch): one_memory(name, batch) for batch in (0, SMALL, LARGE)}
        networks[name] = {
            "macs": found.macs,
            "params": found.params,
            "seconds_per_image": median(seconds[name]),
            "processor_seconds_per_image": median(processor[name]),
            "peak_bytes": memory,
            "bytes_per_image": (memory[str(LARGE)] - memory[str(SMALL)]) / (LARGE - SMALL),
        }
    result = {
        "what": "cost of a training step on 224 x 224 images: forward, loss, backward, SGD; float32, one thread",
        "settings": {"rounds": settings.rounds, "batch": settings.batch, "side": SIDE, "seed": 0, "memory_batches": [SMALL, LARGE]},
        "networks": networks,
        "seconds": seconds,
        "processor_seconds": processor,
        "versions": versions(),
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=2).encode() + b"\n")
    sys.stdout.write(json.dumps(networks, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
