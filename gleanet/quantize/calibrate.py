"""Ranges of all activations over a stream of images, in constant memory.

The model is extended by a ReduceMin and a ReduceMax behind every float tensor, so one run of a batch hands back two numbers per tensor,
whatever the number of images; batches may have any sizes. ONNX Runtime's own MinMax calibration fetches every activation instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from gleanet.core.errors import DataError, QuantizationError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.measure.accuracy import arranged, normalise
from gleanet.measure.runtime import ORT_ERRORS, one_line, serialize

Ranges = Mapping[str, tuple[float, float]]

CHUNK = 64  # images per run, so that a huge batch of the caller's does not become huge activations
_LOW, _HIGH = "gleanet.low:", "gleanet.high:"


def min_max(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    *,
    file: Path,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every float tensor of the main graph, the input included, over all images.

    Args:
        model: one image input, shapes inferred (see :func:`gleanet.quantize.prepare.prepare`).
        batches: images [n, C, H, W], n may differ from batch to batch; float32, or uint8 pixels.
        file: names the model in errors.
        preprocess: normalises uint8 pixels when the model takes float.
        threads: of the runtime.

    Returns:
        ``{tensor: (low, high)}``.

    Raises:
        DataError: no images, or images of another shape than the model takes.
        QuantizationError: a tensor has values that are not finite.
    """
    names = _float_tensors(model)
    session = _session(_extended(model, names), threads, file)
    entry = session.get_inputs()[0]
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) else None
    dtype = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    seen = 0
    with progress.task("Calibrate", None, "images") as advance:
        for images in batches:
            for chunk in _chunks(images, fixed or CHUNK, fixed):
                pixels = chunk.dtype == np.uint8 and dtype is np.float32
                ready = normalise(chunk, preprocess) if pixels and preprocess is not None else chunk
                ready = np.ascontiguousarray(arranged(ready, entry.shape))
                if ready.dtype != dtype:
                    raise DataError(f"{file} takes {np.dtype(dtype)} images, these are {ready.dtype}: preprocess as for training")
                try:
                    found = session.run(None, {entry.name: ready})
                except ORT_ERRORS as error:
                    raise DataError(f"{file} does not take calibration images {list(ready.shape)}: {one_line(error)}") from error
                np.minimum(low, [float(v) for v in found[0::2]], out=low)
                np.maximum(high, [float(v) for v in found[1::2]], out=high)
            seen += len(images)
            advance(len(images))
    if not seen:
        raise DataError("the calibration set is empty: give at least one batch of images")
    wild = [name for name, a, b in zip(names, low, high, strict=True) if not (np.isfinite(a) and np.isfinite(b))]
    if wild:
        raise QuantizationError(f"{file}: tensor {wild[0]!r} is not finite on the calibration images: check weights and preprocessing")
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _chunks(images: NDArray[Any], size: int, fixed: int | None) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        if fixed and len(chunk) < fixed:  # repeating an image changes no minimum and no maximum
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], fixed - len(chunk), axis=0)])
        yield np.ascontiguousarray(chunk)


def _float_tensors(model: onnx.ModelProto) -> list[str]:
    """Every float32 tensor that a node of the main graph reads or makes, constants aside, in graph order."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer} | {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    names = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output))
    return [name for name in names if name and name not in constants and kinds.get(name) == onnx.TensorProto.FLOAT]


def _extended(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    for name in names:
        for kind, prefix in (("ReduceMin", _LOW), ("ReduceMax", _HIGH)):
            extended.graph.node.append(helper.make_node(kind, [name], [prefix + name], keepdims=0))
            extended.graph.output.append(helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, []))
    return extended


def _session(model: onnx.ModelProto, threads: int, file: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise QuantizationError(f"cannot calibrate {file}: {one_line(error)}") from error
