"""QuantizeLinear and DequantizeLinear nodes: placed by ONNX Runtime's inserter, then made small and readable."""

import itertools
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from gleanet.core.errors import QuantizationError
from gleanet.measure.runtime import one_line
from gleanet.quantize.calibrate import Ranges
from gleanet.quantize.methods import Method
from gleanet.quantize.prepare import MIN_OPSET, opset_of
from gleanet.quantize.widen import note, widen

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_LINEAR = ("Gemm", "MatMul")
_WEIGHTED = ("Conv", "ConvTranspose", *_LINEAR)


def insert(
    prepared: onnx.ModelProto, ranges: Ranges, method: Method, source: onnx.ModelProto, *, keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """A quantized copy of ``prepared``.

    Args:
        prepared: from :func:`gleanet.quantize.prepare.prepare`.
        ranges: of every activation, from :mod:`gleanet.quantize.calibrate`.
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
    data = TensorsData(
        CalibrationMethod.MinMax,
        {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()},
    )
    try:
        with _quiet():
            quantizer = QDQQuantizer(
                model,
                method.per_channel,
                method.reduce_range,
                _TYPES[method.weight],
                _TYPES[method.activation],
                data,
                [],
                [*left_in_float(model, method), *keep_float],
                sorted({*QDQRegistry, *QLinearOpsRegistry}),
                {},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except Exception as error:  # the inserter raises ValueError, TypeError, RuntimeError, KeyError ...
        raise QuantizationError(f"ONNX Runtime cannot insert {method.name}: {type(error).__name__}: {one_line(error)}") from error
    result: onnx.ModelProto = quantizer.model.model
    _shrink(result, prepared)
    _stamp(result, source)
    if before:
        note(result, before)
    return result


def left_in_float(model: onnx.ModelProto, method: Method) -> list[str]:
    """Names of the nodes the method does not quantize: what comes before the first layer with weights (normalisation of pixels, padding),
    the last linear layer when the method says so, and a Softmax at the end (256 levels would make many classes equal)."""
    nodes = list(model.graph.node)
    weighted = [i for i, node in enumerate(nodes) if node.op_type in _WEIGHTED]
    if not weighted:
        return []
    pixels = _takes_pixels(model)
    names = [node.name for node in nodes[: weighted[0]] if pixels or node.op_type == "Pad"]
    if method.float_head and nodes[weighted[-1]].op_type in _LINEAR:
        names.extend(node.name for node in nodes[weighted[-1] :])
    names.extend(node.name for node in nodes[weighted[-1] :] if node.op_type == "Softmax")
    return names


def _takes_pixels(model: onnx.ModelProto) -> bool:
    return bool(model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _shrink(model: onnx.ModelProto, prepared: onnx.ModelProto) -> None:
    """In place: one of each set of equal scales and zero points, short names for what the inserter added, no inferred shapes.

    Layers and their weights keep their names. The nodes the inserter added have none; their tensors are ``qN`` (integer), ``dN`` (back in
    float), and its constants ``cN``.
    """
    graph = model.graph
    own = {tensor.name for tensor in prepared.graph.initializer}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    taken = own | fixed | {name for node in graph.node for name in (*node.input, *node.output)}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
            if node.output[0] not in fixed:
                names[node.output[0]] = _fresh(node.op_type[0].lower(), taken)
        del node.metadata_props[:]
        node.doc_string = ""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    kept: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        original = tensor.name.removesuffix("_quantized")
        name = tensor.name if tensor.name in own else original
        if name not in own:  # a scale, a zero point, or a bias that had to be doubled
            key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            name = first[key] if key in first else first.setdefault(key, _fresh("c", taken))
        names[tensor.name] = name
        kept.setdefault(name, onnx.TensorProto.FromString(tensor.SerializeToString())).name = name
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.value_info[:]
    del graph.initializer[:]
    graph.initializer.extend(kept.values())


def _fresh(prefix: str, taken: set[str]) -> str:
    """The first free name of ``prefix0, prefix1, ...``, taken from now on."""
    name = next(name for name in (f"{prefix}{i}" for i in itertools.count()) if name not in taken)
    taken.add(name)
    return name


def _stamp(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.graph.name, model.graph.doc_string, model.doc_string = source.graph.name, "", ""
    model.ir_version = max(source.ir_version, 7)  # 7 came with opset 13's predecessors; nothing newer is used
    used = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    kept = {entry.domain: entry.version for entry in imports}
    del model.opset_import[:]
    for domain, version in kept.items():
        model.opset_import.add(domain=domain, version=version)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the inserter's advice (it logs to the root logger) out of our output."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
