"""Activations of several nodes (Mish, Bea-Mish) in 8 bits: a table of 256 entries, looked up.

A function of one number has 256 answers where numbers have 8 bits, so the nodes between DequantizeLinear and QuantizeLinear can be replaced
by their answers: the file computes the same numbers, by fewer steps. ONNX Runtime 1.32 has no operator for it; GatherElements over the flat
tensor is the fastest way: 0.8 ns a number with the Cast to the index, against 3 ns for Gather, 1.5 ns for the activation in float with Exp,
and 10 ns with Softplus (one thread of an AVX-512 machine). SiLU needs no table: QLinearSigmoid and QLinearMul take 0.5 ns. In ResNet-20 the
table wins at every batch size (``benchmarks/activation_export.py``), though the runtime transposes the tensor before and after it.

The inserters know single nodes. So each such activation stands before them as one node (a Sigmoid), which they quantize, and is written
out afterwards: as a table where its input and output have 8 bits, else as the nodes it was made of.
"""

from collections.abc import Collection, Iterator
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
_STANDS_FOR_IT = "Sigmoid"  # any operator of one input that both inserters quantize and do not drop
LEAST_OPSET = 11  # GatherElements
_EIGHT_BITS = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
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
    made, inside = {node.output[0] for node in nodes}, {node.name for node in nodes}
    for node in graph.node:
        if node.name not in inside:
            yield from made.intersection(node.input)
    yield from made.intersection(value.name for value in graph.output)


def collapse(model: onnx.ModelProto, functions: Collection[Pointwise]) -> None:
    """Put one node in the place of each function, in place."""
    for one in functions:
        inside = {node.name for node in one.nodes}
        kept = [node for node in model.graph.node if node.name not in inside or node.name == one.name]
        alone = helper.make_node(_STANDS_FOR_IT, [one.input], [one.output], one.name)
        kept = [alone if node.name == one.name else node for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(kept)


def write_out(model: onnx.ModelProto, functions: Collection[Pointwise], prepared: onnx.ModelProto, *, tables: bool = True) -> None:
    """The reverse, in place, after the inserter: a table where the node became an 8-bit one, else the nodes of ``prepared``.

    Args:
        model: quantized.
        functions: those that were collapsed.
        prepared: the model they were found in; their constants are taken from it.
        tables: False leaves the nodes in float between DequantizeLinear and QuantizeLinear.
    """
    own = {tensor.name: tensor for tensor in prepared.graph.initializer}
    for one in functions:
        place = next((index for index, node in enumerate(model.graph.node) if _stands_for(node, one)), None)
        if place is None:
            continue
        codes = _codes(model.graph, place) if tables and able(one, model) else None
        if codes is not None:
            nodes, constants = _looked_up(one, codes, own, opset_of(model))
        else:
            node = model.graph.node[place]
            nodes = _renamed(one, node.input[0], node.output[0])
            constants = [own[name] for name in dict.fromkeys(name for node in nodes for name in node.input) if name in own]
        known = {tensor.name for tensor in model.graph.initializer}
        model.graph.initializer.extend(tensor for tensor in constants if tensor.name not in known)
        gone = place if codes is None or codes.after is None else codes.after
        for index in sorted({place, gone}, reverse=True):
            del model.graph.node[index]
        for offset, node in enumerate(nodes):
            model.graph.node.insert(place + offset, node)
    _drop_idle(model.graph)


def able(one: Pointwise, model: onnx.ModelProto) -> bool:
    """Whether a table could say what the function does, and be looked up in this opset."""
    return one.table and opset_of(model) >= LEAST_OPSET


@dataclass(frozen=True)
class _Codes:
    """Where 8-bit numbers come in and go out, and what they mean: (scale, zero point) each. ``after``: index of the QuantizeLinear."""

    input: str
    output: str
    before: tuple[onnx.TensorProto, onnx.TensorProto]
    behind: tuple[onnx.TensorProto, onnx.TensorProto]
    after: int | None


def _stands_for(node: onnx.NodeProto, one: Pointwise) -> bool:
    return node.name.removesuffix("_quant") == one.name and node.op_type in (_STANDS_FOR_IT, f"QLinear{_STANDS_FOR_IT}")


def _codes(graph: onnx.GraphProto, place: int) -> _Codes | None:
    """The codes around the node at ``place``; None where it is not 8-bit numbers of one scale on both sides, and on no other."""
    node = graph.node[place]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if node.op_type != _STANDS_FOR_IT:  # an integer operator: input, its scale and zero point, those of the output
        source, target, names, after = node.input[0], node.output[0], list(node.input[1:5]), None
    else:
        first = next((other for other in graph.node if node.input[0] in other.output), None)
        readers = [index for index, other in enumerate(graph.node) if node.output[0] in other.input]
        last = graph.node[readers[0]] if len(readers) == 1 else None
        shown = any(value.name == node.output[0] for value in graph.output)
        if first is None or last is None or shown or (first.op_type, last.op_type) != ("DequantizeLinear", "QuantizeLinear"):
            return None
        source, target, names, after = first.input[0], last.output[0], [*first.input[1:3], *last.input[1:3]], readers[0]
    if len(names) < 4 or any(name not in constants or np.prod(constants[name].dims) != 1 for name in names):
        return None
    a, b, c, d = (constants[name] for name in names)
    return _Codes(source, target, (a, b), (c, d), after) if b.data_type in _EIGHT_BITS and d.data_type in _EIGHT_BITS else None


def _looked_up(
    one: Pointwise, codes: _Codes, own: dict[str, onnx.TensorProto], version: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Cast to an index, flatten, look up, back to the shape. A negative index counts from the end, so int8 needs no offset."""
    base = f"{one.name}.table"
    table = numpy_helper.from_array(_table(one, codes, own, version), base)
    flat = numpy_helper.from_array(np.array([-1], dtype=np.int64), f"{base}.flat")
    names = [f"{base}.{word}" for word in ("index", "line", "found", "shape")]
    index, line, found, shape = names
    nodes = [
        helper.make_node("Cast", [codes.input], [index], index, to=onnx.TensorProto.INT32),
        helper.make_node("Reshape", [index, flat.name], [line], line),
        helper.make_node("GatherElements", [table.name, line], [found], found),
        helper.make_node("Shape", [codes.input], [shape], shape),
        helper.make_node("Reshape", [found, shape], [codes.output], one.name),
    ]
    return nodes, [table, flat]


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
    """Take out DequantizeLinear nodes that nobody reads any more."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] not in read]:
        graph.node.remove(node)
