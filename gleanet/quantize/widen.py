"""Zero channels added where ONNX Runtime's integer convolution has no fast path for the width.

Measured with ONNX Runtime 1.32 on an AVX-512 VNNI/AMX machine (QLinearConv 3 x 3 on 32 x 32, microseconds): 16 -> 16 channels takes 24, but
16 -> 8 takes 35, and 3 -> 16 takes 31 where 4 -> 16 takes 19. Below 16 output channels, and for input channels that are no multiple of 4,
a slower general path is used. So a file padded with zero filters up to these widths can be faster than the one without, and it computes
the same numbers. The widening is written into the metadata, so that MACs and parameters are counted without it.
"""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gleanet.measure.graph import PADDED
from gleanet.quantize.calibrate import Ranges

OUTPUTS = 16  # at least so many output channels
INPUTS = 4  # input channels in multiples of this
_PER_CHANNEL = ("Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool")  # keep channels apart: what is in a padded one reaches no other


@dataclass(frozen=True)
class Widened:
    """The model, ranges for its new tensors too, and ``{convolution: (outputs, inputs)}`` as they were, for each that was widened."""

    model: onnx.ModelProto
    ranges: Ranges
    before: dict[str, tuple[int, int]]


def widen(prepared: onnx.ModelProto, ranges: Ranges) -> Widened:
    """A copy of ``prepared`` with inner convolutions padded to at least 16 outputs and multiples of 4 inputs, the first one to 4 inputs.

    A convolution's outputs are padded only where nothing but convolutions reads them (through activations and pooling).
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    graph = _Graph(model.graph)
    before: dict[str, tuple[int, int]] = {}
    found = dict(ranges)
    for conv in [node for node in model.graph.node if graph.plain(node)]:
        outputs, inputs = graph.weight(conv).shape[:2]
        readers = graph.readers(conv.output[0])
        wanted = max(OUTPUTS, -(-outputs // INPUTS) * INPUTS)
        if readers and wanted > outputs:
            for node in (conv, *readers):
                before.setdefault(node.name, (graph.weight(node).shape[0], graph.weight(node).shape[1]))
            graph.pad(conv, outputs=wanted - outputs)
            for reader in readers:
                graph.pad(reader, inputs=wanted - outputs)
        if inputs < INPUTS:
            before.setdefault(conv.name, (outputs, inputs))
            graph.pad(conv, inputs=INPUTS - inputs)
            name = graph.pad_input(conv, INPUTS - inputs)
            low, high = ranges[conv.input[0]]
            found[name] = (min(low, 0.0), max(high, 0.0))
            conv.input[0] = name
    del model.graph.value_info[:]
    return Widened(model=onnx.shape_inference.infer_shapes(model), ranges=found, before=before)


def note(model: onnx.ModelProto, before: dict[str, tuple[int, int]]) -> None:
    """Write what was widened into the metadata of the finished file, in place."""
    model.metadata_props.add(key=PADDED, value=json.dumps(before, separators=(",", ":")))


class _Graph:
    """Look-ups and edits on one graph."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.proto = proto
        self.constants = {tensor.name: tensor for tensor in proto.initializer}
        self.uses = Counter(name for node in proto.node for name in node.input)
        self.outputs = {value.name for value in proto.output}

    def plain(self, node: onnx.NodeProto) -> bool:
        """A convolution of one group with 4-dimensional constant weights of its own."""
        if node.op_type != "Conv" or any(a.name == "group" and a.i != 1 for a in node.attribute):
            return False
        own = all(name in self.constants and self.uses[name] == 1 for name in node.input[1:] if name)
        return own and len(self.constants[node.input[1]].dims) == 4

    def weight(self, node: onnx.NodeProto) -> np.ndarray:
        return np.asarray(numpy_helper.to_array(self.constants[node.input[1]]))

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The convolutions that read ``name``; empty when anything else needs to know its width."""
        if name in self.outputs:
            return []
        found: list[onnx.NodeProto] = []
        for node in self.proto.node:
            if name not in node.input:
                continue
            if self.plain(node) and node.input[0] == name:
                found.append(node)
            elif node.op_type in _PER_CHANNEL and node.input[0] == name and (further := self.readers(node.output[0])):
                found.extend(further)
            else:
                return []
        return found

    def pad(self, conv: onnx.NodeProto, *, outputs: int = 0, inputs: int = 0) -> None:
        """Add zero filters, or zero weights for further input channels."""
        self._set(conv.input[1], np.pad(self.weight(conv), ((0, outputs), (0, inputs), (0, 0), (0, 0))))
        if outputs and len(conv.input) > 2 and conv.input[2]:
            self._set(conv.input[2], np.pad(numpy_helper.to_array(self.constants[conv.input[2]]), (0, outputs)))

    def pad_input(self, conv: onnx.NodeProto, channels: int) -> str:
        """Put a Pad before ``conv``; name of its output."""
        name = f"{conv.name}.pad"
        self.proto.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, channels, 0, 0]), f"{name}.widths"))
        node = helper.make_node("Pad", [conv.input[0], f"{name}.widths"], [name], name=name)
        self.proto.node.insert(next(i for i, other in enumerate(self.proto.node) if other.name == conv.name), node)
        return name

    def _set(self, name: str, array: np.ndarray) -> None:
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
