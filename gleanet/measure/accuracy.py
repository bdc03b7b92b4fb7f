"""Logits of an ONNX file over a set of images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError, ModelError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.measure.metadata import read_metadata
from gleanet.measure.runtime import Session, StrPath, open_session


def predict(
    path: StrPath, inputs: NDArray[Any], *, threads: int = 1, batch_size: int = 250, progress: Progress = SILENT
) -> NDArray[np.float32]:
    """Logits [N, K] float32 of ``inputs`` [N, C, H, W], computed by ONNX Runtime.

    ``inputs`` are what the file takes: float32 (normalised) or uint8 (pixels). uint8 pixels for a file that takes float are normalised
    as its metadata says; a file that wants channels last gets them so. N need not be a multiple of the batch size; a file with a fixed
    batch gets its last batch padded.

    Raises:
        DataError: another type or image shape than the file takes, or no image.
        ModelError: the file cannot be read or run.
    """
    session = open_session(path, threads=threads)
    with progress.task(f"Predict {session.path.name}", len(inputs), "images") as advance:
        parts = []
        for batch in logits_in_batches(session, inputs, batch_size):
            parts.append(batch)
            advance(len(batch))
    return np.concatenate(parts)


def logits_in_batches(session: Session, inputs: NDArray[Any], batch_size: int) -> Iterator[NDArray[np.float32]]:
    """Logits of ``inputs``, batch after batch; see :func:`predict`."""
    check_images(session, inputs)
    preprocess = pixel_preprocess(session, inputs)
    size = session.batch or batch_size
    for start in range(0, len(inputs), size):
        chunk = inputs[start : start + size]
        ready = chunk if preprocess is None else normalise(chunk, preprocess)
        ready = arranged(ready, session.shape).astype(session.dtype, copy=False)
        missing = session.batch - len(chunk) if session.batch else 0
        if missing:
            ready = np.concatenate([ready, np.repeat(ready[-1:], missing, axis=0)])
        yield _run(session, np.ascontiguousarray(ready))[: len(chunk)]


def _run(session: Session, images: NDArray[Any]) -> NDArray[np.float32]:
    """Logits of one batch; one by one where the file says that any batch will do but fixes it to 1 further in (a Reshape, mostly)."""
    try:
        return session.run(images)
    except ModelError:
        if session.batch is not None or len(images) == 1:
            raise
        return np.concatenate([session.run(images[i : i + 1]) for i in range(len(images))])


def check_images(session: Session, inputs: NDArray[Any]) -> None:
    """Raise DataError unless ``inputs`` have the rank, sizes and number that ``session`` takes, as they are or with channels moved last."""
    if len(inputs) == 0:
        raise DataError(f"no images for {session.path}: give at least one")
    if not _fits(arranged(inputs[:1], session.shape).shape, session.shape):
        shown = ", ".join("?" if w is None else str(w) for w in session.shape[1:])
        given = list(inputs.shape[1:])
        raise DataError(f"{session.path} takes images [{shown}], these are {given}: use the data it was trained for")


def arranged(images: NDArray[Any], shape: Sequence[int | str | None]) -> NDArray[Any]:
    """``images`` [N, C, H, W] as [N, H, W, C] where only that fits ``shape`` of the input (free dimensions are None or a name)."""
    if images.ndim != 4 or _fits(images.shape, shape):
        return images
    last = np.moveaxis(images, 1, 3)
    return last if _fits(last.shape, shape) else images


def _fits(sizes: Sequence[int], shape: Sequence[int | str | None]) -> bool:
    wanted = [size if isinstance(size, int) else None for size in shape[1:]]
    return len(sizes) == len(shape) and all(w in (None, s) for w, s in zip(wanted, sizes[1:], strict=True))


def pixel_preprocess(session: Session, inputs: NDArray[Any]) -> Preprocess | None:
    """How ``inputs`` must be normalised before ``session`` takes them; None when they are ready.

    Raises:
        DataError: normalised numbers for a file that takes pixels, or pixels for a file that does not say how to normalise.
    """
    if session.dtype == np.uint8:
        if inputs.dtype != np.uint8:
            raise DataError(f"{session.path} takes uint8 pixels, these images are {inputs.dtype}: give the pixels themselves")
        return None
    if inputs.dtype != np.uint8:
        return None
    preprocess = read_metadata(session.path).preprocess
    if preprocess is None:
        raise DataError(f"{session.path} does not say how to normalise pixels (no gleanet.preprocess): give normalised float32 images")
    return preprocess


def normalise(images: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """``(scaled pixel - mean) / std`` per channel, where the pixel is scaled to ``preprocess.range``: uint8 -> float32.

    ``images`` are [N, C, H, W], or [N, H, W, C] where only the last dimension has as many channels as ``preprocess``.

    Raises:
        DataError: neither has.
    """
    low, high = preprocess.range
    channels = len(preprocess.mean)
    axis = next((axis for axis in (1, images.ndim - 1) if images.shape[axis] == channels or channels == 1), None)
    if axis is None or len(preprocess.std) != channels:
        raise DataError(f"images {list(images.shape[1:])} cannot be normalised with {channels} means and {len(preprocess.std)} deviations")
    shape = [channels if i == axis else 1 for i in range(images.ndim)]
    mean = np.asarray(preprocess.mean, dtype=np.float32).reshape(shape)
    std = np.asarray(preprocess.std, dtype=np.float32).reshape(shape)
    scaled = images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    return ((scaled - mean) / std).astype(np.float32, copy=False)


def says_nothing(logits: NDArray[np.float32]) -> str:
    """Why an accuracy from these logits [N, K] would mean nothing, in one sentence; empty where it may mean something."""
    if not np.isfinite(logits).all():
        return "Its logits are not finite numbers: accuracy says nothing."
    if len(logits) > 1 and float(np.ptp(logits, axis=0).max()) <= 1e-6 * max(float(np.abs(logits).max()), 1e-30):
        return (
            "It gives every image the same logits (weights without meaning?): accuracy says nothing, structure, bytes and times are real."
        )
    if float(np.ptp(logits, axis=1).max()) <= 1e-6 * max(float(np.abs(logits).max()), 1e-30):
        return "It gives every class the same logit (weights without meaning?): accuracy says nothing, structure, bytes and times are real."
    return ""
