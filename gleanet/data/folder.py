"""Class folders in the ImageNet layout: ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (or ``val``), or plain ``CLASS/*.jpg``."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.data.cache import cached
from gleanet.data.decode import Encoded, decode_all, encoding
from gleanet.data.digits import split
from gleanet.data.images import Dataset, ImageSet, Labels, Pixels

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
TEST_NAMES = ("test", "val", "valid", "validation")
# Where a folder has no split of its own: every fifth image of a class is for testing, the same ones every time.
TRAIN_SHARE = 0.8
SPLIT_SEED = 0
CACHE_FORMAT = b"gleanet decoded folder 1"


@dataclass(frozen=True)
class _Part:
    """The image files of one split, class after class, and their labels [N]."""

    root: Path
    files: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]


def holds_class_folders(folder: Path) -> bool:
    """Whether ``folder`` has ``train/`` with folders in it, or folders with images in them."""
    return bool(_class_folders(folder / "train")) or any(_has_image(inner) for inner in _class_folders(folder))


def load_folder(folder: Path, name: str, *, progress: Progress = SILENT) -> Dataset:
    """Read class folders as a data set; classes in alphabetical order. Decoded images are cached until a file in the folder changes.

    ``train`` and ``test`` (or ``val`` where there is no ``test`` with class folders); a folder without them is split 80/20 per class.

    Raises:
        DataError: a split is missing, the two splits have different classes, a class has no images, an image cannot be decoded
            or has another size.
    """
    if (folder / "train").is_dir():
        train, test = _given_split(folder)
        images = [_images(part, f"Decode {part.root.name} images", progress) for part in (train, test)]
        how = encoding(train.files[0], str(train.files[0]))
        title = f"{folder.resolve().name} ({how})"
        sets = [
            ImageSet(images=pixels, labels=part.labels, classes=train.classes, name=f"{title} {part.root.name}")
            for part, pixels in zip((train, test), images, strict=True)
        ]
    else:
        part = _scan(folder)
        title = f"{folder.resolve().name} ({encoding(part.files[0], str(part.files[0]))}, split 80/20)"
        pixels = _images(part, "Decode images", progress)
        everything = ImageSet(images=pixels, labels=part.labels, classes=part.classes, name=title)
        halves = split(part.labels, TRAIN_SHARE, SPLIT_SEED)
        sets = [everything.subset(indices) for indices in halves if indices.size]
        if len(sets) < 2:
            raise DataError(f"{folder}: every class has a single image, which leaves none to test on: add images, or train/ and test/")
    return Dataset(name=name, title=title, train=sets[0], test=sets[1], classes=sets[0].classes, source=str(folder), complete=True)


def _given_split(folder: Path) -> tuple[_Part, _Part]:
    test_root = next((folder / name for name in TEST_NAMES if _class_folders(folder / name)), None)
    if test_root is None:
        raise DataError(f"{folder} has train/, but neither test/ nor val/ with one folder per class: put the test images there")
    train, test = _scan(folder / "train"), _scan(test_root)
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        shown = ", ".join(odd[:5]) + (", ..." if len(odd) > 5 else "")
        counts = f"train/ has {len(train.classes)} classes, {test_root.name}/ has {len(test.classes)}"
        raise DataError(f"{folder}: {counts}; only in one of them: {shown}: both need the same class folders")
    return train, test


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _has_image(folder: Path) -> bool:
    # Only directly in it: a search all the way down could go through a whole disk before it says no.
    return any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir())


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file())


def _scan(root: Path) -> _Part:
    files: list[Path] = []
    labels: list[int] = []
    folders = _class_folders(root)
    for label, folder in enumerate(folders):
        found = sorted(_image_files(folder))
        if not found:
            raise DataError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))}): add some, or remove the folder")
        files += found
        labels += [label] * len(found)
    return _Part(root=root, files=tuple(files), labels=np.array(labels, dtype=np.int64), classes=tuple(folder.name for folder in folders))


def _images(part: _Part, what: str, progress: Progress) -> Pixels:
    def make() -> Pixels:
        items: Sequence[Encoded] = part.files
        return decode_all(items, len(part.files), lambda row: str(part.files[row]), what=what, progress=progress)

    return cached(_key(part), len(part.files), make, progress=progress)


def _key(part: _Part) -> str:
    """Names the content by every file's path, size and time of change (to hash a million files would cost what decoding them does)."""
    digest = hashlib.blake2b(CACHE_FORMAT, digest_size=20)
    digest.update(str(part.root.resolve()).encode("utf-8", "surrogateescape"))
    for path in part.files:
        status = path.stat()
        digest.update(f"\0{path.relative_to(part.root)}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
