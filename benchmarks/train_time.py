"""Where the time of a training step goes in ``gleanet.train.fit`` itself: data, forward, loss and backward, optimizer, the rest.

    python benchmarks/train_time.py --model resnet20 --steps 30

The points in time are taken from outside, by hooks: on the CPU with the clock, on a GPU with CUDA events, so that nothing waits for it.
On a GPU, ResNet-18 is trained too, in bfloat16, and its operations a second are set beside those of published single-GPU recipes for
CIFAR-10. Written to benchmarks/results/train_time.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from train_throughput import PIXELS, images

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.settings import Precision
from gleanet.nn import build, cost
from gleanet.train import Recipe, fit, loop
from gleanet.train.step import best_precision

RESULT = Path(__file__).parent / "results" / "train_time.json"
PHASES = ("data", "forward", "loss and backward", "optimizer", "the rest")
WARM_UP = 5  # steps
TRAINING = 3  # operations of a step in those of its forward: the backward takes twice as many

# Operations of the whole training in 10^15, and seconds, on one NVIDIA A100: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
# arXiv 2404.00498, 2024, as the README of github.com/KellerJordan/cifar10-airbench has them (commit 00e4a0a).
PUBLISHED = {
    "airbench94": (0.36, 3.83),
    "airbench94, compiled": (0.36, 3.09),
    "airbench95": (1.4, 10.4),
    "airbench96": (4.9, 34.7),
    "standard ResNet-18 training": (32.3, 7 * 60.0),
}


class Clock:
    """Points in time, each with the phase that ends there."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._points: list[tuple[str, Any]] = []

    def mark(self, phase: str) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._points.append((phase, event))
        else:
            self._points.append((phase, time.perf_counter()))

    def steps(self) -> list[dict[str, float]]:
        """Milliseconds of each phase, by step; the warm-up is left out."""
        if self._cuda:
            torch.cuda.synchronize()
        found: list[dict[str, float]] = []
        for (_, before), (phase, now) in zip(self._points, self._points[1:], strict=False):
            if phase == "data":
                found.append(dict.fromkeys(PHASES, 0.0))
            if found:
                found[-1][phase] += before.elapsed_time(now) if self._cuda else 1e3 * (now - before)
        return found[WARM_UP:]


@contextmanager
def watched(clock: Clock, model: torch.nn.Module) -> Iterator[None]:
    """In the block the steps of ``fit`` on ``model`` leave their points."""

    def batches(*arguments: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = plain(*arguments, **options)
        while True:
            clock.mark("the rest")
            batch = next(pairs, None)
            if batch is None:
                return
            clock.mark("data")
            yield batch

    def marking(phase: str) -> Callable[..., None]:
        return lambda *_: clock.mark(phase)

    names = vars(loop)
    plain = names["epoch"]
    handles = [
        model.register_forward_pre_hook(marking("the rest")),
        model.register_forward_hook(marking("forward")),
        register_optimizer_step_pre_hook(marking("loss and backward")),
        register_optimizer_step_post_hook(marking("optimizer")),
    ]
    names["epoch"] = batches
    try:
        yield
    finally:
        names["epoch"] = plain
        for handle in handles:
            handle.remove()


def where(model_name: str, steps: int, batch_size: int, precision: Precision, device: torch.device) -> dict[str, Any]:
    """Train ``steps`` steps after the warm-up; median milliseconds of each phase, and images a second over all."""
    data = images((steps + WARM_UP) * batch_size)
    model = build(model_name, seed=0).to(device)
    clock = Clock(device)
    with watched(clock, model):
        fit(model, data, Recipe(1, batch_size=batch_size, lr=0.05, precision=precision), preprocess=PIXELS, seed=0)
    each = clock.steps()
    whole = sum(sum(step.values()) for step in each) / 1e3
    return {
        "model": model_name,
        "batch_size": batch_size,
        "steps": len(each),
        "precision": precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "ms": {phase: median(step[phase] for step in each) for phase in PHASES},
        "share": {phase: sum(step[phase] for step in each) / 1e3 / whole for phase in PHASES},
        "images_per_s": len(each) * batch_size / whole,
        "macs": cost(model, torch.zeros(1, *data.images.shape[1:], device=device)).macs,
    }


def per_operation(found: dict[str, Any]) -> dict[str, float]:
    """10^12 operations a second: ours, and those of the published recipes. An operation is a multiplication or an addition."""
    ours = found["images_per_s"] * TRAINING * 2 * found["macs"] / 1e12
    return {f"gleanet, {found['model']}": ours, **{name: 1e3 * peta / seconds for name, (peta, seconds) in PUBLISHED.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps that are timed")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--note", default="", help="what else went on on the machine")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    found = [where(settings.model, settings.steps, settings.batch_size, best_precision(device), device)]
    operations = {}
    if device.type == "cuda":
        found.append(where("resnet18_cifar", 4 * settings.steps, 1024, "bf16", device))
        operations = per_operation(found[-1])
    result = {
        "what": "where the time of a training step goes",
        "settings": {"threads": settings.threads, "seed": 0, "data": "random pixels", "note": settings.note},
        "trainings": found,
        "tera_operations_per_s": operations,
        "versions": versions(),
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=2).encode() + b"\n")
    for each in found:
        shares = ", ".join(f"{phase} {100 * share:.1f} %" for phase, share in each["share"].items())
        sys.stdout.write(f"{each['model']}: {each['images_per_s']:.0f} images/s; {shares} -> {RESULT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
