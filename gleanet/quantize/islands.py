"""Layers in float between quantized ones, so that they are still in float when the file runs.

ONNX Runtime (seen in 1.32, ``WeightBiasQuantization``) quantizes the weights of a convolution or Gemm on its own, per tensor, where the
input comes from a DequantizeLinear with one scale and the output goes to a QuantizeLinear. A layer that was left in float for its accuracy
would not be. With one scale per channel, all of them equal, the file means the same and the runtime leaves the layer alone.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")


def hold_float(model: onnx.ModelProto, layers: Collection[str]) -> None:
    """In place: the float ``layers`` of a QDQ model dequantize their inputs by channel. Others are not touched."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.name in layers and node.op_type in _REQUANTIZED]:
        before, weight = producers.get(node.input[0]), tensors.get(node.input[1])
        if before is None or before.op_type != "DequantizeLinear" or weight is None or before.input[1] not in tensors:
            continue
        inputs = [before.input[0]]
        for name in before.input[1:]:
            value = numpy_helper.to_array(tensors[name])
            inputs.append(f"{node.name}.{name}")
            graph.initializer.append(numpy_helper.from_array(np.full(_channels(node, weight), value.reshape(()), value.dtype), inputs[-1]))
        output = f"{node.name}.input"
        place = next(index for index, other in enumerate(graph.node) if other.name == node.name)
        graph.node.insert(place, helper.make_node("DequantizeLinear", inputs, [output], axis=1, domain=before.domain))
        node.input[0] = output
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    idle = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] not in read]
    for node in idle:
        graph.node.remove(node)


def _channels(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    """Channels (or features) of the layer's input."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not attributes.get("transB", 0)):
        return int(weight.dims[0])
    return int(weight.dims[1]) * int(attributes.get("group", 1))
