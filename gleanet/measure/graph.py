"""Multiply-accumulates and parameters, counted from the ONNX graph itself: what is in the file, not what the training code believed.

Counted are convolutions and matrix products, in float, as QDQ pairs and as integer operators. Bias, normalisation and activations are not
(DESIGN section 2). A 1 x 1 convolution that only copies channels (every output channel reads at most one input channel, all with the same
weight) is how the exporter writes the parameter-free option-A shortcut; it moves data and learns nothing, so it counts 0 and 0.

Parameters are the weights and biases of those layers and the scale and shift of normalisations. After batch-norm folding the scale is
gone and the shift has become the bias of the convolution, so a folded network has slightly fewer parameters here than ``nn.cost`` reports
for the unfolded one (ResNet-20: 269,034; one number per channel less). Quantization scales, zero points, shapes and pre-processing
constants are not parameters.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from gleanet.core.errors import ModelError
from gleanet.measure.runtime import ORT_ERRORS, StrPath, one_line, read_model, session_in_memory

# Operator -> (position of the weight, positions of all parameters).
_CONV = {
    "Conv": (1, (1, 2)),
    "FusedConv": (1, (1, 2)),
    "ConvInteger": (1, (1,)),
    "ConvTranspose": (1, (1, 2)),
    "QLinearConv": (3, (3, 8)),
}
_PRODUCT = {
    "Gemm": (1, (1, 2)),
    "MatMul": (1, (1,)),
    "FusedMatMul": (1, (1,)),
    "MatMulInteger": (1, (1,)),
    "DynamicQuantizeMatMul": (1, (1, 4)),
    "MatMulIntegerToFloat": (1, (1, 6)),
    "QLinearMatMul": (3, (3,)),
    "QGemm": (3, (3, 6)),
    "MatMulNBits": (1, (1,)),
}
_OTHER = {
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "PRelu": (1,),
}
PADDED = "gleanet.padded"  # JSON: {convolution: [outputs, inputs] before zero channels were added}
_PASS_THROUGH = {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape"}


@dataclass(frozen=True)
class LayerCost:
    """One layer of the graph: ``macs`` per image, ``out_shape`` of one image."""

    name: str
    kind: str
    macs: int
    params: int
    out_shape: tuple[int, ...]


def graph_cost(path: StrPath) -> tuple[int, int]:
    """(MACs of one image, parameters) of an ONNX file. See the module's text for what counts.

    Raises:
        ModelError: not an ONNX file, or shapes that neither inference nor a run can tell.
    """
    layers = graph_layers(path)
    return sum(layer.macs for layer in layers), sum(layer.params for layer in layers)


def graph_layers(path: StrPath) -> tuple[LayerCost, ...]:
    """Every layer with weights, in graph order. Raises as :func:`graph_cost`."""
    file = Path(path)
    return model_layers(read_model(file), file)


def model_layers(model: onnx.ModelProto, file: Path) -> tuple[LayerCost, ...]:
    """The same for a model in memory; ``file`` only names it in errors."""
    constants = _constants(model)
    producers = {output: node for node in model.graph.node for output in node.output}
    batch = free_batch_to_one(model)
    wanted = [node.output[0] for node in model.graph.node if node.op_type in _CONV or node.op_type in _PRODUCT]
    shapes = tensor_shapes(model, wanted, file)
    layers: list[LayerCost] = []
    padded = _padded(model, file)
    for node in model.graph.node:
        if node.name.startswith("preprocess."):  # the exporter's normalisation of pixels may be a BatchNormalization
            continue
        parameters = dict(_parameters(node, constants, producers))
        if node.op_type not in _CONV and node.op_type not in _PRODUCT and not parameters:
            continue
        weight_at = (_CONV | _PRODUCT).get(node.op_type, (0, ()))[0]
        weight = parameters.get(weight_at)
        macs = 0
        if node.op_type in _CONV or node.op_type in _PRODUCT:
            if weight is not None and node.op_type in _CONV and _only_copies(node, weight):
                continue
            macs = _macs(node, weight, shapes, weight_at) // batch
        params = sum(int(array.size) for array in parameters.values())
        if weight is not None and node.name in padded:
            outputs, inputs = _real_widths(weight, padded[node.name])
            macs = macs * outputs * inputs // (weight.shape[0] * weight.shape[1])
            params += outputs * inputs * weight[0, 0].size - weight.size - (weight.shape[0] - outputs) * (len(parameters) - 1)
        out_shape = tuple(shapes.get(node.output[0], ())[1:])
        layers.append(LayerCost(name=node.name or node.output[0], kind=node.op_type, macs=macs, params=params, out_shape=out_shape))
    return tuple(layers)


def _macs(node: onnx.NodeProto, weight: NDArray[Any] | None, shapes: dict[str, tuple[int, ...]], weight_at: int) -> int:
    """Multiply-accumulates of one node for the whole batch: elements of the output times products summed into each."""
    elements = int(np.prod(shapes[node.output[0]]))
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "MatMulNBits":
        return elements * int(attributes["K"])
    weight_shape = weight.shape if weight is not None else shapes.get(node.input[weight_at], ())
    if not weight_shape:
        return 0
    if node.op_type == "ConvTranspose":  # each input element meets every weight of its group once; weight is [C, M / groups, ...]
        return int(np.prod(shapes[node.input[0]])) * int(np.prod(weight_shape[1:]))
    if node.op_type in _CONV:  # weight is [M, C / groups, ...]
        return elements * int(np.prod(weight_shape[1:]))
    if node.op_type == "Gemm" or node.op_type == "QGemm":
        return elements * int(weight_shape[1 if attributes.get("transB", 0) else 0])
    return elements * int(weight_shape[-2] if len(weight_shape) > 1 else weight_shape[0])


def _padded(model: onnx.ModelProto, file: Path) -> dict[str, tuple[int, int]]:
    """The metadata on zero channels."""
    text = next((entry.value for entry in model.metadata_props if entry.key == PADDED), "{}")
    try:
        return {str(name): (int(outputs), int(inputs)) for name, (outputs, inputs) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{PADDED} in {file} is not what it should be: {one_line(error)}") from error


def _real_widths(weight: NDArray[Any], claimed: tuple[int, int]) -> tuple[int, int]:
    """(outputs, inputs) without the zero channels at the end; the claim counts only where the weights beyond it are zero."""
    outputs, inputs = claimed
    fits = 0 < outputs <= weight.shape[0] and 0 < inputs <= weight.shape[1]
    if not fits or weight[outputs:].any() or weight[:, inputs:].any():
        return weight.shape[0], weight.shape[1]
    return outputs, inputs


def _only_copies(node: onnx.NodeProto, weight: NDArray[Any]) -> bool:
    if node.op_type == "ConvTranspose" or weight.ndim < 3 or weight.shape[1] < 2 or any(size != 1 for size in weight.shape[2:]):
        return False
    rows = weight.reshape(weight.shape[0], -1)
    used = rows[rows != 0]
    return bool(used.size and (used == used[0]).all() and (np.count_nonzero(rows, axis=1) <= 1).all())


def _parameters(
    node: onnx.NodeProto, constants: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """(position, values) of the learned tensors of ``node``."""
    if node.op_type == "Add":  # the bias of a linear layer that was written as MatMul + Add
        for i, other in ((0, 1), (1, 0)):
            source = _behind(node.input[i], constants, producers)
            maker = _maker(node.input[other], producers)
            if (
                source is not None
                and source.size > 1
                and maker is not None
                and maker.op_type in ("MatMul", "QLinearMatMul", "MatMulInteger")
            ):
                yield i, source
        return
    places = _CONV.get(node.op_type) or _PRODUCT.get(node.op_type)
    positions = places[1] if places else _OTHER.get(node.op_type, ())
    for i in positions:
        if i < len(node.input) and node.input[i]:
            source = _behind(node.input[i], constants, producers)
            if source is not None:
                yield i, source


def _behind(name: str, constants: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]) -> NDArray[Any] | None:
    """The constant behind ``name``, seen through dequantization, casts and reshapes; None for a computed tensor."""
    while name not in constants:
        node = producers.get(name)
        if node is None or node.op_type not in _PASS_THROUGH:
            return None
        name = node.input[0]
    return constants[name]


def _maker(name: str, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node that computes ``name``, seen through dequantization and casts."""
    node = producers.get(name)
    while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear", "Cast", "Mul"):
        node = producers.get(node.input[0])
    return node


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def free_batch_to_one(model: onnx.ModelProto) -> int:
    """Set a free batch dimension of the input to 1, in place; returns the batch size the shapes will be for."""
    names = {tensor.name for tensor in model.graph.initializer}
    batch = 1
    for value in model.graph.input:
        if value.name in names or not value.type.tensor_type.shape.dim:
            continue
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_value > 0:
            batch = first.dim_value
        else:
            first.dim_value = 1
    return batch


def tensor_shapes(model: onnx.ModelProto, wanted: list[str], file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by inference; where that leaves one of ``wanted`` open (operators of other domains), by running one image."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ModelError(f"the shapes in {file} contradict each other: {one_line(error)}") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.dim_value > 0 for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    shapes.update({t.name: tuple(t.dims) for t in model.graph.initializer})
    if all(name in shapes for name in wanted):
        return shapes
    return shapes | _run_for_shapes(bare, [name for name in wanted if name not in shapes], file)


def _run_for_shapes(model: onnx.ModelProto, names: list[str], file: Path) -> dict[str, tuple[int, ...]]:
    value = model.graph.input[0]
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if any(d <= 0 for d in dims):
        raise ModelError(f"{file} leaves the size of its input open ({dims}): export it with a fixed image size")
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    try:
        results = session_in_memory(model, optimize=False).run(names, {value.name: np.zeros(dims, dtype)})
    except ORT_ERRORS as error:
        raise ModelError(f"cannot count {file}: {one_line(error)}") from error
    return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}
