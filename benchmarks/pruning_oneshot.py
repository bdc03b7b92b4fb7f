"""One-shot pruning, no training: accuracy after removal, ours and Torch-Pruning's criteria on the same networks, images and budgets.

    GLEANET_DATA=DATA python benchmarks/pruning_oneshot.py WEIGHTS_FOLDER [--parts resnet20,resnet56,...]

Every row is (network, share of the MACs, method) and is measured once: a file that holds it is not made again. Torch-Pruning's criteria
prune the same inner convolutions to the same MACs (its ratio is searched for), each as it is and with its batch-norm statistics estimated
anew on as many augmented training images as ours is calibrated on. Results: benchmarks/results/pruning_oneshot/PART.json.
"""

import argparse
import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.core.stats import wilson
from gleanet.data import Dataset, ImageSet, calibration, epoch, load, to_input
from gleanet.nn import build, cost
from gleanet.prune import find_groups, prune
from gleanet.train import Recipe, fit
from gleanet.train.evaluate import predict

RESULTS = Path(__file__).parent / "results" / "pruning_oneshot"
IMAGES, SEED, PIXELS = 1024, 0, Preprocess()
MACS = (0.7, 0.5, 0.3)
# what prune() is told; all look at the same images
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, uniform": {"allocation": "uniform"},
    "l2 + features": {"criterion": "l2"},
}
THEIRS: dict[str, tuple[Callable[[], Any], bool]] = {
    "tp l1": (lambda: tp.importance.GroupMagnitudeImportance(p=1), False),
    "tp l2": (lambda: tp.importance.GroupMagnitudeImportance(p=2), False),
    "tp l2, global": (lambda: tp.importance.GroupMagnitudeImportance(p=2), True),
    "tp bn scale": (tp.importance.BNScaleImportance, False),
    "tp fpgm": (tp.importance.FPGMImportance, False),
    "tp lamp, global": (tp.importance.LAMPImportance, True),
    "tp taylor": (tp.importance.GroupTaylorImportance, False),
    "tp taylor, global": (tp.importance.GroupTaylorImportance, True),
    "tp random": (tp.importance.RandomImportance, False),
}
FEWER = ("tp l2", "tp fpgm", "tp taylor")
DIGITS_METHODS: dict[str, dict[str, Any]] = {
    "ours": {},
    "l2 + features": {"criterion": "l2"},
    "l2": {"criterion": "l2", "recycle": "none"},
}
DIGITS = {"mobilenet_v2_cifar": 0.05, "vgg16_bn_cifar": 0.02, "resnet18_cifar": 0.05}  # peak learning rate


@dataclass(frozen=True)
class Case:
    """A network with the images it is calibrated and tested on."""

    net: nn.Module
    data: Dataset
    test: ImageSet
    example: Tensor
    inner: tuple[str, ...]  # paths of the convolutions that may be pruned


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with the public checkpoints")
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    chosen = options.parts.split(",")
    if not set(chosen) <= set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    warnings.simplefilter("ignore", UserWarning)  # Torch-Pruning's advice to its users
    for part in chosen:
        store = Store(RESULTS / f"{part}.json")
        PARTS[part](options.weights, store)
    return 0


class Store:
    """Rows of one part, written after each, so that a run that was stopped goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []

    def missing(self, **key: Any) -> bool:
        return not any(key.items() <= row.items() for row in self.rows)

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        about = {
            "what": "accuracy after one-shot pruning, without any training",
            "settings": {"images": IMAGES, "seed": SEED, "align": 1, "torch_pruning": version("torch-pruning")},
            "versions": versions(),
            "machine": machine(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, json.dumps({**about, "rows": self.rows}, indent=1).encode() + b"\n")
        shown = {k: v for k, v in row.items() if k in ("network", "macs_target", "method", "batch_norm", "accuracy", "seconds")}
        sys.stderr.write(f"{shown}\n")


def case(name: str, weights: Path, data: str) -> Case:
    net = build(name, weights=weights).eval()
    dataset = load(data)
    return Case(net, dataset, dataset.test, torch.zeros(1, 3, 32, 32), _inner(net))


def _inner(net: nn.Module) -> tuple[str, ...]:
    """The convolutions that our plan prunes by default, so that both sides may touch the same ones."""
    groups = find_groups(net, torch.zeros(1, 3, 32, 32)).groups
    return tuple(member.path for group in groups for member in group.producers())


def accuracy(net: nn.Module, images: ImageSet) -> dict[str, Any]:
    found = wilson(int((predict(net, images.images, PIXELS).argmax(1) == images.labels).sum()), len(images))
    return {"accuracy": found.value, "low": found.low, "high": found.high, "n": found.n}


def batches(case: Case, count: int = IMAGES, data: Dataset | None = None) -> list[tuple[Tensor, Tensor]]:
    images = calibration((data or case.data).train, count, SEED)
    parts = (images.subset(np.arange(at, min(at + 128, len(images)))) for at in range(0, len(images), 128))
    return [(torch.from_numpy(to_input(part.pixels, PIXELS)), torch.from_numpy(part.labels)) for part in parts]


def unpruned(name: str, case: Case, store: Store) -> None:
    if store.missing(network=name, method="unpruned"):
        counted = cost(case.net, case.example)
        store.add(network=name, method="unpruned", data=case.data.title, macs=1.0, params=counted.params, **accuracy(case.net, case.test))


def ours(name: str, case: Case, store: Store, budgets: tuple[float, ...], methods: dict[str, dict[str, Any]], count: int = IMAGES) -> None:
    whole = cost(case.net, case.example).macs
    for budget in budgets:
        for method, settings in methods.items():
            if store.missing(network=name, macs_target=budget, method=method):
                began = time.perf_counter()
                small = prune(
                    case.net, case.example, **{"flops": budget, "align": 1, "calibration": batches(case, count), "seed": SEED, **settings}
                )  # fmt: skip
                seconds, counted = time.perf_counter() - began, cost(small, case.example)
                store.add(
                    network=name, macs_target=budget, method=method, data=case.data.title, macs=counted.macs / whole,
                    params=counted.params, seconds=seconds, **accuracy(small, case.test),
                )  # fmt: skip


def theirs(name: str, case: Case, store: Store, budgets: tuple[float, ...], methods: tuple[str, ...]) -> None:
    """Torch-Pruning's criteria at the same MACs, as they are and with batch-norm statistics estimated anew."""
    whole = cost(case.net, case.example).macs
    for budget in budgets:
        for method in methods:
            if store.missing(network=name, macs_target=budget, method=method):
                small = _to_budget(case, *THEIRS[method], budget * whole)
                counted = cost(small, case.example)
                for again in (False, True):
                    if again:
                        estimate_batch_norm(small, case)
                    store.add(
                        network=name, macs_target=budget, method=method, batch_norm=again, data=case.data.title,
                        macs=counted.macs / whole, params=counted.params, **accuracy(small, case.test),
                    )  # fmt: skip


def _to_budget(case: Case, importance: Callable[[], Any], everywhere: bool, goal: float) -> nn.Module:
    """The ratio whose MACs come closest to the goal from below, by bisection."""
    low, high = 0.0, 0.95
    # where every layer keeps one ratio, the MACs do not depend on what is kept, and norms are found fastest
    search = importance if everywhere else THEIRS["tp l2"][0]
    for _ in range(11):
        middle = (low + high) / 2
        fits = cost(_torch_pruning(case, search(), everywhere, middle), case.example).macs <= goal
        low, high = (low, middle) if fits else (middle, high)
    return _torch_pruning(case, importance(), everywhere, high).eval()


def _torch_pruning(case: Case, importance: Any, everywhere: bool, ratio: float) -> nn.Module:
    torch.manual_seed(SEED)
    small = copy.deepcopy(case.net)
    layers = [(path, module) for path, module in small.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    pruner: Any = tp.pruner.MagnitudePruner(
        small, case.example, importance=importance, pruning_ratio=ratio, global_pruning=everywhere, max_pruning_ratio=0.9,
        ignored_layers=[module for path, module in layers if path not in case.inner],
    )  # fmt: skip
    if isinstance(importance, tp.importance.GroupTaylorImportance):
        for x, y in batches(case):
            (nn.functional.cross_entropy(small(x), y) / (IMAGES / 128)).backward()  # type: ignore[no-untyped-call]
    pruner.step()
    small.zero_grad()
    return small


@torch.no_grad()
def estimate_batch_norm(net: nn.Module, case: Case) -> None:
    """Statistics as a plain average over augmented training images, in place: without the augmentation it costs 3 points."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    images = calibration(case.data.train, IMAGES, SEED)
    for x, _ in epoch(images, 128, SEED, 0, augment=True, preprocess=PIXELS, flip=case.data.flip):
        net(x)
    net.eval()


def part_resnet20(weights: Path, store: Store) -> None:
    case_ = case("resnet20", weights / "resnet20-jpeg.pt", "cifar10-jpeg")
    unpruned("resnet20", case_, store)
    ours("resnet20", case_, store, MACS, OURS)
    theirs("resnet20", case_, store, MACS, tuple(THEIRS))


def part_resnet56(weights: Path, store: Store) -> None:
    case_ = case("resnet56", weights / "resnet56-jpeg.pt", "cifar10-jpeg")
    unpruned("resnet56", case_, store)
    ours("resnet56", case_, store, (0.7, 0.5, 0.4, 0.3), {"ours": {}})
    theirs("resnet56", case_, store, (0.5,), FEWER)


def part_original(weights: Path, store: Store) -> None:
    """The public network on the pixels it was trained for: few unseen images are at hand, and those of the training set beside them."""
    case_ = case("resnet56", weights / "resnet56-4bfd9763.th", "cifar-10-batches-py")
    given = {image.tobytes() for image in calibration(case_.data.train, IMAGES, SEED).pixels}
    rest = case_.data.train.subset(np.array([i for i, image in enumerate(case_.data.train.pixels) if image.tobytes() not in given]))
    sets = {"resnet56, test": case_.test, "resnet56, training images, not those of calibration": rest}
    for label, images in sets.items():
        unpruned(label, replace(case_, test=images), store)
    whole = cost(case_.net, case_.example).macs
    for budget in (0.7, 0.5, 0.4, 0.3):
        if any(store.missing(network=label, macs_target=budget) for label in sets):
            small = prune(case_.net, case_.example, flops=budget, align=1, calibration=batches(case_), seed=SEED)
            macs = cost(small, case_.example).macs / whole
            for label, images in sets.items():
                store.add(network=label, macs_target=budget, method="ours", data=case_.data.title, macs=macs, **accuracy(small, images))


def part_images(weights: Path, store: Store) -> None:
    """How the figures depend on the number of calibration images, and on their kind."""
    case_ = case("resnet20", weights / "resnet20-jpeg.pt", "cifar10-jpeg")
    for count in (32, 128, 512, 2048):
        ours("resnet20", case_, store, (0.5,), {f"{count} images": {"calibration": batches(case_, count)}})
    rng = np.random.default_rng(SEED)
    original = batches(case_, IMAGES, load("cifar-10-batches-py"))
    noise = [(torch.from_numpy(rng.standard_normal((128, 3, 32, 32)).astype(np.float32)), y) for _, y in batches(case_)]
    for kind, given in (("original pixels", original), ("white noise", noise), ("digits", list(_digits()))):
        ours("resnet20", case_, store, (0.5,), {f"1024 images: {kind}": {"calibration": given}})


def _digits() -> Iterator[tuple[Tensor, Tensor]]:
    """Scanned digits, enlarged: real images of quite another kind."""
    digits = calibration(load("digits").train, IMAGES, SEED)
    x = nn.functional.interpolate(torch.from_numpy(to_input(digits.pixels, PIXELS)), size=32, mode="bilinear")
    yield from zip(torch.split(x, 128), torch.split(torch.from_numpy(digits.labels), 128), strict=True)


def part_digits(weights: Path, store: Store) -> None:
    """Other structures, trained here on the digits for a few epochs: CIFAR-10 takes hours for these on two cores."""
    data = load("digits")
    for name, lr in DIGITS.items():
        if not any(store.missing(network=name, macs_target=budget, method=method) for budget in MACS for method in DIGITS_METHODS):
            continue
        net = build(name, num_classes=10, seed=SEED)
        fit(net, data.train, Recipe(8, batch_size=64, lr=lr, flip=False), preprocess=PIXELS, seed=SEED)
        case_ = Case(net.eval(), data, data.test, torch.zeros(1, 3, 16, 16), _inner(net))
        unpruned(name, case_, store)
        count = len(data.train) // 2
        ours(name, case_, store, MACS, DIGITS_METHODS, count)


PARTS: dict[str, Callable[[Path, Store], None]] = {
    "resnet20": part_resnet20,
    "resnet56": part_resnet56,
    "original": part_original,
    "images": part_images,
    "digits": part_digits,
}


if __name__ == "__main__":
    sys.exit(main())
