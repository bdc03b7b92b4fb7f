"""What every method needs once: the model optimized (batch-norms folded), new enough, every node named; and images from any batch form."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from gleanet.core.errors import DataError, ModelError, QuantizationError
from gleanet.measure.runtime import ORT_ERRORS, one_line, serialize

MIN_OPSET = 13  # QuantizeLinear and DequantizeLinear have an axis, which weights per channel need, since opset 13
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"}


def prepare(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """A copy of ``model`` ready for the inserter: opset 13 or newer, optimized (batch-norms folded), shapes inferred, every node named.

    Raises:
        ModelError: already quantized, or the runtime refuses it.
        QuantizationError: the opset cannot be raised.
    """
    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        raise ModelError(f"{file} is quantized already: give the float model it was made from")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, MIN_OPSET)
        except Exception as error:  # the converter raises whatever its C++ side throws
            raise QuantizationError(
                f"{file} has opset {opset} and cannot be raised to {MIN_OPSET}: {one_line(error)}; export it anew"
            ) from error
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
        try:
            ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise ModelError(f"ONNX Runtime {ort.__version__} cannot run {file}: {one_line(error)}") from error
        ready = onnx.load(str(optimized))
    ready = onnx.shape_inference.infer_shapes(ready)
    taken = {node.name for node in ready.graph.node}
    for index, node in enumerate(ready.graph.node):
        if not node.name:  # exclusion and reports go by name
            node.name = next(n for n in (f"{node.op_type}_{index}", f"{node.op_type}_{index}_") if n not in taken)
    return ready


def images_of(batches: Iterable[Any]) -> Iterator[NDArray[Any]]:
    """The images of each batch: an array or torch tensor [N, ...], or a tuple or list whose first entry is one.

    Raises:
        DataError: something else.
    """
    for batch in batches:
        yield as_array(batch[0] if isinstance(batch, tuple | list) else batch)


def labelled(batches: Iterable[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All images [N, ...] and labels [N] int64 of an iterable of (images, labels).

    Raises:
        DataError: a batch without labels, counts that differ, or no image at all.
    """
    images, labels = [], []
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(f"evaluation needs (images, labels) batches, got {type(batch).__name__}")
        x, y = as_array(batch[0]), as_array(batch[1]).astype(np.int64).reshape(-1)
        if len(x) != len(y):
            raise DataError(f"{len(x)} images but {len(y)} labels in an evaluation batch")
        images.append(x)
        labels.append(y)
    if not sum(len(y) for y in labels):
        raise DataError("no evaluation images: give at least one batch")
    return np.concatenate(images), np.concatenate(labels)


def as_array(value: Any) -> NDArray[Any]:
    """A numpy array of ``value``, which may be a torch tensor (torch itself is not imported); floating types become float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        raise DataError(f"expected a numpy array or torch tensor of images, got {type(value).__name__}")
    return np.ascontiguousarray(value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value)
