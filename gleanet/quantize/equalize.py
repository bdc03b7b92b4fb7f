"""Cross-layer equalization: channels of neighbouring layers are scaled so that their weights have equal ranges.

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1. What lies between the two layers must be positively homogeneous, f(s x) = s f(x) for s > 0, as ReLU, leaky ReLU and pooling
are. Clip is not, so layers around ReLU6 are left as they are: to replace it by ReLU, as the authors do, changes the function.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from gleanet.quantize.layers import sole_readers

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Identity")
_ROUNDS = 50  # chains of layers converge geometrically
_SETTLED = 1e-3  # largest factor, less one, of a round after which nothing changes any more


@dataclass(frozen=True)
class Equalized:
    """The model, which computes the same function, and the pairs of layers whose channels were scaled."""

    model: onnx.ModelProto
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Pair:
    """Two layers and views of their weights: the first's by output channel [C, ...], its bias [C], the second's by input channel, which is
    [groups, C / groups, ...]."""

    names: tuple[str, str]
    out: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    into: NDArray[np.float32]

    def scale(self) -> float:
        """One step of equation 11, in place; the largest factor less one. Channels that are zero on a side stay."""
        first, second = (np.abs(side).reshape(len(self.out), -1).max(axis=1) for side in (self.out, self.into))
        factor = np.sqrt(np.divide(first, second, out=np.ones_like(first), where=(first > 0) & (second > 0)))
        self.out[...] /= factor.reshape(-1, *[1] * (self.out.ndim - 1))
        self.into[...] *= factor.reshape(*self.into.shape[:2], *[1] * (self.into.ndim - 2))
        if self.bias is not None:
            self.bias[...] /= factor
        return float(np.max(np.maximum(factor, 1 / factor))) - 1


def equalize(prepared: onnx.ModelProto) -> Equalized:
    """A copy of ``prepared`` in which each pair of convolutions or linear layers that nothing else reads between has equal weight ranges.

    A depthwise convolution is the second of one pair and the first of the next; the steps are repeated until all pairs are in balance.
    Activations change their ranges: calibrate the result anew.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    weights = _Weights(model.graph)
    pairs = list(_pairs(model.graph, weights))
    for _ in range(_ROUNDS):
        if max((pair.scale() for pair in pairs), default=0.0) < _SETTLED:
            break
    weights.store()
    return Equalized(model, tuple(pair.names for pair in pairs))


class _Weights:
    """The constants that one node alone reads, as arrays to be changed in place."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        uses = Counter(name for node in graph.node for name in node.input)
        self.tensors = {t.name: t for t in graph.initializer if uses[t.name] == 1 and t.data_type == onnx.TensorProto.FLOAT}
        self.arrays: dict[str, NDArray[np.float32]] = {}

    def get(self, name: str) -> NDArray[np.float32] | None:
        if name in self.tensors and name not in self.arrays:
            self.arrays[name] = numpy_helper.to_array(self.tensors[name]).copy()
        return self.arrays.get(name)

    def store(self) -> None:
        for name, array in self.arrays.items():
            self.tensors[name].CopyFrom(numpy_helper.from_array(array, name))


def _pairs(graph: onnx.GraphProto, weights: _Weights) -> Iterator[_Pair]:
    readers = sole_readers(graph)
    for node in graph.node:
        out, bias = _outgoing(node, weights)
        if out is None:
            continue
        reader = readers.get(node.output[0])
        while reader is not None and _passes(reader):
            reader = readers.get(reader.output[0])
        into = None if reader is None else _incoming(reader, weights, len(out))
        if reader is not None and into is not None:
            yield _Pair((node.name, reader.name), out, bias, into)


def _passes(node: onnx.NodeProto) -> bool:
    return node.op_type in _HOMOGENEOUS and (node.op_type != "Flatten" or _attribute(node, "axis", 1) == 1)


def _outgoing(node: onnx.NodeProto, weights: _Weights) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Views of the weights [output channel, ...] and the bias of ``node``; the first is None where it cannot be scaled."""
    weight = _weight(node, weights)
    if weight is None:
        return None, None
    out = weight.T if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0)) else weight
    if len(node.input) < 3 or not node.input[2]:
        return out, None
    bias = weights.get(node.input[2])
    return (out, bias) if bias is not None and bias.shape == (len(out),) else (None, None)


def _incoming(node: onnx.NodeProto, weights: _Weights, channels: int) -> NDArray[np.float32] | None:
    """A view of the weights of ``node`` by input channel, [groups, channels / groups, ...]; None where they cannot be scaled."""
    weight = _weight(node, weights)
    if weight is None:
        return None
    if node.op_type == "Conv":
        groups = _attribute(node, "group", 1)
        fits = weight.shape[1] * groups == channels
        return weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2) if fits else None
    by_output = node.op_type == "Gemm" and _attribute(node, "transB", 0)
    if weight.shape[1 if by_output else 0] % channels:
        return None
    return weight.reshape(1, -1, channels, weight.shape[1] // channels).swapaxes(1, 2) if by_output else weight.reshape(1, channels, -1)


def _weight(node: onnx.NodeProto, weights: _Weights) -> NDArray[np.float32] | None:
    """The weights of a convolution or of a plain matrix product of activations with weights."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or _attribute(node, "transA", 0):
        return None
    weight = weights.get(node.input[1])
    return weight if weight is not None and (node.op_type == "Conv" or weight.ndim == 2) else None


def _attribute(node: onnx.NodeProto, name: str, usual: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), usual)
