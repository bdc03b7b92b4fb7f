"""What a data set is once it is loaded: pixels as uint8, decoded already or as they are asked for, labels as int64, and names."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.core.lazy import Lazy

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

# What is decoded whole: anything larger is refused before memory is asked for (ImageNet at 64x64 is 15.7 GB and still fits).
MAX_BYTES = 16 * 2**30


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images of one size.

    Args:
        images: uint8 [N, 3, H, W], RGB, 0 to 255, N > 0; where they are too many for memory, an array that decodes them as they are asked
            for, see :class:`gleanet.data.stream.Stream`. Slices and arrays of indices are pixels in memory either way.
        labels: int64 [N], each in [0, len(classes)).
        classes: class names in label order.
        name: what to call it beside a figure, e.g. "CIFAR-10 (JPEG q75) test".

    Raises:
        DataError: no images, arrays that do not fit together, or a label outside the classes (the first such row is named).
    """

    images: Pixels | Lazy
    labels: Labels
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise DataError(f"{self.name}: images must be uint8 [N, 3, H, W], got {self.images.dtype} {list(self.images.shape)}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            found = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(f"{self.name}: labels must be int64 [{len(self.images)}], one per image, got {found}")
        if len(self.images) == 0:
            raise DataError(f"{self.name} holds no images: give a data set with at least one")
        check_labels(self.labels, len(self.classes), self.name)

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> "ImageSet":
        """The images at ``indices`` [M], in that order, copied unless they are streamed. Classes and name stay the same.

        Raises:
            DataError: ``indices`` is empty.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        images = self.images.take(chosen) if isinstance(self.images, Lazy) else self.images[chosen]
        return ImageSet(images=images, labels=self.labels[chosen], classes=self.classes, name=self.name)

    @property
    def pixels(self) -> Pixels:
        """All images, in memory: streamed ones are decoded for it."""
        return self.images[:] if isinstance(self.images, Lazy) else self.images

    def in_memory(self, most: int) -> "ImageSet":
        """The same, its streamed images decoded once and for all where they take at most ``most`` bytes."""
        if not isinstance(self.images, Lazy) or int(np.prod(self.images.shape)) > most:
            return self
        return replace(self, images=self.pixels)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of labels and pixels; of streamed images, of labels and the names of their files."""
        found = hashlib.sha256(np.ascontiguousarray(self.labels).data)
        if isinstance(self.images, Lazy):
            found.update(self.images.digest())
        else:
            found.update(np.ascontiguousarray(self.images).data)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set over the same classes.

    Args:
        name: what the user asked for, e.g. "cifar10-jpeg".
        title: what to print beside every figure, e.g. "CIFAR-10 (JPEG q75)" or "digits 16x16".
        train: images to train, calibrate and recycle on.
        test: images to measure accuracy on.
        classes: class names in label order, those of both sets.
        source: where the pixels came from: a folder, or a library.
        complete: False when this is known to be only a part of the set it belongs to.
        flip: whether a mirrored image keeps its label (False for digits: a mirrored 2 is no 2).

    Raises:
        DataError: the two sets differ in classes or in image size.
    """

    name: str
    title: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    source: str
    complete: bool
    flip: bool = True

    def __post_init__(self) -> None:
        if not self.train.classes == self.test.classes == self.classes:
            counts = f"{len(self.train.classes)} classes to train on, {len(self.test.classes)} to test on"
            raise DataError(f"{self.name}: training and test set must have the same classes, got {counts}")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            train, test = size_text(self.train.images), size_text(self.test.images)
            raise DataError(f"{self.name}: training images are {train}, test images {test}: resize them to one size first")


def check_labels(labels: Labels, n_classes: int, where: str) -> None:
    """Raise DataError naming the first row of ``labels`` [N] that is outside [0, ``n_classes``)."""
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"{where}: row {row} has label {int(labels[row])}, outside the {n_classes} classes (0 to {n_classes - 1})")


def check_size(n: int, height: int, width: int, where: str) -> None:
    """Raise DataError where ``n`` RGB images of ``height`` x ``width`` pixels would not fit :data:`MAX_BYTES`."""
    need = n * 3 * height * width
    if need > MAX_BYTES:
        gib = need / 2**30
        limit = f"the limit is {MAX_BYTES // 2**30}: resize them or use fewer"
        raise DataError(f"{where}: {n:,} images of {width}x{height} need {gib:.1f} GiB of memory, {limit}")


def size_text(images: Pixels | Lazy) -> str:
    """``images`` [N, 3, H, W] -> "WxH"."""
    return f"{images.shape[3]}x{images.shape[2]}"


def counts_text(train: int, test: int) -> str:
    """``50000, 10000`` -> "50,000 train + 10,000 test images"."""
    return f"{train:,} train + {test:,} test images"
