"""Bea-Mish against Mish, Swish and ReLU: the same training for every activation and seed, on CIFAR-10 (JPEG q75).

    GLEANET_DATA=DATA python benchmarks/beamish.py [--networks squeezenet,resnet20] [--threads 1]

One file a training, in benchmarks/results/beamish/; those that are there are not run again, and one that was cut short goes on where it was
(its state is kept beside the results until it is done). To see how far it is: python benchmarks/beamish.py --status
"""

import argparse
import base64
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gleanet.core.errors import GleanetError
from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.data import Dataset, ImageSet, calibration, load
from gleanet.nn import BeaMish, build
from gleanet.nn.activations import activation
from gleanet.nn.family import gain
from gleanet.train import Recipe, fit, predict

RESULTS = Path(__file__).parent / "results" / "beamish"
TRAIN_IMAGES, EPOCHS, BATCH = 10_000, 5.0, 32
PIXELS = Preprocess()


@dataclass(frozen=True)
class Plan:
    """One network's trainings; ``lr`` is the peak learning rate of all its activations."""

    network: str
    activations: tuple[str, ...]
    seeds: int
    lr: float


PLANS = {
    "squeezenet": Plan(
        "squeezenet1_1_cifar",
        ("mish", "beamish(alpha=1,beta=1.5)", "beamish-normalized(beta=2)", "beamish-learnable", "silu", "relu"),
        5,
        0.01,
    ),
    "resnet20": Plan("resnet20", ("mish", "beamish(alpha=1,beta=1.5)", "relu"), 3, 0.05),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(PLANS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--status", action="store_true", help="list the trainings and what is known of them")
    options = parser.parse_args()
    chosen = options.networks.split(",")
    if not set(chosen) <= set(PLANS):
        parser.error(f"networks are {', '.join(PLANS)}")
    if options.status:
        return status(chosen)
    torch.set_num_threads(options.threads)
    data = load("cifar10-jpeg")
    train = calibration(data.train, TRAIN_IMAGES, 0)
    for name in chosen:
        plan = PLANS[name]
        for seed in range(plan.seeds):  # seed by seed, so that what there is can be compared
            for function in plan.activations:
                path = file_of(name, function, seed)
                if not path.is_file():
                    result = one(plan, function, seed, train, data, path.with_suffix(".state"))
                    write_bytes(path, json.dumps(result, indent=1).encode() + b"\n")
                    path.with_suffix(".state").unlink(missing_ok=True)
                    sys.stderr.write(f"{path.stem}: {result['accuracy']:.2%}, {result['seconds'] / 60:.1f} min\n")
    return 0


def file_of(network: str, function: str, seed: int) -> Path:
    """Where a training's result lies."""
    plain = function.replace("(", "-").replace(")", "").replace("=", "").replace(",", "-")
    return RESULTS / f"{network}-{plain}-{seed}.json"


def one(plan: Plan, function: str, seed: int, train: ImageSet, data: Dataset, state: Path) -> dict[str, Any]:
    """Train once; the record."""
    began = time.perf_counter()
    net = build(plan.network, activation=function, seed=seed)
    recipe = Recipe(EPOCHS, batch_size=BATCH, lr=plan.lr)
    trouble, hits, points = "", np.zeros(len(data.test), dtype=bool), []
    state.parent.mkdir(parents=True, exist_ok=True)
    try:
        _, curve = fit(net, train, recipe, preprocess=PIXELS, seed=seed, checkpoint=state)
        hits = predict(net, data.test.images, PIXELS).argmax(1) == data.test.labels
        points = [[point.epoch, point.loss] for point in curve.points]
    except GleanetError as error:
        if "diverged" not in str(error):
            raise
        trouble = str(error)
    factors = [[float(f) for f in (m.alpha, m.beta)] for m in net.modules() if isinstance(m, BeaMish) and m.learnable and not trouble]
    return {
        "what": "accuracy after a short training, one activation function and one seed",
        "settings": {"network": plan.network, "activation": function, "seed": seed, "gain": gain(activation(function)())},
        "recipe": asdict(recipe),
        "data": {"title": data.title, "trained_on": len(train), "test": len(data.test)},
        "accuracy": float(hits.mean()),
        "trouble": trouble,
        "losses": points,
        "factors": factors,
        "hits": base64.b64encode(np.packbits(hits).tobytes()).decode(),
        "seconds": time.perf_counter() - began,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "machine": machine(),
    }


def status(names: list[str]) -> int:
    """List the trainings: done with their accuracy, begun, or still to come."""
    for name in names:
        for function in PLANS[name].activations:
            found = []
            for seed in range(PLANS[name].seeds):
                path = file_of(name, function, seed)
                if path.is_file():
                    found.append(f"{json.loads(path.read_text(encoding='utf-8'))['accuracy']:.2%}")
                else:
                    found.append("begun" if path.with_suffix(".state").is_file() else "-")
            sys.stdout.write(f"{name:<12}{function:<28}{'  '.join(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
