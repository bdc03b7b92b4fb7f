"""What a classifier gives: logits, probabilities or the class; one made from the other by what stands at the end of the graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto, helper

from gleanet.core.errors import ExportError
from gleanet.export.edit import Dim, attribute, drop_unused, fresh, producer, tensors

Output = Literal["logits", "softmax", "argmax"]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_SOFTMAX = ("Softmax", "LogSoftmax", "QLinearSoftmax")
# May stand between the last operator of meaning and the output.
_PLAIN = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Head:
    """The end of a graph.

    Attributes:
        kind: what the first output is.
        logits: the tensor that goes into the last softmax; where there is none, into the argmax; where there is none, the output.
        softmax: the last softmax.
        exact: an argmax gives int64 [N] and nothing follows it.
    """

    kind: Output
    logits: str
    softmax: onnx.NodeProto | None = None
    exact: bool = False


def head(graph: onnx.GraphProto) -> Head:
    """Read the end of the graph. A graph that ends in LogSoftmax gives logits: those are defined up to a constant anyway."""
    name = graph.output[0].name
    node, direct = _maker(graph, name)
    kind: Output = "logits"
    exact = False
    if node is not None and node.op_type == "ArgMax" and attribute(node, "axis", 0) in (1, -1):
        kind, exact, name = "argmax", direct and not attribute(node, "keepdims", 1), node.input[0]
        node, _ = _maker(graph, name)
    if node is None or node.op_type not in _SOFTMAX:
        return Head(kind, name, exact=exact)
    if kind == "logits" and node.op_type != "LogSoftmax":
        kind = "softmax"
    return Head(kind, node.input[0], node, exact)


def _maker(graph: onnx.GraphProto, name: str) -> tuple[onnx.NodeProto | None, bool]:
    """The node that makes ``name``, past those that only pass on; and whether there are none of these."""
    node, direct = producer(graph, name), True
    while node is not None and node.op_type in _PLAIN:
        node, direct = producer(graph, node.input[0]), False
    return node, direct


def set_output(model: onnx.ModelProto, wanted: Output) -> None:
    """Make the first output ``wanted``, in place: probabilities [N, K] in "probabilities", or the class, int64 [N], in "class".

    A softmax at the end stays where probabilities are wanted, and is cut off where not.

    Raises:
        ExportError: the output is neither scores nor a class.
    """
    graph = model.graph
    found = head(graph)
    if found.kind == wanted and (wanted != "argmax" or found.exact):
        return
    name = found.logits
    if found.softmax is not None and found.softmax.op_type == "QLinearSoftmax":
        name = fresh(graph, "logits")
        graph.node.append(helper.make_node("DequantizeLinear", list(found.softmax.input[:3]), [name], name=name))
    logits = tensors(model)[name]
    if logits.kind not in _FLOATS:
        raise ExportError(f"output {graph.output[0].name!r} does not hold float scores: give a classifier that ends in its logits")
    shape: Sequence[Dim] = logits.shape
    if len(shape) != 2:  # such as [N, K, 1, 1]
        flat = fresh(graph, "flat")
        graph.node.append(helper.make_node("Flatten", [name], [flat], name=flat, axis=1))
        name = flat
        shape = tensors(model)[flat].shape
    _end(graph, name, wanted, logits.kind, shape)
    drop_unused(graph)


def _end(graph: onnx.GraphProto, logits: str, wanted: Output, kind: int, shape: Sequence[Dim]) -> None:
    target = logits
    if wanted == "softmax":
        target = fresh(graph, "probabilities")
        graph.node.append(helper.make_node("Softmax", [logits], [target], name=fresh(graph, "softmax"), axis=1))
    elif wanted == "argmax":
        target, kind, shape = fresh(graph, "class"), TensorProto.INT64, shape[:1]
        graph.node.append(helper.make_node("ArgMax", [logits], [target], name=fresh(graph, "argmax"), axis=1, keepdims=0))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(target, kind, list(shape)))
