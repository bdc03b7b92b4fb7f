"""Models in memory, cut at tensors and run piece by piece, so that what many runs have in common is computed once.

A cut before a node is the set of tensors that are computed before it and read from it on: through residual connections that is more than
one. :class:`Walk` holds the values at one cut only, for every image; going to the next frees the last. So memory is that of one cut
(ResNet-56 on CIFAR-10: at most two tensors, 128 KiB an image) and of the activations of one chunk of images, whatever the depth.

ONNX Runtime's optimizations are off: a quantized model computes what its file says, without this machine's shortcuts and saturation.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from gleanet.core.errors import DataError, QuantizationError
from gleanet.measure.accuracy import as_taken
from gleanet.measure.metadata import metadata_of
from gleanet.measure.runtime import ORT_ERRORS, one_line, serialize
from gleanet.quantize.layers import activation_after

CHUNK = 32  # images per run
Values = dict[str, NDArray[Any]]


class Walk:
    """A model on its way through the images: ``values`` are those of the tensors at the present cut, one dictionary per chunk."""

    def __init__(self, model: onnx.ModelProto, values: list[Values], threads: int) -> None:
        self.model = model
        self.values = values
        self.threads = threads

    def to(self, names: Sequence[str]) -> None:
        """Go on to the cut ``names``."""
        self.values = self.see(names)

    def see(self, names: Sequence[str], model: onnx.ModelProto | None = None) -> list[Values]:
        """Values of ``names`` computed from the present cut, per chunk; by ``model``, where one is given that goes on from here otherwise.

        Raises:
            QuantizationError: the runtime refuses the piece of the model.
        """
        here = set(self.values[0])
        wanted = [name for name in names if name not in here]
        if not wanted:
            return [{name: values[name] for name in names} for values in self.values]
        piece = part(model or self.model, self.values[0], wanted)
        try:
            session = _session(piece, self.threads)
            inputs = [value.name for value in piece.graph.input]
            found = [session.run(wanted, {name: values[name] for name in inputs}) for values in self.values]
        except ORT_ERRORS as error:
            raise QuantizationError(f"ONNX Runtime {ort.__version__} cannot run a part of the model: {one_line(error)}") from error
        pairs = zip(self.values, found, strict=True)
        every = [values | dict(zip(wanted, arrays, strict=True)) for values, arrays in pairs]
        return [{name: values[name] for name in names} for values in every]


def image_values(model: onnx.ModelProto, images: NDArray[Any], source: onnx.ModelProto) -> list[Values]:
    """``images`` [N, C, H, W] as values of the input of ``model``, in chunks; uint8 pixels are normalised where the model takes float.

    Where the model has a fixed batch size, the last chunk is filled up with its last image.

    Raises:
        DataError: no images, or pixels for a model whose ``source`` does not say how to normalise them.
    """
    if not len(images):
        raise DataError("no images to look at: give at least one calibration image")
    entry = model.graph.input[0]
    batch = entry.type.tensor_type.shape.dim[0].dim_value if entry.type.tensor_type.shape.dim else 0
    if images.dtype == np.uint8 and entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        preprocess = metadata_of(source, Path(source.graph.name)).preprocess
        if preprocess is None:
            raise DataError("the model takes float images and does not say how to normalise pixels: give normalised float32 images")
    else:
        preprocess = None
    sizes = [dim.dim_value or None for dim in entry.type.tensor_type.shape.dim]
    images = as_taken(images, sizes, preprocess)
    chunks = [images[start : start + (batch or CHUNK)] for start in range(0, len(images), batch or CHUNK)]
    if batch and len(chunks[-1]) < batch:
        chunks[-1] = np.concatenate([chunks[-1], np.repeat(chunks[-1][-1:], batch - len(chunks[-1]), axis=0)])
    return [{entry.name: np.ascontiguousarray(chunk)} for chunk in chunks]


def cuts(model: onnx.ModelProto, layers: Collection[str]) -> dict[str, tuple[str, ...]]:
    """``{layer: tensors of the cut before it}``, in an order in which each cut can be reached from the one before.

    The cut comes before every reader of what the layer reads: where that is rounded for the layer, all of them see it rounded.
    """
    nodes = _ordered(model.graph)
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    made = {value.name: -1 for value in model.graph.input if value.name not in constants}
    outputs = {value.name for value in model.graph.output}
    first, last = dict[str, int](), dict[str, int]()
    for index, node in enumerate(nodes):
        for name in node.input:
            first.setdefault(name, index)
            last[name] = index
        if all(name in constants for name in node.input):
            constants.update(node.output)
        else:
            made |= {name: index for name in node.output if name}
    places = {node.name: min(first[name] for name in node.input if name not in constants) for node in nodes if node.name in layers}
    return {
        layer: tuple(name for name, index in made.items() if index < place and (name in outputs or last.get(name, -1) >= place))
        for layer, place in sorted(places.items(), key=lambda item: item[1])
    }


def part(model: onnx.ModelProto, given: Values, wanted: Sequence[str]) -> onnx.ModelProto:
    """The piece of ``model`` that computes ``wanted`` from ``given``."""
    producers = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    types = {name: array.dtype for name, array in given.items()}
    needed, queue, used = set[int](), list(wanted), dict[str, None]()
    while queue:
        name = queue.pop()
        if name in types:
            used[name] = None
        elif name in producers and producers[name] not in needed:
            needed.add(producers[name])
            queue.extend(model.graph.node[producers[name]].input)
    nodes = [node for index, node in enumerate(model.graph.node) if index in needed]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(types[name]), None) for name in used],
        [onnx.ValueInfoProto(name=name) for name in wanted],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    piece = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    piece.functions.extend(model.functions)
    return piece


def _ordered(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes in an order of computation where an activation that alone reads a tensor directly follows the node that makes it.

    The inserter merges such pairs, so no cut may come between them.
    """
    after = activation_after(graph)
    moved = {activation.output[0] for name, activation in after.items() if any(name in node.output for node in graph.node)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in moved:
            nodes.append(node)
            while nodes[-1].output[0] in after:
                nodes.append(after[nodes[-1].output[0]])
    return nodes


def _session(model: onnx.ModelProto, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])


def stacked(chunks: Iterable[Values], name: str) -> NDArray[Any]:
    """The values of one tensor for all images, [N, ...]."""
    return np.concatenate([values[name] for values in chunks])
