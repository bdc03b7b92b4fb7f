"""Encoded images (JPEG, PNG, ...) to pixels, and the JPEG quality that a file was written with."""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.data.images import Pixels, check_size

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})  # 16-bit and float images have no fixed 0..255 scale
MAX_PIXELS = 2**24  # per image: a classifier's input; more is a mistake or a decompression bomb
# Below this size Python around the decoder takes longer than the decoder, so a second thread only adds waiting for the interpreter lock
# (measured on 2 cores, Pillow 13: 32x32 takes 106 us with one thread, 166 us with two; even at about 128x128).
SERIAL_PIXELS = 160 * 160
CHUNK = 256

# Table K.1 of ITU-T T.81 (the JPEG standard), which the IJG library scales by quality; row by row.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.int64,
).reshape(-1)

Encoded = bytes | Path
Item = TypeVar("Item")


class Unlike(DataError):
    """Images that cannot lie in one array: of different sizes, or too large. Those of a folder can be streamed instead."""


@contextmanager
def reading(encoded: Encoded, where: str, most: int) -> Iterator[Image.Image]:
    """An image, or the file that holds it, open for decoding inside the block: at most ``most`` pixels of at most 8 bits a channel.

    Raises:
        DataError: not an image, broken (whatever its decoder stumbles over), or with more than 8 bits a channel; ``where`` names it.
        Unlike: too large.
    """
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=FORMATS) as image:
            if image.width * image.height > most:
                raise Unlike(f"{where} has {image.width}x{image.height} pixels, more than {most:,}: resize the images first")
            if image.mode not in MODES:
                raise DataError(f"{where} has pixel type {image.mode}: convert the images to 8-bit RGB first")
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{where} is not an image of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{where} has more than {most:,} pixels: resize the images first") from error
    # Pillow's decoders raise whatever a malformed file makes them stumble over; SyntaxError is what its PNG reader raises.
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, OverflowError) as error:
        raise DataError(f"{where} cannot be decoded: {' '.join(str(error).split())}") from error


def decode(encoded: Encoded, where: str) -> Pixels:
    """One encoded image, or the file that holds it -> uint8 [3, H, W], RGB. Transparency is dropped, grey is repeated.

    Raises:
        DataError: see :func:`reading`.
    """
    with reading(encoded, where, MAX_PIXELS) as image:
        return np.asarray(as_rgb(image)).transpose(2, 0, 1)


def as_rgb(image: Image.Image) -> Image.Image:
    """The decoded image in RGB."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, without Pillow's advice to do so
    return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def bombs_are_errors() -> Iterator[None]:
    """Inside the block Pillow raises over images that it would only warn about, so that the error can say which one it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_all(
    items: Iterable[Encoded], n: int, name: Callable[[int], str], *, what: str = "Decode", progress: Progress = SILENT
) -> Pixels:
    """Decode ``n`` encoded images of one size -> uint8 [n, 3, H, W], in their order.

    Args:
        items: yields the encoded images; read a few hundred at a time, so it may stream from a file.
        name: row -> what to call that image in an error.

    Raises:
        DataError: an image that cannot be decoded; no images.
        Unlike: an image that differs in size from the first, or is too large.
    """
    stream = iter(items)
    first = next(stream, None)
    if first is None:
        raise DataError(f"{what}: there are no images")
    with bombs_are_errors():
        one = decode(first, name(0))
        shape = one.shape
        check_size(n, shape[1], shape[2], name(0))
        images = np.empty((n, *shape), dtype=np.uint8)
        images[0] = one

        def fill(start: int, chunk: Sequence[Encoded]) -> int:
            for row, item in enumerate(chunk, start):
                pixels = decode(item, name(row))
                if pixels.shape != shape:
                    sizes = f"{pixels.shape[2]}x{pixels.shape[1]}, {name(0)} is {shape[2]}x{shape[1]}"
                    raise Unlike(f"{name(row)} is {sizes}: images must have one size, so resize or crop them all to one size first")
                images[row] = pixels
            return len(chunk)

        workers = 1 if shape[1] * shape[2] < SERIAL_PIXELS else min(8, os.cpu_count() or 1)
        with progress.task(what, n, "images") as advance:
            advance(1)
            for done in _parallel(fill, _chunks(stream, 1), workers):
                advance(done)
    return images


def _chunks(stream: Iterator[Item], start: int) -> Iterator[tuple[int, list[Item]]]:
    while chunk := list(islice(stream, CHUNK)):
        yield start, chunk
        start += len(chunk)


def _parallel(work: Callable[[int, list[Item]], int], chunks: Iterator[tuple[int, list[Item]]], workers: int) -> Iterator[int]:
    """Run ``work`` over the chunks, at most two rounds of them in memory at a time."""
    if workers == 1:
        yield from (work(*chunk) for chunk in chunks)
        return
    with ThreadPoolExecutor(workers) as pool:
        while group := list(islice(chunks, 2 * workers)):
            yield from pool.map(work, *zip(*group, strict=True))


def encoding(encoded: Encoded, where: str) -> str:
    """How an image was encoded, for titles: "JPEG q75", "JPEG q~83" where no standard table fits exactly, "PNG", ...

    Raises:
        DataError: not an image.
    """
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=FORMATS) as image:
            kind = str(image.format)
            tables: dict[int, list[int]] = getattr(image, "quantization", {}) if kind == "JPEG" else {}
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where} is not an image of a known format ({', '.join(FORMATS)})") from error
    luminance = tables.get(0)
    if luminance is None or len(luminance) != 64:
        return kind
    quality, exact = jpeg_quality(np.array(luminance, dtype=np.int64))
    return f"JPEG q{quality}" if exact else f"JPEG q~{quality}"


def jpeg_quality(luminance: NDArray[np.int64]) -> tuple[int, bool]:
    """Quality 1..100 whose scaled standard table is nearest to ``luminance`` [64] (row by row), and whether it is equal.

    Scaling as in the IJG library (jcparam.c, jpeg_quality_scaling): s = 5000 / q below 50, else 200 - 2 q;
    entry = (s t + 50) / 100, in [1, 255].
    """
    distances = {quality: int(np.abs(_scaled(quality) - luminance).sum()) for quality in range(1, 101)}
    best = min(distances, key=lambda quality: (distances[quality], -quality))
    return best, distances[best] == 0


def _scaled(quality: int) -> NDArray[np.int64]:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table: NDArray[np.int64] = np.clip((_LUMINANCE * scale + 50) // 100, 1, 255)
    return table
