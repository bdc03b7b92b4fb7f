"""Which nodes of a prepared graph are layers that can be quantized or left in float, and what goes with each of them."""

from collections import Counter
from collections.abc import Collection

import onnx

from gleanet.quantize.insert import left_in_float
from gleanet.quantize.methods import Method

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Gelu")


def layer_names(prepared: onnx.ModelProto, method: Method) -> tuple[str, ...]:
    """The nodes with constant weights that ``method`` quantizes, in graph order."""
    constants = {tensor.name for tensor in prepared.graph.initializer}
    excluded = set(left_in_float(prepared, method))
    weighted = [node for node in prepared.graph.node if node.op_type in _WEIGHTED and constants.intersection(node.input[:2])]
    return tuple(node.name for node in weighted if node.name not in excluded)


def island(prepared: onnx.ModelProto, layers: Collection[str]) -> tuple[str, ...]:
    """The nodes that must stay float for ``layers`` to be in float, for ``keep_float`` of :func:`gleanet.quantize.insert.insert`.

    That is each layer and the activation that is the only reader of its output: alone, an activation would have its input rounded, at a
    range that includes everything it cuts off.
    """
    graph = prepared.graph
    readers = sole_readers(graph)
    names: list[str] = []
    for node in graph.node:
        if node.name in layers:
            names.append(node.name)
            after = readers.get(node.output[0])
            if after is not None and after.op_type in _ACTIVATIONS and after.input[0] == node.output[0]:
                names.append(after.name)
    return tuple(names)


def sole_readers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """``{tensor: node}`` for the tensors that one node reads, once, and that are no output of the graph."""
    uses = Counter(name for node in graph.node for name in node.input)
    outputs = {value.name for value in graph.output}
    return {name: node for node in graph.node for name in node.input if uses[name] == 1 and name not in outputs}


def activation_after(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """``{tensor: activation}`` for the tensors that an activation reads and nothing else does."""
    found = sole_readers(graph)
    return {name: node for name, node in found.items() if node.op_type in _ACTIVATIONS and node.input[0] == name}
