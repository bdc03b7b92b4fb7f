"""Quantized copies of a model: the nodes are placed by ONNX Runtime's own inserters, then made small and readable.

Static methods become QDQ pairs or integer operators (QOperator), dynamic ones ConvInteger and MatMulInteger. Size-only methods are written
by :mod:`gleanet.quantize.sizeonly`.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode
from onnxruntime.quantization.registry import IntegerOpsRegistry, QLinearOpsRegistry

from gleanet.core.errors import QuantizationError
from gleanet.measure.runtime import one_line
from gleanet.quantize.calibrate import Ranges
from gleanet.quantize.compact import compact, stamp
from gleanet.quantize.methods import Method
from gleanet.quantize.observe import QUANTIZABLE
from gleanet.quantize.pointwise import pointwise
from gleanet.quantize.prepare import MIN_OPSET, opset_of
from gleanet.quantize.sizeonly import to_float16, to_small_weights
from gleanet.quantize.widen import note, widen

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "uint16": QuantType.QUInt16}
LINEAR = ("Gemm", "MatMul")
_CLIPS = ("Relu", "Clip")
# Integer operators whose output has the scale of their input, in ONNX Runtime's inserter.
_SAME_SCALE = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Resize", "Pad", "Split", "Gather", *_CLIPS}
WEIGHTED = ("Conv", "ConvTranspose", *LINEAR)


def insert(
    prepared: onnx.ModelProto, ranges: Ranges, method: Method, source: onnx.ModelProto, *, keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """A quantized copy of ``prepared``.

    Args:
        prepared: from :func:`gleanet.quantize.prepare.prepare`.
        ranges: of every activation, from :mod:`gleanet.quantize.calibrate`; only static methods look at them.
        method: what to write.
        source: the model as it was given; its metadata is carried over.
        keep_float: names of further nodes that are not quantized.

    Raises:
        QuantizationError: ONNX Runtime's inserter cannot do it.
    """
    if method.per_channel and opset_of(prepared) < MIN_OPSET:
        raise QuantizationError(f"weights per channel need opset {MIN_OPSET}, this file stays at {opset_of(prepared)}: export it anew")
    before: dict[str, tuple[int, int]] = {}
    if method.pad:
        wide = widen(prepared, ranges)
        prepared, ranges, before = wide.model, wide.ranges, wide.before
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    try:
        with _quiet():
            result = _written(model, ranges, method, [*left_in_float(model, method), *keep_float])
    except Exception as error:  # the inserters raise ValueError, TypeError, RuntimeError, KeyError ...
        raise QuantizationError(f"ONNX Runtime cannot insert {method.name}: {type(error).__name__}: {one_line(error)}") from error
    compact(result, prepared)
    stamp(result, source)
    if before:
        note(result, before)
    return result


def left_in_float(model: onnx.ModelProto, method: Method) -> list[str]:
    """Names of the nodes the method does not quantize: what comes before the first layer with weights (normalisation of pixels, padding),
    the last linear layer when the method says so, a Softmax at the end (256 levels would make many classes equal), and the nodes that an
    activation is made of: its input and output are rounded, but not what is between."""
    nodes = list(model.graph.node)
    weighted = [i for i, node in enumerate(nodes) if node.op_type in WEIGHTED]
    if not weighted:
        return []
    pixels = _takes_pixels(model)
    names = [node.name for one in pointwise(model) for node in one.nodes]
    names += [node.name for node in nodes[: weighted[0]] if pixels or node.op_type == "Pad"]
    if method.float_head and nodes[weighted[-1]].op_type in LINEAR:
        names.extend(node.name for node in nodes[weighted[-1] :])
    names.extend(node.name for node in nodes[weighted[-1] :] if node.op_type == "Softmax")
    if method.format == "QOperator":
        names.extend(_unclipped(model))
    return names


def _unclipped(model: onnx.ModelProto) -> Iterator[str]:
    """Names of the Relu and Clip nodes that stay in float in integer operators.

    The inserter drops each of them and counts on the operator before it to write only what the clipped range holds. That one does not
    where its output has other readers, or where it takes over the scale of its own input (a Reshape, say): then nothing would clip.
    """
    graph = model.graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    readers = Counter([*(name for node in graph.node for name in node.input), *(output.name for output in graph.output)])
    for node in graph.node:
        if node.op_type in _CLIPS and (readers[node.input[0]] > 1 or makers.get(node.input[0], "") in _SAME_SCALE):
            yield node.name


def _takes_pixels(model: onnx.ModelProto) -> bool:
    return bool(model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _written(model: onnx.ModelProto, ranges: Ranges, method: Method, excluded: list[str]) -> onnx.ModelProto:
    if method.mode == "float16":
        return to_float16(model)
    if method.mode == "weights":
        return to_small_weights(model, method, excluded)
    return _dynamic(model, method, excluded) if method.mode == "dynamic" else _static(model, ranges, method, excluded)


def _static(model: onnx.ModelProto, ranges: Ranges, method: Method, excluded: list[str]) -> onnx.ModelProto:
    found = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    data = TensorsData(CalibrationMethod.MinMax, found)
    scales, types = (method.per_channel, method.reduce_range), (_TYPES[method.weight], _TYPES[method.activation])
    quantizer: ONNXQuantizer | QDQQuantizer
    if method.format == "QOperator":
        operators = sorted(QLinearOpsRegistry)
        quantizer = ONNXQuantizer(model, *scales, QuantizationMode.QLinearOps, True, *types, data, [], excluded, operators, {})
    else:
        operators = sorted(QUANTIZABLE)
        quantizer = QDQQuantizer(model, *scales, *types, data, [], excluded, operators, {})
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _dynamic(model: onnx.ModelProto, method: Method, excluded: list[str]) -> onnx.ModelProto:
    quantizer = ONNXQuantizer(
        model,
        method.per_channel,
        method.reduce_range,
        QuantizationMode.IntegerOps,
        False,
        _TYPES[method.weight],
        _TYPES[method.activation],
        None,
        [],
        excluded,
        sorted(IntegerOpsRegistry),
        {"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the inserter's advice (it logs to the root logger) out of our output."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
