"""What FCR adds to a training step: the same steps with and without it, in turns, in one process.

    python benchmarks/fcr_overhead.py --rounds 9 --steps 20

Written to benchmarks/results/fcr_overhead.json. "features" is measured after its one event, whose own time is given beside it.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.nn import build
from gleanet.prune import FCR

RESULT = Path(__file__).parent / "results" / "fcr_overhead.json"
WAYS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "features": {"recycle": "features"},
    "weights": {"recycle": "weights"},
    "weights, taylor": {"recycle": "weights", "criterion": "taylor"},
    "weights, activation": {"recycle": "weights", "criterion": "activation"},
}


class Loop:
    """A bare training loop that can be stopped and gone on with, so that several take turns."""

    def __init__(self, start: nn.Module, settings: dict[str, Any] | None, batch: int, images: int) -> None:
        self.net = copy.deepcopy(start).train()
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        self.x, self.y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
        example = torch.zeros(1, 3, 32, 32)
        self.fcr = None if settings is None else FCR(self.net, example, flops=0.5, total_steps=100_000, images=images, **settings)

    def steps(self, count: int) -> float:
        """Seconds of so many steps."""
        began = time.perf_counter()
        for _ in range(count):
            self.sgd.zero_grad()
            F.cross_entropy(self.net(self.x), self.y).backward()  # type: ignore[no-untyped-call]
            self.sgd.step()
            if self.fcr is not None:
                self.fcr.step()
        return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps a measurement: one ranking of the literal form")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    start = build("resnet20", seed=0)
    loops = {name: Loop(start, way, settings.batch, settings.images) for name, way in WAYS.items()}
    before = settings.images // settings.batch - 1
    loops["features"].steps(before)
    with_event = loops["features"].steps(1)
    for loop in loops.values():
        loop.steps(3)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(settings.rounds):
        names = list(WAYS)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds[name].append(loops[name].steps(settings.steps))
    step = median(seconds["none"]) / settings.steps
    ratios = {}
    for name in list(WAYS)[1:]:
        each = [with_it / without for with_it, without in zip(seconds[name], seconds["none"], strict=True)]
        ratios[name] = {"median": median(each), "lowest": min(each), "highest": max(each)}
    result = {
        "what": "time of a training step with FCR to one without, interleaved",
        "settings": {**vars(settings), "network": "resnet20", "seed": 0, "data": "random pixels"},
        "ratios": ratios,
        "step_seconds": step,
        "event_seconds": with_event - step,
        "seconds": seconds,
        "versions": versions(),
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=1).encode() + b"\n")
    sys.stdout.write("".join(f"{name}: {ratio['median']:.3f}\n" for name, ratio in ratios.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
