"""Bea-Mish against Mish, Swish and ReLU: the same training for every activation and seed, on CIFAR-10 (JPEG q75).

    GLEANET_DATA=DATA python benchmarks/beamish.py [--networks squeezenet,resnet20] [--threads 1]

The learning rate is tuned alike for every activation: with seed 100, on 8,000 of the 10,000 training images, judged by the other 2,000;
never by the test images. One file a training, in benchmarks/results/beamish/; those that are there are not run again, and one that was cut
short goes on where it was (its state is kept beside the results until it is done).
To see how far it is: python benchmarks/beamish.py --status
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
from gleanet.data import ImageSet, calibration, load
from gleanet.nn import BeaMish, build
from gleanet.nn.activations import activation
from gleanet.nn.family import gain
from gleanet.train import Recipe, fit, predict

RESULTS = Path(__file__).parent / "results" / "beamish"
TRAIN_IMAGES, VALIDATION, EPOCHS, BATCH = 10_000, 2_000, 5.0, 32
TUNING_SEED = 100
PIXELS = Preprocess()


@dataclass(frozen=True)
class Plan:
    """One network's trainings; the best of ``rates`` for each activation is its peak learning rate."""

    network: str
    activations: tuple[str, ...]
    seeds: int
    rates: tuple[float, ...]


PLANS = {
    "squeezenet": Plan(
        "squeezenet1_1_cifar",
        ("mish", "beamish(alpha=1,beta=1.5)", "beamish-normalized(beta=2)", "beamish-learnable", "silu", "relu"),
        5,
        (0.003, 0.006),
    ),
    "resnet20": Plan("resnet20", ("mish", "beamish(alpha=1,beta=1.5)", "relu"), 3, (0.05,)),
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
        rates = {function: tuned(name, function, train) for function in plan.activations}
        for seed in range(plan.seeds):  # seed by seed, so that what there is can be compared
            for function in plan.activations:
                recipe = Recipe(EPOCHS, batch_size=BATCH, lr=rates[function])
                cell(file_of(name, function, seed), plan, function, seed, recipe, train, data.test)
    return 0


def tuned(name: str, function: str, images: ImageSet) -> float:
    """The learning rate of this activation that does best on the validation images; the only one where there is but one."""
    plan = PLANS[name]
    if len(plan.rates) == 1:
        return plan.rates[0]
    train, judge = images.subset(np.arange(VALIDATION, len(images))), images.subset(np.arange(VALIDATION))
    found = {}
    for rate in plan.rates:
        path = RESULTS / "tuning" / f"{file_of(name, function, TUNING_SEED).stem}-{rate:g}.json"
        recipe = Recipe(EPOCHS, batch_size=BATCH, lr=rate)
        found[rate] = cell(path, plan, function, TUNING_SEED, recipe, train, judge)["accuracy"]
    return max(plan.rates, key=lambda rate: float(found[rate]))


def cell(path: Path, plan: Plan, function: str, seed: int, recipe: Recipe, train: ImageSet, judge: ImageSet) -> dict[str, Any]:
    """The record of a training: read where it is there, else made."""
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    state = path.with_suffix(".state")
    result = one(plan, function, seed, recipe, train, judge, state)
    write_bytes(path, json.dumps(result, indent=1).encode() + b"\n")
    state.unlink(missing_ok=True)
    sys.stderr.write(f"{path.stem}: {result['accuracy']:.2%}, {result['seconds'] / 60:.1f} min\n")
    sys.stderr.flush()
    return result


def file_of(network: str, function: str, seed: int) -> Path:
    """Where a training's result lies."""
    plain = function.replace("(", "-").replace(")", "").replace("=", "").replace(",", "-")
    return RESULTS / f"{network}-{plain}-{seed}.json"


def one(plan: Plan, function: str, seed: int, recipe: Recipe, train: ImageSet, judge: ImageSet, state: Path) -> dict[str, Any]:
    """Train once; the record."""
    began = time.perf_counter()
    net = build(plan.network, activation=function, seed=seed)
    trouble, hits, points = "", np.zeros(len(judge), dtype=bool), []
    state.parent.mkdir(parents=True, exist_ok=True)
    try:
        _, curve = fit(net, train, recipe, preprocess=PIXELS, seed=seed, checkpoint=state)
        hits = predict(net, judge.images, PIXELS).argmax(1) == judge.labels
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
        "data": {"title": "CIFAR-10 (JPEG q75)", "trained_on": len(train), "judged_by": judge.name, "test": len(judge)},
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
        plan = PLANS[name]
        for function in plan.activations:
            tuning = [RESULTS / "tuning" / f"{file_of(name, function, TUNING_SEED).stem}-{rate:g}.json" for rate in plan.rates]
            files = [*(tuning if len(tuning) > 1 else ()), *(file_of(name, function, seed) for seed in range(plan.seeds))]
            sys.stdout.write(f"{name:<12}{function:<28}{'  '.join(map(_standing, files))}\n")
    return 0


def _standing(path: Path) -> str:
    if path.is_file():
        return f"{json.loads(path.read_text(encoding='utf-8'))['accuracy']:.2%}"
    return "begun" if path.with_suffix(".state").is_file() else "-"


if __name__ == "__main__":
    sys.exit(main())
