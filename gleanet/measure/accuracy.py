"""Logits of an ONNX file over a set of images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.measure.metadata import read_metadata
from gleanet.measure.runtimes import DEFAULT, Candidate, open_session
from gleanet.measure.session import Session, StrPath


def predict(
    path: StrPath | Candidate,
    inputs: NDArray[Any],
    *,
    threads: int = 1,
    batch_size: int = 250,
    runtime: str = DEFAULT,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Logits [N, K] float32 of ``inputs`` [N, C, H, W], computed by ``runtime`` (or that of the candidate).

    ``inputs`` are what the file takes: float32 (normalised) or uint8 (pixels). uint8 pixels for a file that takes float are normalised
    as its metadata says. N need not be a multiple of the batch size; a file with a fixed batch gets its last batch padded.

    Raises:
        DataError: another type or image shape than the file takes, or no image.
        ModelError: the file cannot be read or run.
        SettingsError: an unknown runtime, or one that is not installed.
    """
    session = open_session(path, threads=threads, runtime=runtime)
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
        ready = chunk.astype(session.dtype, copy=False) if preprocess is None else normalise(chunk, preprocess)
        missing = session.batch - len(chunk) if session.batch else 0
        if missing:
            ready = np.concatenate([ready, np.repeat(ready[-1:], missing, axis=0)])
        yield session.run(np.ascontiguousarray(ready))[: len(chunk)]


def check_images(session: Session, inputs: NDArray[Any]) -> None:
    """Raise DataError unless ``inputs`` have the rank, sizes and number that ``session`` takes."""
    if len(inputs) == 0:
        raise DataError(f"no images for {session.path}: give at least one")
    wanted = session.shape[1:]
    given = inputs.shape[1:]
    if len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        shown = ", ".join("?" if w is None else str(w) for w in wanted)
        raise DataError(f"{session.path} takes images [{shown}], these are {list(given)}: use the data it was trained for")


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
    """``(scaled pixel - mean) / std`` per channel, where the pixel is scaled to ``preprocess.range``: [N, C, H, W] uint8 -> float32."""
    low, high = preprocess.range
    mean = np.asarray(preprocess.mean, dtype=np.float32).reshape(1, -1, 1, 1)
    std = np.asarray(preprocess.std, dtype=np.float32).reshape(1, -1, 1, 1)
    scaled = images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    return ((scaled - mean) / std).astype(np.float32, copy=False)
