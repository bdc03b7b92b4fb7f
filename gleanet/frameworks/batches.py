"""The batches of the comparison: real images, always the same, in one file that every adapter reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.data.cache import cache_dir
from gleanet.data.images import Dataset
from gleanet.data.original import ORIGINALS
from gleanet.data.registry import data_root, load
from gleanet.frameworks.spec import BATCH, BATCHES

SIDE = 32
CLASSES = 10


@dataclass(frozen=True, eq=False)
class Batches:
    """``x`` uint8 [B, 64, 3, 32, 32], ``y`` int32 [B, 64], and ``title``: which images they are."""

    x: NDArray[np.uint8]
    y: NDArray[np.int32]
    title: str


def load_batches(name: str | None = None, *, progress: Progress = SILENT) -> Batches:
    """The first 50 batches of 64 training images.

    Args:
        name: a data set as :func:`gleanet.data.load` knows it; None: original CIFAR-10 images where (a part of) its files are here, else
            digits.

    Raises:
        DataError: no such data set, more than 10 classes, images that do not scale to 32 x 32, or fewer than 64 of them.
    """
    data = load(name, progress=progress) if name else _whatever_is_here(progress)
    images, side = data.train.images, data.train.images.shape[2]
    if len(data.classes) > CLASSES or side != data.train.images.shape[3] or SIDE % side or len(images) < BATCH:
        raise DataError(
            f"{data.name}: the network of the comparison takes 10 classes and 32 x 32 pixels (or a divisor): use --data cifar10 or digits"
        )
    n = min(len(images) // BATCH, BATCHES)
    images = images[: n * BATCH].repeat(SIDE // side, axis=2).repeat(SIDE // side, axis=3)
    resized = "" if side == SIDE else f", enlarged to {SIDE}x{SIDE}"
    return Batches(
        x=images.reshape(n, BATCH, 3, SIDE, SIDE),
        y=data.train.labels[: n * BATCH].astype(np.int32).reshape(n, BATCH),
        title=f"{data.title}{resized}: the first {n * BATCH:,} training images",
    )


def _whatever_is_here(progress: Progress) -> Dataset:
    """Original CIFAR-10 images without any download, else digits."""
    for place in (data_root(), cache_dir()):
        for folder in ORIGINALS["cifar10"].folders:
            if place is not None and (place / folder).is_dir():
                found = _read(place / folder, progress)
                if found is not None:
                    return found
    return load("digits")


def _read(folder: Path, progress: Progress) -> Dataset | None:
    """The data set in the folder, None where it is not usable: then another is taken, and the title says which."""
    try:
        found = load(str(folder), progress=progress)
    except DataError as error:
        progress.say(f"{folder} is passed over: {error}")
        return None
    suits = len(found.classes) == CLASSES and found.train.images.shape[2:] == (SIDE, SIDE) and len(found.train) >= BATCH * BATCHES
    return found if suits else None
