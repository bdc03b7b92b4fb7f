"""One training of a comparison, a *cell*: an activation and a seed. It has a file of its own: a finished one is never run again."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gleanet.core.comparison import Cell
from gleanet.core.errors import GleanetError
from gleanet.core.files import write_bytes
from gleanet.core.progress import SILENT, Advance, Progress
from gleanet.core.records import Curve, dumps, loads
from gleanet.core.settings import Device, Training
from gleanet.data import Dataset, ImageSet, calibration
from gleanet.nn import architecture_of, save
from gleanet.pipeline.subject import network, pick_device
from gleanet.pipeline.train import recipe_of
from gleanet.train import fit, predict

CURVE_IMAGES = 2000  # of the judging images, for the accuracy after every epoch


@dataclass(frozen=True)
class Setting:
    """What all cells of a comparison share: network, images to train on, images that judge, recipe."""

    model: str
    weights: str | None
    data: Dataset
    train: ImageSet
    judge: ImageSet
    training: Training
    device: Device = "auto"


def part_of(images: ImageSet, count: int | None) -> ImageSet:
    """So many of the images, balanced over the classes, whatever the seeds are; None: all."""
    return images if count is None else calibration(images, min(count, len(images)), 0)


def slug(activation: str, seed: int) -> str:
    """``beamish(alpha=1,beta=2)``, 0 -> ``beamish-alpha-1-beta-2-0``, a file's name."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', activation).strip('-')}-{seed}"


def cell(setting: Setting, activation: str, seed: int, folder: Path, progress: Progress = SILENT) -> Cell:
    """Train one cell, or read its record where ``folder`` has it; a killed training goes on where it was.

    Order of the images, augmentation and the draws of the initial weights depend on the seed alone, so they are the same for every
    activation; the scale of the weights is the activation's gain. A training that diverges is a result too: ``trouble`` says so.

    Args:
        folder: gets ``<slug>.json`` and the network, ``<slug>.gleanet``.
    """
    name = slug(activation, seed)
    record, state = folder / f"{name}.json", folder / f"{name}.state"
    if record.is_file():
        return loads(record.read_bytes(), Cell, str(record))
    device = pick_device(setting.device)
    net = network(setting.model, setting.weights, setting.data, activation, seed).to(device)
    preprocess = architecture_of(net).preprocess
    seen = _Count(progress)
    began = time.perf_counter()
    trouble, curve = "", Curve(activation, ())
    try:
        _, curve = fit(
            net,
            setting.train,
            recipe_of(setting.training, setting.data.flip, device),
            preprocess=preprocess,
            seed=seed,
            evaluate=setting.judge.subset(np.arange(min(CURVE_IMAGES, len(setting.judge)))),
            checkpoint=state,
            name=f"{activation}, seed {seed}",
            progress=seen,
        )
    except GleanetError as error:
        if "diverged" not in str(error):
            raise
        trouble = str(error)
    seconds = (time.perf_counter() - began) * seen.whole / max(1, seen.now)
    correct = 0
    if not trouble:
        guesses = predict(net, setting.judge.images, preprocess, progress=progress).argmax(1)
        correct = int((guesses == setting.judge.labels).sum())
    lr = max((point.lr for point in curve.points), default=setting.training.lr or 0.0)
    found = Cell(activation, seed, correct, len(setting.judge), seconds, lr, curve, trouble)
    if not trouble:
        save(net, folder / f"{name}.gleanet")
    write_bytes(record, dumps(found))
    state.unlink(missing_ok=True)
    return found


class _Count:
    """Passes progress on, and counts the images of the training's own task: all, and those of this sitting."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.whole, self.now, self._first = progress, 1, 0, True

    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        with self.progress.task(what, total, unit) as advance:
            if total is None or unit != "images" or what == "Evaluate":
                yield advance
                return
            self.whole, self._first = total, True

            def count(units: int) -> None:
                if self._first:  # what an earlier sitting did is reported in one go
                    self._first = False
                else:
                    self.now += units
                advance(units)

            yield count

    def say(self, line: str) -> None:
        self.progress.say(line)
