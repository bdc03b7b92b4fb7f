"""Which peak learning rate recovery wants, and which one the range test finds: ResNet-20 on CIFAR-10 (JPEG q75), half the MACs, 1 epoch.

    GLEANET_DATA=DATA python benchmarks/learning_rate.py WEIGHTS_FOLDER

Two starting points, pruned one-shot: the public checkpoint, which was trained on other pixels and does not teach, and the one trained on
these, which teaches. Each is recovered with four rates, and examined by the range test with three seeds. Written to
benchmarks/results/learning_rate.json after every part; parts that are there are not made again.
"""

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.data import Dataset, calibration, load, to_input
from gleanet.nn import build
from gleanet.prune import prune
from gleanet.train import Recipe, fit, range_test
from gleanet.train.evaluate import predict

RESULT = Path(__file__).parent / "results" / "learning_rate.json"
STARTS = {"resnet20-12fca82f.th": 0.0, "resnet20-jpeg.pt": 0.5}  # weight of the given network as teacher
RATES = (0.005, 0.02, 0.05, 0.1)
SEEDS = (0, 1, 2)
EPOCHS, FLOPS, IMAGES, PIXELS = 1.0, 0.5, 1024, Preprocess()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with the public checkpoints")
    weights, data = parser.parse_args().weights, load("cifar10-jpeg")
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else blank(data)
    for name, distill in STARTS.items():
        given = build("resnet20", weights=weights / name)
        small, recipe = halved(given, data), Recipe(EPOCHS, weight_decay=1e-4, distill=distill)
        part = found["starts"].setdefault(name, {"distill": distill, "range_test": {}, "accuracy": {}})
        for seed in SEEDS:
            if str(seed) not in part["range_test"]:
                rate = range_test(small, data.train, recipe, preprocess=PIXELS, seed=seed, teacher=given)
                keep(found, part["range_test"], str(seed), rate)
        for rate in RATES:
            if f"{rate:g}" not in part["accuracy"]:
                keep(found, part["accuracy"], f"{rate:g}", recovered(small, given, data, recipe, rate))
    return 0


def blank(data: Dataset) -> dict[str, Any]:
    return {
        "what": "accuracy after recovery by peak learning rate, and the rate that the range test finds",
        "settings": {"network": "resnet20", "flops": FLOPS, "epochs": EPOCHS, "images": IMAGES, "weight_decay": 1e-4, "seed": 0},
        "data": {"title": data.title, "train": len(data.train), "test": len(data.test)},
        "starts": {},
        "versions": versions(),
        "machine": machine(),
    }


def halved(given: nn.Module, data: Dataset) -> nn.Module:
    images = calibration(data.train, IMAGES, 0)
    parts = (images.subset(np.arange(at, at + 128)) for at in range(0, IMAGES, 128))
    batches = [torch.from_numpy(to_input(part.pixels, PIXELS)) for part in parts]
    return prune(given, torch.zeros(1, 3, 32, 32), flops=FLOPS, calibration=batches, seed=0)


def recovered(small: nn.Module, teacher: nn.Module, data: Dataset, recipe: Recipe, rate: float) -> float:
    """Accuracy on the test images after recovery with this peak rate."""
    own = Recipe(recipe.epochs, lr=rate, weight_decay=recipe.weight_decay, distill=recipe.distill)
    net, _ = fit(copy.deepcopy(small), data.train, own, preprocess=PIXELS, seed=0, teacher=teacher if own.distill else None)
    return float((predict(net, data.test.images, PIXELS).argmax(1) == data.test.labels).mean())


def keep(found: dict[str, Any], part: dict[str, float], key: str, value: float) -> None:
    part[key] = value
    write_bytes(RESULT, json.dumps(found, indent=2).encode() + b"\n")
    sys.stderr.write(f"{key}: {value:.4g}\n")


if __name__ == "__main__":
    sys.exit(main())
