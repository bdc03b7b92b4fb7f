"""Forward and backward of the activations on the CPU, in turns in one process, against torch's own.

    python benchmarks/activations.py --rounds 40

Written to benchmarks/results/activations.json: Bea-Mish as compiled C and, in a process of its own, as torch operations in blocks
(what a machine without a C compiler runs). Every ratio is to torch.nn.functional.mish in the same round.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.nn import BeaMish
from gleanet.nn.beamish_native import library

RESULT = Path(__file__).parent / "results" / "activations.json"
CHANNELS, HEIGHT, WIDTH = 64, 12, 13  # 9,984 numbers an image
BATCHES = (1, 10, 100, 1000)


def candidates() -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> function of x [images, CHANNELS, HEIGHT, WIDTH]."""
    return {
        "F.mish": F.mish,
        "F.silu": F.silu,
        "F.relu": F.relu,
        "plain operations, alpha 1, beta 1.5": lambda x: x * torch.tanh(1.5 * F.softplus(x)),
        "Bea-Mish, alpha 1, beta 1": BeaMish(1.0, 1.0),
        "Bea-Mish, alpha 1, beta 1.5": BeaMish(1.0, 1.5),
        "Bea-Mish, area-normalised, beta 2": BeaMish.normalized(2.0),
        "Bea-Mish, alpha 0.8, beta 1.3": BeaMish(0.8, 1.3),
        "Bea-Mish, learnable": BeaMish(learnable=True),
        "Bea-Mish, learnable for each channel": BeaMish(learnable=True, channels=CHANNELS),
    }


def measure(images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Nanoseconds a number, and how many times as fast as F.mish: medians over the rounds, in which all take turns."""
    generator, shape = torch.Generator().manual_seed(0), (images, CHANNELS, HEIGHT, WIDTH)
    x, grad = (torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(2))
    x.requires_grad_()
    seconds: dict[str, list[float]] = {name: [] for name in candidates()}
    functions = candidates()
    for number in range(rounds + 2):
        for index in torch.randperm(len(functions), generator=generator).tolist():
            name = list(functions)[index]
            x.grad = None
            began = time.perf_counter()
            functions[name](x).backward(grad)  # type: ignore[no-untyped-call]
            took = time.perf_counter() - began
            if number >= 2:  # two rounds to warm up
                seconds[name].append(took)
    return {
        name: {
            "ns": 1e9 * median(times) / x.numel(),
            "over_mish": median(mish / own for mish, own in zip(seconds["F.mish"], times, strict=True)),
        }
        for name, times in seconds.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="at 100 images; more at fewer, fewer at more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        rounds = {images: max(7, min(10 * options.rounds, options.rounds * 100 // images)) for images in BATCHES}
        sizes = {str(images * CHANNELS * HEIGHT * WIDTH): measure(images, rounds[images]) for images in BATCHES}
        json.dump({"how": library()[1], "sizes": sizes}, sys.stdout)
        return 0
    result: dict[str, Any] = {
        "what": "forward and backward of an activation in float32, and how many times as fast as torch.nn.functional.mish",
        "settings": {"rounds": options.rounds, "threads": options.threads, "image": [CHANNELS, HEIGHT, WIDTH], "seed": 0, "data": "normal"},
        "ways": {},
        "load_before": os.getloadavg(),
        "versions": versions(),
        "machine": machine(),
    }
    for way, chosen in (("compiled", "1"), ("torch operations", "0")):
        command = [sys.executable, __file__, "--child", "--rounds", str(options.rounds), "--threads", str(options.threads)]
        done = subprocess.run(command, env={**os.environ, "GLEANET_NATIVE": chosen}, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        if way == "compiled" and not found["how"].endswith(".so"):
            raise SystemExit(f"no compiled functions: {found['how']}")
        result["ways"][way] = found["sizes"]
    write_bytes(RESULT, json.dumps(result, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
