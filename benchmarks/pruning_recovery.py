"""Recovery at equal MACs and equal training: ResNet-20 on CIFAR-10 (JPEG q75), half the MACs, 2 epochs, every method with the same recipe.

    GLEANET_DATA=DATA python benchmarks/pruning_recovery.py WEIGHTS_FOLDER [--methods A,B] [--seeds 0,1,2] [--epochs 2] [--device cuda]

Each method starts from the same checkpoint and takes the same optimizer steps with the same batches (by seed), teacher (the unpruned
network), schedule and peak learning rate. One file a run, in benchmarks/results/pruning_recovery/; runs that are there are not run again.
A file holds which of the test images the network got right, so that any two methods can be compared on the same images.
"""

import argparse
import base64
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.data import Dataset, calibration, load, to_input
from gleanet.nn import build, cost
from gleanet.prune import FCR, prune
from gleanet.train import Recipe, fit
from gleanet.train.evaluate import predict
from gleanet.train.recipe import total_steps

RESULTS = Path(__file__).parent / "results" / "pruning_recovery"
FLOPS, ALIGN, IMAGES = 0.5, 1, 1024
PIXELS, EXAMPLE = Preprocess(), torch.zeros(1, 3, 32, 32)
# one-shot, then recovery; what prune() is told beside the budget
BEFORE: dict[str, dict[str, Any]] = {
    "residual-features": {"criterion": "residual", "allocation": "global", "recycle": "features"},
    "local_residual-features": {"criterion": "local_residual", "allocation": "global", "recycle": "features"},
    "residual-plain": {"criterion": "residual", "allocation": "global", "recycle": "none"},
    "l2": {"criterion": "l2", "allocation": "uniform", "recycle": "none"},
    "l2-features": {"criterion": "l2", "allocation": "uniform", "recycle": "features"},
    "fpgm": {"criterion": "fpgm", "allocation": "uniform", "recycle": "none"},
    "taylor": {"criterion": "taylor", "allocation": "global", "recycle": "none"},
    "taylor-uniform": {"criterion": "taylor", "allocation": "uniform", "recycle": "none"},
}
# while training goes on; what FCR() is told
DURING: dict[str, dict[str, Any]] = {
    "fcr": {"images": IMAGES},
    "fcr-literal": {"recycle": "weights"},
    "fcr-literal-short": {"recycle": "weights", "phase": 0.1, "interval": 5},
    "fcr-literal-strong": {"recycle": "weights", "strength": 1.0},
    "fcr-literal-unaligned": {"recycle": "weights", "aligned": False},
    "sfp": {"recycle": "none"},
    "sfp-short": {"recycle": "none", "phase": 0.1, "interval": 5},
}
METHODS = (*BEFORE, *DURING)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with resnet20-jpeg.pt")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--lr", type=float, default=0.05, help="peak learning rate, for all methods")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    methods = options.methods.split(",")
    if not set(methods) <= set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}")
    base = build("resnet20", weights=options.weights / "resnet20-jpeg.pt").to(options.device)
    data = load("cifar10-jpeg")
    recipe = Recipe(options.epochs, lr=options.lr, weight_decay=1e-4, distill=0.5, temperature=4.0)
    for seed in map(int, options.seeds.split(",")):
        for method in methods:
            path = options.out / f"{method}-{seed}.json"
            if not path.is_file():
                result = one(method, base, data, recipe, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, json.dumps(result, indent=2).encode() + b"\n")
                sys.stderr.write(f"{method} seed {seed}: {result['start']} -> {result['accuracy']:.2%} ({result['seconds']:.0f} s)\n")
    return 0


def one(method: str, base: nn.Module, data: Dataset, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Prune and train by one method; the record of the run."""
    began = time.perf_counter()
    work = _before if method in BEFORE else _during
    start, small = work(method, base, data, recipe, seed)
    hits = predict(small, data.test.images, PIXELS).argmax(1) == data.test.labels
    counted = cost(small, EXAMPLE.to(next(small.parameters()).device))
    return {
        "what": "accuracy after pruning and a short recovery",
        "method": method,
        "settings": {
            "network": "resnet20", "weights": "resnet20-jpeg.pt", "flops": FLOPS, "align": ALIGN, "images": IMAGES, "seed": seed,
            **(BEFORE.get(method) or DURING[method]),
        },
        "recipe": asdict(recipe),
        "data": {"title": data.title, "train": len(data.train), "test": len(data.test)},
        "start": start,
        "accuracy": float(hits.mean()),
        "hits": base64.b64encode(np.packbits(hits).tobytes()).decode(),
        "macs": counted.macs,
        "params": counted.params,
        "seconds": time.perf_counter() - began,
        "versions": versions(),
        "machine": machine(),
    }  # fmt: skip


Pruned = tuple[float | None, nn.Module]


def _before(method: str, base: nn.Module, data: Dataset, recipe: Recipe, seed: int) -> Pruned:
    images = calibration(data.train, IMAGES, seed)
    batches = [
        (torch.from_numpy(to_input(part.pixels, PIXELS)), torch.from_numpy(part.labels))
        for part in (images.subset(np.arange(at, at + 128)) for at in range(0, IMAGES, 128))
    ]
    small = prune(base, EXAMPLE, flops=FLOPS, align=ALIGN, calibration=batches, seed=seed, **BEFORE[method])
    start = float((predict(small, data.test.images, PIXELS).argmax(1) == data.test.labels).mean())
    return start, _train(small, base, data, recipe, seed, None)


def _during(method: str, base: nn.Module, data: Dataset, recipe: Recipe, seed: int) -> Pruned:
    net = copy.deepcopy(base).train()
    fcr = FCR(
        net, EXAMPLE, flops=FLOPS, total_steps=total_steps(len(data.train), recipe), align=ALIGN, seed=seed, **DURING[method]
    )  # fmt: skip
    _train(net, base, data, recipe, seed, lambda step: fcr.step())
    return None, fcr.finish()


def _train(net: nn.Module, teacher: nn.Module, data: Dataset, recipe: Recipe, seed: int, after: Callable[[int], None] | None) -> nn.Module:
    return fit(net, data.train, recipe, preprocess=PIXELS, seed=seed, teacher=teacher, after_step=after)[0]


if __name__ == "__main__":
    sys.exit(main())
