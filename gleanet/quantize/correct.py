"""Bias correction: rounding shifts the mean output of each channel, and the bias takes the shift back.

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.2, in its empirical form: the means are measured on images. Layer by layer, so that a later layer is measured with the earlier
ones corrected. All at once, each layer would take back what the ones before it have taken back already.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gleanet.quantize.cut import Values, Walk, cuts, image_values

_BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class _Bias:
    """A bias in the quantized model: its constant, and what one unit of it is worth, per channel or for all (1 in float)."""

    tensor: onnx.TensorProto
    unit: NDArray[np.float32]

    def shift(self, amount: NDArray[np.float64]) -> None:
        """Add ``amount`` [C], in place."""
        values = numpy_helper.to_array(self.tensor)
        moved = values + amount / self.unit
        if values.dtype.kind == "i":
            limits = np.iinfo(values.dtype)
            moved = np.clip(np.rint(moved), limits.min, limits.max)
        self.tensor.CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), self.tensor.name))


def correct_biases(quantized: onnx.ModelProto, prepared: onnx.ModelProto, images: NDArray[Any], *, threads: int = 1) -> onnx.ModelProto:
    """A copy of ``quantized`` whose layers have the mean output per channel that those of ``prepared`` have on ``images``.

    Biases of layers that were left in float are corrected too, for what the layers before them do. Weights and scales stay as they are, and
    so does a layer without a bias.

    Args:
        quantized: QDQ, from :func:`gleanet.quantize.insert.insert`; its layers have the names of those in ``prepared``.
        prepared: the float model it was made from.
        images: [N, C, H, W] float32 or uint8, of the calibration set.
        threads: of the runtime.

    Raises:
        DataError: no images.
        QuantizationError: ONNX Runtime cannot run a part of one of the models.
    """
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    biases = _biases(model, prepared)
    values = image_values(prepared, images, quantized)
    exact, coded = Walk(prepared, values, threads), Walk(model, values, threads)
    nodes = {node.name: node for node in model.graph.node}
    outputs = {node.name: node.output[0] for node in prepared.graph.node}
    for layer, cut in cuts(prepared, biases).items():
        exact.to(cut)
        coded.to(cut)
        meant = channel_means(exact.see([outputs[layer]]), outputs[layer])
        got = channel_means(coded.see([nodes[layer].output[0]]), nodes[layer].output[0])
        biases[layer].shift(np.pad(meant - got[: len(meant)], (0, len(got) - len(meant))))  # channels that only pad the width come last
    return model


def channel_means(chunks: list[Values], name: str) -> NDArray[np.float64]:
    """Mean of a tensor [N, C, ...] over all chunks, per channel [C]."""
    total = sum(np.moveaxis(values[name], 1, 0).reshape(values[name].shape[1], -1).sum(axis=1, dtype=np.float64) for values in chunks)
    count = sum(values[name].size // values[name].shape[1] for values in chunks)
    return np.asarray(total / count)


def _biases(model: onnx.ModelProto, prepared: onnx.ModelProto) -> dict[str, _Bias]:
    """Bias of each layer that has one. In place: a constant that several layers share becomes one for each."""
    graph = model.graph
    layers = {node.name for node in prepared.graph.node if node.op_type in _BIASED and _whole(node)}
    producers = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    found: dict[str, _Bias] = {}
    for node in [node for node in graph.node if node.name in layers and node.op_type in _BIASED]:
        name = node.input[2] if len(node.input) > 2 else ""
        coded = producers.get(name)
        tensor = tensors.get(name if coded is None else coded.input[0])
        if tensor is None or len(tensor.dims) != 1 or (coded is not None and coded.op_type != "DequantizeLinear"):
            continue
        if max(uses[name], uses[tensor.name]) > 1:
            tensor = graph.initializer.add()
            tensor.CopyFrom(tensors[name if coded is None else coded.input[0]])
            tensor.name = f"{node.name}.own_bias"
            node.input[2] = tensor.name
            if coded is not None:
                node.input[2] = f"{node.name}.own_bias.float"
                graph.node.insert(0, helper.make_node("DequantizeLinear", [tensor.name, *coded.input[1:]], [node.input[2]]))
                graph.node[0].attribute.extend(coded.attribute)
        unit = np.ones((), np.float32) if coded is None else numpy_helper.to_array(tensors[coded.input[1]])
        found[node.name] = _Bias(tensor, unit)
    return found


def _whole(node: onnx.NodeProto) -> bool:
    """Whether the bias is added as it is: a Gemm can weigh it."""
    return all(attribute.f == 1 for attribute in node.attribute if attribute.name == "beta")
