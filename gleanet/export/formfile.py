"""A file in another form, written only when ONNX Runtime computes the same with it as with its source.

onnxruntime-web runs such a file in a browser: weights inside (it fetches one address), opset 18, operators that its wasm build has, which
are those of ONNX Runtime on a CPU. ``tests/export/test_web.py`` runs it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from gleanet.core.errors import ExportError, ModelError
from gleanet.core.files import replacing
from gleanet.core.records import Preprocess
from gleanet.export.batch import Batch
from gleanet.export.forms import reform
from gleanet.export.heads import Output, head
from gleanet.export.onnx_file import TOLERANCE, USUAL_LOGIT, Exported
from gleanet.export.pixels import Input, Layout, front, layout_of, preprocess_of
from gleanet.measure.accuracy import logits_in_batches, normalise
from gleanet.measure.runtime import Session, StrPath, open_session, read_model, serialize

CHECKED = 8  # random images, where none are given
_OPEN_SIZE = 224  # pixels a side, where the model leaves it open
_OTHER_BATCH = 3  # a free batch is tried at this size too


def reform_file(
    source: StrPath,
    out: StrPath,
    *,
    input: Input | None = None,
    output: Output | None = None,
    batch: Batch | None = None,
    layout: Layout | None = None,
    preprocess: Preprocess | None = None,
    check: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Exported:
    """Write ``source`` in another form to ``out``, one file; see :func:`gleanet.export.forms.reform` for the forms.

    Both are run in ONNX Runtime on the same images. Scores may differ by 1e-4 (3e-6 of the largest where that exceeds 32: adding operators
    or fixing a batch changes which kernels a runtime picks); the class may differ only where two scores are that close.

    Args:
        check: pixels [N, C, H, W] to compare on; default: 8 random images made with ``seed``.

    Returns:
        the path and the largest difference of the scores (0 where only classes can be compared).

    Raises:
        as ``reform``; ExportError: the new file computes something else; StoreError: it cannot be written. Nothing is written then.
    """
    given, target = Path(source), Path(out)
    model = read_model(given)
    made = reform(model, input=input, output=output, batch=batch, layout=layout, preprocess=preprocess)
    with replacing(target) as temporary:
        temporary.write_bytes(serialize(made))
        try:
            sessions = open_session(given), open_session(temporary)
            pixels = _random(model, sessions[0], seed) if check is None else check
            difference = _difference(*sessions, model, made, pixels, preprocess)
        except ModelError as error:
            raise ExportError(f"{target} not written: {str(error).replace(str(temporary), 'the new file')}") from error
        except _Differs as error:
            raise ExportError(f"{target} not written: {error}") from error
    return Exported(path=target, max_abs_diff=difference)


class _Differs(Exception):
    pass


def _random(model: onnx.ModelProto, session: Session, seed: int) -> NDArray[np.uint8]:
    sizes = [_OPEN_SIZE if size is None else size for size in session.shape[1:]]
    shape = [sizes[2], *sizes[:2]] if len(sizes) == 3 and layout_of(model) == "NHWC" else sizes
    return np.random.default_rng(seed).integers(0, 256, (CHECKED, *shape), dtype=np.uint8)


def _difference(
    old: Session, new: Session, model: onnx.ModelProto, made: onnx.ModelProto, pixels: NDArray[np.uint8], preprocess: Preprocess | None
) -> float:
    """Largest difference over all images; raises _Differs above the limit."""
    known = preprocess or preprocess_of(model) or preprocess_of(made) or Preprocess(mean=(0.5,), std=(0.25,))
    floats = normalise(pixels, known)
    if (old.dtype == np.uint8) != (
        new.dtype == np.uint8
    ):  # a last-bit difference before a rounding to 8 bits would be a difference of 1: the graph's own numbers are used
        floats = _by_graph(made if new.dtype == np.uint8 else model, pixels, floats)
    size = old.batch or new.batch or len(pixels)
    kinds = head(model.graph).kind, head(made.graph).kind
    expected = _answers(old, pixels if old.dtype == np.uint8 else floats, size)
    worst = 0.0
    for batch in {new.batch} if new.batch else {size, _OTHER_BATCH, 1}:
        found = _answers(new, pixels if new.dtype == np.uint8 else floats, batch)
        worst = max(worst, _compare(expected, found, *kinds))
    return worst


def _answers(session: Session, images: NDArray[Any], batch: int) -> NDArray[np.float64]:
    return np.concatenate(list(logits_in_batches(session, images, batch))).astype(np.float64)


def _by_graph(model: onnx.ModelProto, pixels: NDArray[np.uint8], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """``pixels`` [N, C, H, W] as the first nodes of ``model`` normalise them, which has to be what the metadata says, ``expected``."""
    part, turned, last = front(model)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(serialize(part), options, providers=["CPUExecutionProvider"])
    images = np.ascontiguousarray(np.moveaxis(pixels, 1, -1)) if turned else pixels
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])
    found = np.moveaxis(found, -1, 1) if last else found
    allowed = TOLERANCE if found.dtype == np.float32 else 1e-2  # half precision has 3 digits
    worst = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not worst <= allowed:
        raise _Differs(f"pixels are normalised to other numbers than wanted (relative difference {worst:.2g})")
    return np.asarray(found, dtype=np.float32)


def _compare(expected: NDArray[np.float64], found: NDArray[np.float64], old: Output, new: Output) -> float:
    """Largest difference of comparable scores; raises _Differs above the limit."""
    if old == "argmax" or new == "argmax":
        scores, chosen = (found, expected) if old == "argmax" else (expected, found)
        return _compare_classes(scores, chosen, same=old == new)
    if old != new:
        expected, found = (_softmax(scores) if kind == "logits" else scores for scores, kind in ((expected, old), (found, new)))
    if expected.shape != found.shape or not np.isfinite(found).all():
        raise _Differs(
            f"ONNX Runtime gives {list(found.shape)}, where the source gives {list(expected.shape)}, or numbers that are not finite"
        )
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()) / USUAL_LOGIT)
    worst = float(np.abs(expected - found).max())
    if worst > limit:
        raise _Differs(f"its scores differ from the source's by {worst:.3g} (limit {limit:.2g})")
    return worst


def _compare_classes(scores: NDArray[np.float64], chosen: NDArray[np.float64], *, same: bool) -> float:
    if same:
        wrong = scores != chosen
    else:
        own = np.take_along_axis(scores, chosen.astype(np.int64), axis=1)[:, 0]
        wrong = own < scores.max(axis=1) - TOLERANCE * np.maximum(1.0, np.abs(scores).max(axis=1) / USUAL_LOGIT)
    if wrong.any():
        raise _Differs(f"it gives another class than the source for {int(wrong.sum())} of {len(scores)} images")
    return 0.0


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
