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
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner

from gleanet.core.errors import ModelError
from gleanet.measure.constants import constants_of
from gleanet.measure.runtime import ORT_ERRORS, StrPath, main_inputs, one_line, read_model, serialize, session_in_memory

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
SMALL = 1024  # numbers in a tensor that shape inference may have to read
_PASS_THROUGH = {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape"}


@dataclass(frozen=True)
class LayerCost:
    """One layer of the graph: ``macs`` per image, ``out_shape`` of one image, shape and ``dtype`` of its ``weight`` (empty where
    it is computed)."""

    name: str
    kind: str
    macs: int
    params: int
    out_shape: tuple[int, ...]
    weight: tuple[int, ...] = ()
    dtype: str = ""


def graph_cost(path: StrPath, image_shape: tuple[int, ...] | None = None) -> tuple[int, int]:
    """(MACs of one image, parameters) of an ONNX file. See the module's text for what counts.

    Args:
        path: the file.
        image_shape: shape of one image, for files that leave it open.

    Raises:
        ModelError: not an ONNX file, layers inside a sub-graph, or shapes that neither inference nor a run can tell.
    """
    layers = graph_layers(path, image_shape)
    return sum(layer.macs for layer in layers), sum(layer.params for layer in layers)


def graph_layers(path: StrPath, image_shape: tuple[int, ...] | None = None) -> tuple[LayerCost, ...]:
    """Every layer with weights, in graph order. Arguments and errors as :func:`graph_cost`."""
    file = Path(path)
    return model_layers(read_model(file), file, image_shape)


def model_layers(model: onnx.ModelProto, file: Path, image_shape: tuple[int, ...] | None = None) -> tuple[LayerCost, ...]:
    """The same for a model in memory, whose input shape becomes fixed; ``file`` only names it in errors."""
    model = without_functions(model, file)
    refuse_hidden_layers(model, file)
    constants = constants_of(model, file)
    producers = {output: node for node in model.graph.node for output in node.output}
    batch = free_batch_to_one(model, image_shape)
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
        shape, dtype = ((), "") if weight is None else (tuple(weight.shape), str(weight.dtype))
        layers.append(LayerCost(node.name or node.output[0], node.op_type, macs, params, out_shape, shape, dtype))
    return tuple(layers)


def without_functions(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """``model`` with its local functions written out; itself where it has none."""
    if not model.functions:
        return model
    try:
        inlined: onnx.ModelProto = inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise ModelError(f"{file}: its functions cannot be written out: {one_line(error)}") from error
    return inlined


def sub_graphs(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.GraphProto]]:
    """(node, graph inside it) of If, Loop and Scan, also of those inside others."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield node, inner
                yield from sub_graphs(inner)


def refuse_hidden_layers(model: onnx.ModelProto, file: Path) -> None:
    """Raise ModelError where an If, Loop or Scan holds layers with weights: nothing here would count them."""
    for owner, inner in sub_graphs(model.graph):
        layer = next((node for node in inner.node if node.op_type in _CONV or node.op_type in _PRODUCT), None)
        if layer is not None:
            name = layer.name or layer.op_type
            raise ModelError(f"{file}: layer {name!r} lies inside a sub-graph ({owner.op_type}): export the model without control flow")


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
    if node.op_type == "Add" and len(node.input) == 2:  # the bias of a linear layer that was written as MatMul + Add
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
    """The constant behind ``name``, seen through dequantization, casts and rearrangement; None for a computed tensor."""
    if name in constants:
        return constants[name]
    node = producers.get(name)
    if node is None or node.op_type not in _PASS_THROUGH:
        return None
    source = _behind(node.input[0], constants, producers)
    if source is None or node.op_type != "Transpose":
        return source
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
    return np.transpose(source, perm) if perm is None or sorted(perm) == list(range(source.ndim)) else None


def _maker(name: str, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node that computes ``name``, seen through dequantization and casts."""
    node = producers.get(name)
    while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear", "Cast", "Mul"):
        node = producers.get(node.input[0])
    return node


def free_batch_to_one(model: onnx.ModelProto, image_shape: tuple[int, ...] | None = None) -> int:
    """Set a free batch dimension of the input to 1, in place; returns the batch size the shapes will be for.

    ``image_shape`` fills the other free dimensions where it has as many as the input.
    """
    batch = 1
    for value in main_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if not dims:
            continue
        for dim, size in zip(dims, (1, *(image_shape or ())), strict=False):
            if dim.dim_value <= 0 and (len(dims) == 1 + len(image_shape or ()) or dim is dims[0]):
                dim.dim_value = size
        batch = dims[0].dim_value
    return batch


def tensor_shapes(model: onnx.ModelProto, wanted: list[str], file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by inference; where that leaves one of ``wanted`` open (operators of other domains), by running one image."""
    try:
        inferred = onnx.shape_inference.infer_shapes(_light(model), data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"the shapes in {file} contradict each other: {one_line(error)}") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.dim_value > 0 for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    shapes.update({t.name: tuple(t.dims) for t in model.graph.initializer})
    if all(name in shapes for name in wanted):
        return shapes
    return shapes | _run_for_shapes(model, [name for name in wanted if name not in shapes], file)


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """What shape inference needs of ``model``: no large weights (only their shapes), no shapes that the file merely claims."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name or "graph"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(main_inputs(model))
    light.graph.output.extend(model.graph.output)
    light.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for output in light.graph.output:
        output.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims)))
    return light


def _run_for_shapes(model: onnx.ModelProto, names: list[str], file: Path) -> dict[str, tuple[int, ...]]:
    inputs = main_inputs(model)
    if len(inputs) != 1:
        raise ModelError(f"{file} has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}): an image classifier has one")
    value = inputs[0]
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if any(d <= 0 for d in dims):
        shown = ", ".join(d.dim_param or str(d.dim_value or "?") for d in value.type.tensor_type.shape.dim)
        raise ModelError(f"{file} leaves the size of its input open ([{shown}]): give images, or export it with a fixed image size")
    model = onnx.ModelProto.FromString(serialize(model))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    try:
        results = session_in_memory(model, optimize=False).run(names, {value.name: np.zeros(dims, dtype)})
    except ORT_ERRORS as error:
        raise ModelError(f"cannot count {file}: {one_line(error)}") from error
    return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}
