"""The image files of class folders: found, ordered, and kept small, since a million ``Path`` objects take a gigabyte."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.data.images import Labels

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True, eq=False)
class Listing:
    """The image files of one split, class after class.

    Attributes:
        root: the folder of the class folders.
        names: paths relative to ``root``, one after the other, as the file system spells them.
        ends: int64 [N], where in ``names`` each ends.
        labels: int64 [N]; ``classes``: names in label order.
    """

    root: Path
    names: bytes
    ends: NDArray[np.int64]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, row: int) -> str:
        """Path of a file relative to ``root``."""
        start = int(self.ends[row - 1]) if row else 0
        return os.fsdecode(self.names[start : int(self.ends[row])])

    def path(self, row: int) -> Path:
        return self.root / self.name(row)

    def paths(self) -> Iterator[Path]:
        return (self.path(row) for row in range(len(self)))

    def digest(self) -> bytes:
        """Of all names and labels; not of what is in the files, which for a million of them takes as long as an epoch."""
        found = hashlib.sha256(self.names)
        for array in (self.ends, self.labels):
            found.update(np.ascontiguousarray(array).data)
        return found.digest()


def class_folders(root: Path) -> list[Path]:
    """The folders in ``root``, in alphabetical order; none where it is no folder."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def has_image(folder: Path) -> bool:
    """Whether an image lies directly in ``folder``: a search all the way down could go through a whole disk before it says no."""
    return any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir())


def listing(root: Path) -> Listing:
    """List ``root/CLASS/**/*.jpg``: classes in alphabetical order, the files of a class by their path, part by part.

    Raises:
        DataError: a class without images.
    """
    names: list[bytes] = []
    counts: list[int] = []
    lengths: list[NDArray[np.int64]] = []
    folders = class_folders(root)
    for folder in folders:
        found = sorted(_files(str(folder), f"{folder.name}/"), key=_parts)
        if not found:
            raise DataError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))}): add some, or remove the folder")
        encoded = [os.fsencode(name) for name in found]
        names.append(b"".join(encoded))
        lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
        counts.append(len(found))
    ends = np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, dtype=np.int64)
    labels = np.repeat(np.arange(len(folders), dtype=np.int64), counts)
    return Listing(root, b"".join(names), ends, labels, tuple(folder.name for folder in folders))


def _parts(name: str) -> list[str]:
    return name.split("/")


def _files(folder: str, prefix: str) -> Iterator[str]:
    """Image files below a folder, with ``prefix``; folders that are links are not entered, so no search goes round in circles."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not entry.name.startswith(".") and entry.is_file():
                yield prefix + entry.name
