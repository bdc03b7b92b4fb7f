"""The official CIFAR files, Python and binary layout, CIFAR-10 and CIFAR-100 (fine labels), whole or in part.

Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, which defines both layouts:

- Python: pickled dicts with ``data`` uint8 [N, 3072] (R, G, B planes, row by row) and ``labels`` (CIFAR-10) or ``fine_labels`` (CIFAR-100).
- binary: records of 1 label byte (CIFAR-10) or 2, coarse then fine (CIFAR-100), and the same 3,072 pixel bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gleanet.core.errors import DataError
from gleanet.data import classes as names
from gleanet.data.images import Dataset, ImageSet, Labels, Pixels, counts_text
from gleanet.data.pickles import MAX_FILE_BYTES, read_pickle

PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """One of the four layouts. ``label`` is the dict key of the labels, or the index of the label byte of ``label_bytes`` in a record."""

    binary: bool
    family: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    meta_key: str
    label: str
    label_byte: int
    label_bytes: int


_TEN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEN_BIN = tuple(f"{name}.bin" for name in _TEN)
LAYOUTS = (
    Layout(False, "cifar10", _TEN, ("test_batch",), "batches.meta", "label_names", "labels", 0, 1),
    Layout(True, "cifar10", _TEN_BIN, ("test_batch.bin",), "batches.meta.txt", "label_names", "labels", 0, 1),
    Layout(False, "cifar100", ("train",), ("test",), "meta", "fine_label_names", "fine_labels", 1, 2),
    Layout(True, "cifar100", ("train.bin",), ("test.bin",), "fine_label_names.txt", "fine_label_names", "fine_labels", 1, 2),
)
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CLASSES = {"cifar10": names.CIFAR10, "cifar100": names.CIFAR100}
WHOLE = (50_000, 10_000)


def layout_of(folder: Path) -> Layout | None:
    """Which official layout ``folder`` holds: the first one of which a training and a test file are there; None if none."""
    for layout in LAYOUTS:
        if all(any((folder / name).is_file() for name in part) for part in (layout.train, layout.test)):
            return layout
    return None


def load_official(folder: Path, name: str, layout: Layout, whole: tuple[int, int] = WHOLE) -> Dataset:
    """Read the batches that are there, as what they are: the title of a part says how many images it has, and ``complete`` is False.

    Args:
        name: what the user asked for.
        whole: how many images the complete set has, (train, test).

    Raises:
        DataError: a file that is truncated, holds something else, or a label outside the classes.
    """
    known = _class_names(folder / layout.meta, layout)
    train, test = (_read_part(folder, part, layout, known) for part in (layout.train, layout.test))
    complete = _is_whole(train[1], whole[0], len(known)) and _is_whole(test[1], whole[1], len(known))
    title = f"{TITLES[layout.family]} original"
    if not complete:
        title += f", a part ({counts_text(len(train[1]), len(test[1]))})"
    return Dataset(
        name=name,
        title=title,
        train=ImageSet(images=train[0], labels=train[1], classes=known, name=f"{title} train"),
        test=ImageSet(images=test[0], labels=test[1], classes=known, name=f"{title} test"),
        classes=known,
        source=str(folder),
        complete=complete,
    )


def _is_whole(labels: Labels, n: int, n_classes: int) -> bool:
    """The complete sets have ``n`` images, equally many of every class."""
    counts = np.bincount(labels, minlength=n_classes)
    return len(labels) == n and bool(np.all(counts == n // n_classes))


def _class_names(path: Path, layout: Layout) -> tuple[str, ...]:
    """The names in the official meta file; without that file those that everybody knows."""
    known = CLASSES[layout.family]
    if not path.is_file():
        return known
    found: object
    if layout.binary:
        try:
            found = path.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
    else:
        found = read_pickle(path).get(layout.meta_key)
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found) or len(found) != len(known):
        raise DataError(f"{path} does not hold {len(known)} class names: use the official file, or remove it")
    return tuple(found)


def _read_part(folder: Path, files: tuple[str, ...], layout: Layout, known: tuple[str, ...]) -> tuple[Pixels, Labels]:
    """Training or test part: the files of it that are there, one after the other -> uint8 [N, 3, 32, 32], int64 [N]."""
    images: list[Pixels] = []
    labels: list[Labels] = []
    for name in files:
        path = folder / name
        if not path.is_file():
            continue
        pixels, targets = _read_binary(path, layout) if layout.binary else _read_python(path, layout)
        outside = np.flatnonzero((targets < 0) | (targets >= len(known)))
        if outside.size:
            row = int(outside[0])
            raise DataError(f"{path}: record {row} has label {int(targets[row])}, outside the {len(known)} classes: use the official file")
        images.append(pixels.reshape(-1, 3, 32, 32))
        labels.append(targets)
    return np.concatenate(images), np.concatenate(labels)


def _read_python(path: Path, layout: Layout) -> tuple[Pixels, Labels]:
    batch = read_pickle(path)
    data, labels = batch.get("data"), batch.get(layout.label)
    if not isinstance(data, np.ndarray) or data.shape[1] != PIXEL_BYTES:
        raise DataError(f"{path} is not a CIFAR batch: 'data' must be uint8 [N, {PIXEL_BYTES}]; use the official files")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise DataError(f"{path} is not a CIFAR batch: {layout.label!r} must be {len(data)} whole numbers; use the official files")
    return data, np.array(labels, dtype=np.int64)


def _read_binary(path: Path, layout: Layout) -> tuple[Pixels, Labels]:
    record = layout.label_bytes + PIXEL_BYTES
    try:
        size = path.stat().st_size
        if size % record or size > MAX_FILE_BYTES:
            advice = f"the records of {TITLES[layout.family]} have {record:,} each; get the file again"
            raise DataError(f"{path} is truncated or not in the binary layout: {size:,} bytes, {advice}")
        records = np.fromfile(path, dtype=np.uint8).reshape(-1, record)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return records[:, layout.label_bytes :], records[:, layout.label_byte].astype(np.int64)
