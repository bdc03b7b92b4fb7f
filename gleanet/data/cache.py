"""Decoded pixels kept on disk, so that 60,000 JPEGs are decoded once. A cache can be deleted at any time: it only saves time.

A cache file is a numpy .npy array followed by the CRC-32 of its bytes; it is read without pickle, and made again when anything is off.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch
from numpy.lib import format as npy

from gleanet.core.errors import StoreError
from gleanet.core.files import replacing
from gleanet.core.progress import SILENT, Progress
from gleanet.data.images import Pixels

CRC_BYTES = 4


def cache_dir() -> Path:
    """Where downloads and decoded images are kept: $GLEANET_CACHE, else the user's cache folder (~/.cache/gleanet on Linux)."""
    chosen = os.environ.get("GLEANET_CACHE")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("gleanet"))


def cached(key: str, n: int, make: Callable[[], Pixels], *, progress: Progress = SILENT) -> Pixels:
    """Return the array of ``key`` from the cache, or ``make`` it and put it there.

    Args:
        key: names the content: two different contents never share a key. Hexadecimal.
        n: the number of images expected; a file with another number is made again.
        make: decodes: () -> uint8 [n, 3, H, W].

    A missing or broken file is made (again); a cache that cannot be written only costs the time next time, and is said once.
    """
    path = cache_dir() / "decoded" / f"{key}.npy"
    images = _read(path, n)
    if images is not None:
        return images
    images = make()
    try:
        _write(path, images)
    except StoreError as error:
        progress.say(f"decoded images are not kept for next time: {error}")
    return images


def _write(path: Path, images: Pixels) -> None:
    whole = np.ascontiguousarray(images)
    with replacing(path) as temporary, temporary.open("wb") as file:
        npy.write_array(file, whole, allow_pickle=False)
        file.write(zlib.crc32(whole.data).to_bytes(CRC_BYTES, "little"))


def _read(path: Path, n: int) -> Pixels | None:
    """The array in ``path`` if the file is whole, else None: header, length and checksum must agree before any of it is used."""
    try:
        with path.open("rb") as file:
            if npy.read_magic(file) != (1, 0):
                return None
            shape, fortran, dtype = npy.read_array_header_1_0(file)
            count = int(np.prod(shape, dtype=np.float64))
            rest = path.stat().st_size - file.tell()
            if dtype != np.uint8 or fortran or len(shape) != 4 or shape[:2] != (n, 3) or rest != count + CRC_BYTES:
                return None
            images = np.fromfile(file, dtype=np.uint8, count=count).reshape(shape)
            return images if zlib.crc32(images.data) == int.from_bytes(file.read(CRC_BYTES), "little") else None
    except (OSError, ValueError):  # missing, unreadable or malformed: all mean "make it again"
        return None
