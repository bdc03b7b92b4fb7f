"""What an ONNX file says about images: logits or probabilities, and the class that follows; for files that give the class, that alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError, ModelError
from gleanet.core.lazy import Array, rows_at_once
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.measure.metadata import read_metadata
from gleanet.measure.runtimes import DEFAULT, Candidate, open_session
from gleanet.measure.session import Session, StrPath


def predict(
    path: StrPath | Candidate,
    inputs: Array,
    *,
    threads: int = 1,
    batch_size: int | None = None,
    runtime: str = DEFAULT,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Logits (or probabilities, where the file ends in a softmax) [N, K] float32 of ``inputs`` [N, C, H, W], computed by ``runtime``.

    ``inputs`` are what the file takes: float32 (normalised) or uint8 (pixels); a file that takes [N, H, W, C] gets them turned. uint8
    pixels for a file that takes float are normalised as its metadata says. N need not be a multiple of the batch size; a file with a
    fixed batch gets its last batch padded. ``batch_size`` None: see :func:`gleanet.core.lazy.rows_at_once`.

    Raises:
        DataError: another type or image shape than the file takes, or no image.
        ModelError: the file cannot be read or run, or gives the class instead of scores.
        SettingsError: an unknown runtime, or one that is not installed.
    """
    session = open_session(path, threads=threads, runtime=runtime)
    if session.gives_class:
        raise ModelError(
            f"{session.path} gives the class, not its score: gleanet export {session.path} --output logits cuts the argmax off",
            slug="onnx-class",
        )
    return np.concatenate(list(_run(session, inputs, batch_size, progress)))


@dataclass(frozen=True)
class Answers:
    """The class of each image, [N] int64, and ``note``: why it means nothing, empty where it may mean something."""

    classes: NDArray[np.int64]
    note: str


def answers(
    files: Sequence[Candidate], inputs: Array, *, threads: int = 1, batch_size: int | None = None, progress: Progress = SILENT
) -> dict[Candidate, Answers]:
    """The class that each file gives, or the one with the largest score, the first of several. Otherwise as :func:`predict`.

    The images are read once for all files: where they are decoded on the way, that takes longer than a small network.
    """
    sessions = {one: open_session(one, threads=threads) for one in files}
    scorers = {one: _scorer(session, inputs) for one, session in sessions.items()}
    size = batch_size or rows_at_once(inputs.shape[1:])
    found: dict[Candidate, list[NDArray[np.float32]]] = {one: [] for one in files}
    what = sessions[files[0]].path.name if len(files) == 1 else f"{len(files)} files"
    with progress.task(f"Predict {what}", len(inputs), "images") as advance:
        for start in range(0, len(inputs), size):
            chunk = inputs[start : start + size]
            for one, score in scorers.items():
                part = sessions[one].batch or len(chunk)
                found[one] += [score(chunk[at : at + part]) for at in range(0, len(chunk), part)]
            advance(len(chunk))
    return {one: _answers(np.concatenate(scores), sessions[one].gives_class) for one, scores in found.items()}


def _answers(scores: NDArray[np.float32], are_classes: bool) -> Answers:
    if are_classes:
        return Answers(scores[:, 0].astype(np.int64), "")
    return Answers(scores.argmax(axis=1), says_nothing(scores))


def _run(session: Session, inputs: Array, batch_size: int | None, progress: Progress) -> Iterator[NDArray[np.float32]]:
    with progress.task(f"Predict {session.path.name}", len(inputs), "images") as advance:
        for batch in logits_in_batches(session, inputs, batch_size):
            yield batch
            advance(len(batch))


def logits_in_batches(session: Session, inputs: Array, batch_size: int | None) -> Iterator[NDArray[np.float32]]:
    """What the file gives for ``inputs``, [n, K] batch after batch (K = 1 where it is the class); see :func:`predict`."""
    score = _scorer(session, inputs)
    size = session.batch or batch_size or rows_at_once(inputs.shape[1:])
    for start in range(0, len(inputs), size):
        yield score(inputs[start : start + size])


def _scorer(session: Session, inputs: Array) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """What gives the scores of a batch of ``inputs``, one of at most ``session.batch`` images where the file fixes that."""
    check_images(session, inputs)
    preprocess = pixel_preprocess(session, inputs)

    def score(chunk: NDArray[Any]) -> NDArray[np.float32]:
        ready = as_taken(chunk, session.shape, preprocess).astype(session.dtype, copy=False)
        missing = session.batch - len(chunk) if session.batch else 0
        if missing:
            ready = np.concatenate([ready, np.repeat(ready[-1:], missing, axis=0)])
        return _forward(session, np.ascontiguousarray(ready))[: len(chunk)]

    return score


def _forward(session: Session, images: NDArray[Any]) -> NDArray[np.float32]:
    """Logits of one batch; one by one where the file says that any batch will do but fixes it to 1 further in (a Reshape, mostly)."""
    try:
        return session.run(images)
    except ModelError:
        if session.batch is not None or len(images) == 1:
            raise
        return np.concatenate([session.run(images[i : i + 1]) for i in range(len(images))])


def as_taken(images: NDArray[Any], shape: Sequence[int | None], preprocess: Preprocess | None) -> NDArray[Any]:
    """``images`` [n, C, H, W] as a file with input ``shape`` takes them: normalised if ``preprocess`` is given, turned to [n, H, W, C]
    where they fit only so."""
    turn = not _fits(images.shape[1:], shape[1:]) and _fits(_last(images.shape[1:]), shape[1:])
    if preprocess is not None:
        images = normalise(images, preprocess, axis=1 if turn or preprocess.layout == "NCHW" else images.ndim - 1)
    return np.moveaxis(images, 1, -1) if turn else images


def check_images(session: Session, inputs: Array) -> None:
    """Raise DataError unless ``inputs`` have the rank, sizes and number that ``session`` takes, channels first or last."""
    if len(inputs) == 0:
        raise DataError(f"no images for {session.path}: give at least one")
    wanted, given = session.shape[1:], inputs.shape[1:]
    if not _fits(given, wanted) and not _fits(_last(given), wanted):
        shown = ", ".join("?" if w is None else str(w) for w in wanted)
        raise DataError(f"{session.path} takes images [{shown}], these are {list(given)}: use the data it was trained for")


def _fits(given: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(wanted) == len(given) and all(w in (None, g) for w, g in zip(wanted, given, strict=True))


def _last(shape: Sequence[int]) -> Sequence[int]:
    """[C, H, W] -> [H, W, C]."""
    return (*shape[1:], *shape[:1]) if len(shape) == 3 else shape


def pixel_preprocess(session: Session, inputs: Array) -> Preprocess | None:
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
        raise DataError(
            f"{session.path} does not say how to normalise pixels (no gleanet.preprocess): give normalised float32 images",
            slug="onnx-pixels",
        )
    return preprocess


def normalise(images: NDArray[np.uint8], preprocess: Preprocess, *, axis: int | None = None) -> NDArray[np.float32]:
    """``(scaled pixel - mean) / std`` per channel, where the pixel is scaled to ``preprocess.range``: uint8 -> float32.

    Computed as :func:`affine`, like the pixels inside an exported graph and in training, so that all of them give the same bits.
    ``axis``: where the channels are; None: dimension 1 ([N, C, H, W]), or the last where only that has as many as ``preprocess``.

    Raises:
        DataError: no dimension has.
    """
    channels = len(preprocess.mean)
    fitting = [one for one in ((1, images.ndim - 1) if axis is None else (axis,)) if images.shape[one] == channels or channels == 1]
    if not fitting or len(preprocess.std) != channels:
        raise DataError(f"images {list(images.shape[1:])} cannot be normalised with {channels} means and {len(preprocess.std)} deviations")
    shape = [-1 if place == fitting[0] else 1 for place in range(images.ndim)]
    factor, offset = (array.reshape(shape) for array in affine(preprocess))
    return (images.astype(np.float32) * factor + offset).astype(np.float32, copy=False)


def affine(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(factor, offset), each [C] float32: normalised = factor * pixel + offset."""
    low, high = preprocess.range
    mean, std = np.asarray(preprocess.mean, dtype=np.float64), np.asarray(preprocess.std, dtype=np.float64)
    return ((high - low) / (255 * std)).astype(np.float32), ((low - mean) / std).astype(np.float32)


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
