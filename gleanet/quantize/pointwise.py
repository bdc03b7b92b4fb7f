"""Activations of several nodes (Mish, Bea-Mish) in 8 bits: a table of 256 entries, looked up.

A function of one number has 256 answers where numbers have 8 bits, so the nodes between DequantizeLinear and QuantizeLinear can be replaced
by their answers: the file computes the same numbers, by fewer steps. ONNX Runtime 1.32 has no operator for it; GatherElements over the flat
tensor is the fastest way: 0.8 ns a number with the Cast to the index, against 3 ns for Gather, 1.5 ns for the activation in float with Exp,
and 10 ns with Softplus (one thread of an AVX-512 machine). SiLU needs no table: QLinearSigmoid and QLinearMul take 0.5 ns. In ResNet-20 the
table wins at every batch size (``benchmarks/activation_export.py``), though the runtime transposes the tensor before and after it.

The inserters leave the nodes of such an activation in float between 8-bit numbers: the steps inside are not to be rounded. The table takes
their place as the last step before a file is written; until then every tensor is there under its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gleanet.measure.runtime import session_in_memory
from gleanet.quantize.observe import QUANTIZABLE
from gleanet.quantize.prepare import opset_of

# fmt: off
_POINTWISE = frozenset((
    "Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "Greater", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "Log",
    "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh",
    "Where",
))
# fmt: on
LEAST_OPSET = 11  # GatherElements
_EIGHT_BITS = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8}
_CODES = 256


@dataclass(frozen=True)
class Pointwise:
    """Nodes that make ``output`` from ``input``, number by number; ``name`` is that of the last. ``table``: with scalar constants alone,
    so that every number has the same function."""

    name: str
    input: str
    output: str
    nodes: tuple[onnx.NodeProto, ...]
    table: bool


def pointwise(model: onnx.ModelProto) -> list[Pointwise]:
    """Functions of one tensor that are made of several nodes, not all of which the inserters know, in graph order.

    Only such as use their input twice, x times a gate of x, as Mish and GELU do: a normalisation (subtract, divide) is none.
    """
    constants = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    roots: dict[str, str] = {}
    groups: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        sources = {roots.get(name, name) for name in node.input if name and name not in constants}
        if node.op_type in _POINTWISE and node.domain in ("", "ai.onnx") and len(sources) == 1 and len(node.output) == 1:
            root = sources.pop()
            roots[node.output[0]] = root
            groups.setdefault(root, []).append(node)
    found = []
    for root, nodes in groups.items():
        outputs = set(_read_outside(model.graph, nodes))
        twice = any(len([name for name in node.input if name not in constants]) > 1 for node in nodes)
        if twice and len(outputs) == 1 and any(node.op_type not in QUANTIZABLE for node in nodes):
            last = next(node for node in nodes if node.output[0] in outputs)
            scalar = all(constants.get(name, 1) == 1 for node in nodes for name in node.input)
            found.append(Pointwise(last.name, root, last.output[0], tuple(nodes), scalar))
    return found


def _read_outside(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> Iterator[str]:
    made = {node.output[0] for node in nodes}
    for node in graph.node:
        if not made.intersection(node.output):
            yield from made.intersection(node.input)
    yield from made.intersection(value.name for value in graph.output)


def look_up(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a quantized ``model`` with a table for each activation of several nodes between 8-bit numbers of one scale.

    It computes the same: each entry is what the runtime gives for DequantizeLinear, the nodes, QuantizeLinear. Where factors differ by
    channel, numbers have 16 bits, or the opset is below 11, the nodes stay.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if opset_of(made) < LEAST_OPSET:
        return made
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    shapes = _shapes(made)
    for one in pointwise(made):
        codes = _codes(made.graph, one, constants) if one.table else None
        if codes is not None:
            _replace(made, one, codes, constants, shapes.get(codes.output, ()))
            _drop_idle(made.graph)
    return made


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of images' tensors, as far as inference knows them: -1 for the number of images, then known sizes."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}  # then the file asks for the shape as it runs
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred}
    return {name: (-1, *shape[1:]) for name, shape in sizes.items() if len(shape) > 1 and all(shape[1:])}


def _replace(
    model: onnx.ModelProto, one: Pointwise, codes: "_Codes", constants: dict[str, onnx.TensorProto], shape: tuple[int, ...]
) -> None:
    """Put the table in the place of the QuantizeLinear; the nodes go."""
    nodes, tensors = _looked_up(one, codes, constants, opset_of(model), shape)
    inside = {node.output[0] for node in one.nodes}
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if codes.output in node.output:
            kept.extend(nodes)
        elif not inside.intersection(node.output):
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensor for tensor in tensors if tensor.name not in constants)
    constants |= {tensor.name: tensor for tensor in tensors}


@dataclass(frozen=True)
class _Codes:
    """Where 8-bit numbers come in and go out, and what they mean: (scale, zero point) each."""

    input: str
    output: str
    before: tuple[onnx.TensorProto, onnx.TensorProto]
    behind: tuple[onnx.TensorProto, onnx.TensorProto]


def _codes(graph: onnx.GraphProto, one: Pointwise, constants: dict[str, onnx.TensorProto]) -> _Codes | None:
    """The codes around the function; None where they are not 8-bit numbers of one scale on both sides, and on no other."""
    first = next((node for node in graph.node if one.input in node.output), None)
    readers = [node for node in graph.node if one.output in node.input]
    last = readers[0] if len(readers) == 1 else None
    shown = any(value.name == one.output for value in graph.output)
    if first is None or last is None or shown or (first.op_type, last.op_type) != ("DequantizeLinear", "QuantizeLinear"):
        return None
    names = [*first.input[1:3], *last.input[1:3]]
    if len(names) < 4 or any(name not in constants or np.prod(constants[name].dims) != 1 for name in names):
        return None
    a, b, c, d = (constants[name] for name in names)
    return _Codes(first.input[0], last.output[0], (a, b), (c, d)) if {b.data_type, d.data_type} <= _EIGHT_BITS else None


def _looked_up(
    one: Pointwise, codes: _Codes, own: dict[str, onnx.TensorProto], version: int, shape: tuple[int, ...]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Cast to an index, flatten, look up, back to the shape. A negative index counts from the end, so int8 needs no offset."""
    base = f"{one.name}.table"
    tensors = [numpy_helper.from_array(_table(one, codes, own, version), base), _sizes((-1,))]
    index, line, found, sizes = (f"{base}.{word}" for word in ("index", "line", "found", "shape"))
    nodes = [
        helper.make_node("Cast", [codes.input], [index], index, to=onnx.TensorProto.INT32),
        helper.make_node("Reshape", [index, tensors[1].name], [line], line),
        helper.make_node("GatherElements", [base, line], [found], found),
    ]
    if shape:
        tensors.append(_sizes(shape))
        sizes = tensors[-1].name
    else:
        nodes.append(helper.make_node("Shape", [codes.input], [sizes], sizes))
    nodes.append(helper.make_node("Reshape", [found, sizes], [codes.output], one.name))
    return nodes, tensors


def _sizes(shape: tuple[int, ...]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(shape, dtype=np.int64), f"shape.{'x'.join(map(str, shape))}")


def _table(one: Pointwise, codes: _Codes, own: dict[str, onnx.TensorProto], version: int) -> NDArray[np.integer]:
    """[256]: the answer to each code, at the place of its bits read as uint8. The runtime computes it, from the nodes that it replaces."""
    kind, made = codes.before[1].data_type, codes.behind[1].data_type
    every = np.arange(_CODES, dtype=np.uint8).view(helper.tensor_dtype_to_np_dtype(kind))
    names = [[f"{side}.{part}" for part in ("scale", "zero")] for side in ("before", "behind")]
    known = {name for node in one.nodes for name in node.input if name in own}
    constants = [own[name] for name in sorted(known)]
    for tensor, name in zip((*codes.before, *codes.behind), (*names[0], *names[1]), strict=True):
        constants.append(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(()), name))
    nodes = [
        helper.make_node("DequantizeLinear", ["code", *names[0]], ["number"]),
        *_renamed(one, "number", "answer"),
        helper.make_node("QuantizeLinear", ["answer", *names[1]], ["answer.code"]),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("code", kind, [_CODES])],
        [helper.make_tensor_value_info("answer.code", made, [_CODES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    return np.asarray(session_in_memory(model, optimize=False).run(None, {"code": every})[0])


def _renamed(one: Pointwise, source: str, target: str) -> list[onnx.NodeProto]:
    """Copies of the nodes that read ``source`` and make ``target``."""
    names = {one.input: source, one.output: target}
    copies = []
    for node in one.nodes:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = [names.get(name, name) for name in copy.input]
        copy.output[:] = [names.get(name, name) for name in copy.output]
        copies.append(copy)
    return copies


def _drop_idle(graph: onnx.GraphProto) -> None:
    """Take out DequantizeLinear nodes and constants that nobody reads any more."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] not in read]:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
