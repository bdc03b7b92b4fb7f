"""Images that are decoded from their files as they are asked for, by threads, so that a million of them take no memory.

Pillow lets go of the interpreter lock while it reads, decodes and resizes, so threads do what processes would do without their copies.
"""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gleanet.core.errors import SettingsError
from gleanet.core.host import cores
from gleanet.core.lazy import Lazy, Rows
from gleanet.data.crops import middle, random_box
from gleanet.data.decode import MAX_PIXELS, Encoded, as_rgb, bombs_are_errors, reading
from gleanet.data.images import Pixels
from gleanet.data.listing import Listing

USUAL_SIZE = 224
MOST_PIXELS = 2**26  # of one file: the largest photographs; decoded they take 200 MB, for as long as it takes to shrink them
MOST_WORKERS = 32
AHEAD = 2  # batches that are decoded while one is used
LONGEST = 16  # sides of a picture, long to short, that is resized whole before its middle is cut out
_large = threading.Lock()  # images above MAX_PIXELS are decoded one at a time

Picture = NDArray[np.uint8]  # [H, W, 3]: as decoders give it, and as convolutions like it (channels last)
Reader = Callable[[int, Picture], None]  # reads one image, by its row of the listing or by its place in the set, into a picture


def workers() -> int:
    """Threads that decode: $GLEANET_WORKERS, else one for each core that this process may use, shared with the other processes of a
    ``torchrun`` on this machine.

    Raises:
        SettingsError: one of the variables is no number above 0.
    """
    chosen = _number("GLEANET_WORKERS", 0)
    return chosen or max(1, min(MOST_WORKERS, cores() // _number("LOCAL_WORLD_SIZE", 1)))


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if text and (not text.isdecimal() or not int(text)):
        raise SettingsError(f"{variable} is {text!r}: it must be a number above 0, or not set")
    return int(text) if text else default


def stream(files: Listing, size: int) -> "Stream":
    """All images of a listing, uint8 [N, 3, ``size``, ``size``]: the middle of each, see :func:`middle_crop`."""
    make = partial(_middles, files, size)
    return Stream(make, np.arange(len(files)), (3, size, size), np.dtype(np.uint8), files)


@dataclass(frozen=True, eq=False)
class Stream(Lazy):
    """The images of some files: indexed, as a classifier is judged on them; :meth:`read`, one batch after the other while others are read.

    Args:
        files: where the pixels are; ``numbers`` are its rows.
    """

    files: Listing

    def digest(self) -> bytes:
        """Of the names of the files and the size: their content is not looked at."""
        return hashlib.sha256(self.files.digest() + np.ascontiguousarray(self.numbers).tobytes() + repr(self.row_shape).encode()).digest()

    def read(self, batches: Iterable[Rows], rngs: Callable[[int], np.random.Generator] | None, *, flip: bool) -> Generator[Pixels]:
        """Batches of uint8 [B, 3, size, size], decoded ahead in threads; closing the iterator ends them.

        Args:
            batches: which images, by their place in this set.
            rngs: place -> what a random crop of that image is drawn with, and whether it is mirrored if ``flip``; None: the middle of each,
                as it is. A crop depends on nothing else, so neither on the number of threads nor on which batches there are.

        Raises:
            DataError: a file is no image, broken, or larger than ``MOST_PIXELS``; names it.
        """

        def one(place: int, out: Picture) -> None:
            path = self.files.path(int(self.numbers[place]))
            if rngs is None:
                middle_crop(path, out)
            else:
                random_crop(path, rngs(place), flip, out)

        return _ahead(one, batches, self.row_shape[1])


def middle_crop(encoded: Encoded, out: Picture, where: str | None = None) -> None:
    """The picture that an image is judged by, into ``out`` [size, size, 3]: see :func:`gleanet.data.crops.middle`.

    Bilinear with antialiasing, which gives the pixels of torchvision's Resize and CenterCrop; a picture that is longer than 16 times its
    height (or higher) differs from those by 1 of 255 at most, and needs no memory for what is cut off.

    Raises:
        DataError: see :meth:`Stream.read`.
    """
    size = len(out)
    with reading(encoded, where or str(encoded), MOST_PIXELS) as image, _its_turn(image):
        (width, height), (left, top) = middle(image.width, image.height, size)
        rgb = as_rgb(image)
        if max(image.size) <= LONGEST * min(image.size):
            cut = rgb.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
        else:
            across, down = image.width / width, image.height / height
            box = (left * across, top * down, (left + size) * across, (top + size) * down)
            cut = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box)
        out[...] = np.asarray(cut)


def random_crop(encoded: Encoded, rng: np.random.Generator, flip: bool, out: Picture, where: str | None = None) -> None:
    """A random part of an image, into ``out`` [size, size, 3]: see :func:`gleanet.data.crops.random_box`; mirrored with probability 1/2.

    A JPEG of which more than twice the size is wanted is decoded at 1/2, 1/4 or 1/8 at once (the inverse transform gives fewer pixels).

    Raises:
        DataError: see :meth:`Stream.read`.
    """
    size = len(out)
    with reading(encoded, where or str(encoded), MOST_PIXELS) as image:
        given_width, given_height = image.size
        left, top, width, height = random_box(given_width, given_height, rng)
        mirrored = flip and rng.random() < 0.5
        if (less := min(width, height) // size) > 1:
            image.draft(None, (given_width // less, given_height // less))
        across, down = image.width / given_width, image.height / given_height
        with _its_turn(image):
            box = (left * across, top * down, (left + width) * across, (top + height) * down)
            cut = as_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
        out[...] = np.asarray(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cut)


def _its_turn(image: Image.Image) -> AbstractContextManager[object]:
    return _large if image.width * image.height > MAX_PIXELS else nullcontext()


def _middles(files: Listing, size: int, rows: Rows) -> Pixels:
    (pixels,) = _ahead(lambda row, out: middle_crop(files.path(row), out), [rows], size)
    return pixels


def _ahead(read: Reader, batches: Iterable[Rows], size: int) -> Generator[Pixels]:
    """Read each of the rows into its batch, uint8 [B, 3, size, size] in channels-last order, while the batches before it are used."""
    waiting: deque[tuple[Pixels, list[Future[None]]]] = deque()
    with bombs_are_errors():
        pool = ThreadPoolExecutor(workers(), thread_name_prefix="decode")
        try:
            for rows in batches:
                pixels = np.empty((len(rows), size, size, 3), dtype=np.uint8)
                waiting.append(
                    (pixels.transpose(0, 3, 1, 2), [pool.submit(read, int(row), out) for row, out in zip(rows, pixels, strict=True)])
                )
                if len(waiting) > AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:  # at the end, at an error, or where the one who asked wants no more
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(pixels: Pixels, parts: list[Future[None]]) -> Pixels:
    for part in parts:
        part.result()
    return pixels
