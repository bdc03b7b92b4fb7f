"""Methods that make the file smaller and seldom anything else: on most CPUs the runtime turns the numbers back and computes in float.

Weights in 8 or 4 bits are stored behind a DequantizeLinear, which ONNX Runtime runs in each call. Its 4-bit operator (MatMulNBits) takes
matrix products alone, none of the convolutions, so 4 bits are written in the same way.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from gleanet.quantize.methods import Method

_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": None, "MatMul": 1}  # where the outputs are; Gemm: transB decides
_OPSET_OF_INT4 = 21


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and activations as float16; input and output keep their types."""
    converted = ONNXModel(convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True))
    converted.topological_sort()  # the conversion of the input comes last otherwise
    result: onnx.ModelProto = converted.model
    return result


def to_small_weights(model: onnx.ModelProto, method: Method, excluded: list[str]) -> onnx.ModelProto:
    """``model`` with the weights of its layers as symmetric 8- or 4-bit integers, one scale per tensor or per output channel; in place."""
    bits = {"int8": 8, "int4": 4}[method.weight]
    if bits == 4:
        model = _raised(model, _OPSET_OF_INT4)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    done: dict[str, str] = {}
    added: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in _WEIGHT_AXIS or node.name in excluded or node.input[1] not in constants:
            continue
        name = node.input[1]
        if name not in done:
            axis = _outputs_at(node) if method.per_channel else None
            added.append(_stored(model.graph, constants[name], axis, bits))
            done[name] = added[-1].output[0]
        node.input[1] = done[name]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*added, *rest])
    return model


def _stored(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int | None, bits: int) -> onnx.NodeProto:
    """Put integers in the place of ``tensor``; the node that gives its floats back."""
    values: NDArray[np.float32] = numpy_helper.to_array(tensor).astype(np.float32)
    top = 2 ** (bits - 1) - 1
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = (np.where(largest > 0, largest, 1) / top).astype(np.float32)
    integers = np.clip(np.rint(values / scale), -top, top).astype(np.int8)
    name = tensor.name
    if bits == 4:
        tensor.CopyFrom(helper.make_tensor(name, TensorProto.INT4, values.shape, integers.ravel()))
    else:
        tensor.CopyFrom(numpy_helper.from_array(integers, name))
    graph.initializer.append(numpy_helper.from_array(scale.reshape(-1) if axis is not None else scale.reshape(()), f"{name}_scale"))
    node = helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_dequantized"], name=f"{name}_dequantize")
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _outputs_at(node: onnx.NodeProto) -> int:
    axis = _WEIGHT_AXIS[node.op_type]
    if axis is not None:
        return axis
    return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1


def _raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    given = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return model if given >= opset else onnx.version_converter.convert_version(model, opset)
