"""From what torch's exporter writes to what runtimes and readers like: the same function, fewer and faster nodes, names of the modules.

The option-A shortcut is where it matters: as Slice, Slice, Pad it costs a tenth of ResNet-20's float time in ONNX Runtime 1.32 (one thread
of an AVX-512 machine) and stays a float island in a quantized network; as a MaxPool with a 1 x 1 window it still needs the Pad; as a 1 x 1
convolution whose weights copy channels it is exact, is fused with the addition after it, and quantizes.
"""

import ast
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

_SCOPES = "pkg.torch.onnx.name_scopes"
_COPY_LIMIT = 256  # channels; beyond it the copying convolution would cost real time

# Attributes at these values mean what their absence means.
_DEFAULTS: dict[str, object] = {"group": 1, "auto_pad": b"NOTSET", "alpha": 1.0, "beta": 1.0, "transA": 0, "noop_with_empty_axes": 0}


@dataclass
class _Graph:
    """A graph under repair, with its look-up tables; rebuilt after every pass."""

    proto: onnx.GraphProto

    def __post_init__(self) -> None:
        self.constants = {tensor.name: tensor for tensor in self.proto.initializer}
        self.producers = {output: node for node in self.proto.node for output in node.output}
        self.uses = Counter(name for node in self.proto.node for name in node.input)
        self.uses.update(output.name for output in self.proto.output)
        self.dims = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*self.proto.value_info, *self.proto.input, *self.proto.output)
        }

    def ints(self, name: str) -> list[int] | None:
        tensor = self.constants.get(name)
        return None if tensor is None else [int(v) for v in numpy_helper.to_array(tensor).ravel()]


def tidy(model: onnx.ModelProto, leaves: Collection[str]) -> None:
    """Rewrite ``model`` in place; what it computes does not change.

    Global means become GlobalAveragePool, constant reshapes to [N, -1] Flatten, option-A shortcuts copying convolutions; nodes and the
    tensors they make are named by module path (``layer1.0.conv1``); traces, inferred shapes, doubled and unused constants and default
    attributes go.

    Args:
        model: as torch's exporter gives it, with its traces.
        leaves: paths of the modules that have no children: a node made by one is named by it, a node made in the forward method of a
            container by the container and what it does (``layer1.0.add``).
    """
    graph = model.graph
    for rewrite in (_pool_and_flatten, _shortcuts):
        rewrite(_Graph(graph))
    _rename(graph, leaves)
    _share_constants(graph)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        _drop_defaults(node)
    del graph.value_info[:]
    graph.doc_string = ""
    for holder in (model, graph):
        del holder.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        value.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""


def _replace(node: onnx.NodeProto, new: onnx.NodeProto) -> None:
    """Make ``node`` what ``new`` is, keeping its place, outputs, name and trace."""
    del node.input[:]
    node.input.extend(new.input)
    del node.attribute[:]
    node.attribute.extend(new.attribute)
    node.op_type = new.op_type


def _pool_and_flatten(graph: _Graph) -> None:
    for node in graph.proto.node:
        rank = len(graph.dims.get(node.input[0], ())) if node.input else 0
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "ReduceMean" and rank == 4 and attributes.get("keepdims", 1):
            axes = graph.ints(node.input[1]) if len(node.input) > 1 else attributes.get("axes")
            if axes and sorted(axis % 4 for axis in axes) == [2, 3]:
                _replace(node, helper.make_node("GlobalAveragePool", [node.input[0]], []))
        elif node.op_type == "Reshape" and rank >= 2:
            target = graph.ints(node.input[1])
            width = int(np.prod(graph.dims[node.input[0]][1:]))
            first = (-1,) if attributes.get("allowzero", 0) else (-1, 0)  # otherwise 0 means: as it was
            if target and len(target) == 2 and target[0] in first and target[1] in (-1, width) and width > 0 and target != [-1, -1]:
                _replace(node, helper.make_node("Flatten", [node.input[0]], [], axis=1))


def _shortcuts(graph: _Graph) -> None:
    """Slice (subsample height and width) and Pad (zero channels) -> a 1 x 1 convolution that copies."""
    gone: list[onnx.NodeProto] = []
    for node in graph.proto.node:
        channels = _channel_padding(graph, node)
        if channels is None:
            continue
        source, strides, slices = node.input[0], [1, 1], []
        while (step := _subsampling(graph, source)) is not None:
            maker = graph.producers[source]
            strides = [a * b for a, b in zip(strides, step, strict=True)]
            slices.append(maker)
            source = maker.input[0]
        inputs = graph.dims.get(source, [0, 0])[1]
        before, after = channels
        if not slices or not 0 < inputs <= _COPY_LIMIT:
            continue
        weight = np.zeros((before + inputs + after, inputs, 1, 1), dtype=np.float32)
        weight[np.arange(inputs) + before, np.arange(inputs)] = 1
        name = f"{node.output[0]}.copy"
        graph.proto.initializer.append(numpy_helper.from_array(weight, name))
        _replace(node, helper.make_node("Conv", [source, name], [], kernel_shape=[1, 1], strides=strides))
        gone.extend(slices)
    for slice_node in gone:
        graph.proto.node.remove(slice_node)


def _channel_padding(graph: _Graph, node: onnx.NodeProto) -> tuple[int, int] | None:
    """(channels before, channels after) when ``node`` pads a 4-dimensional tensor with zero channels and nothing else."""
    if node.op_type != "Pad" or len(graph.dims.get(node.input[0], ())) != 4:
        return None
    if any(a.name == "mode" and a.s != b"constant" for a in node.attribute) or len(node.input) > 3:
        return None
    if len(node.input) > 2 and node.input[2]:
        value = graph.constants.get(node.input[2])
        if value is None or numpy_helper.to_array(value).any():
            return None
    pads = graph.ints(node.input[1])
    if pads is None or len(pads) != 8 or any(pads[i] for i in (0, 2, 3, 4, 6, 7)) or min(pads) < 0:
        return None
    return pads[1], pads[5]


def _subsampling(graph: _Graph, name: str) -> list[int] | None:
    """[step of height, step of width] when ``name`` is made, for one reader, by a Slice that takes every step-th row or column from 0."""
    node = graph.producers.get(name)
    if node is None or node.op_type != "Slice" or graph.uses[name] != 1 or len(node.input) < 5:
        return None
    starts, ends, axes, steps = (graph.ints(i) for i in node.input[1:5])
    dims = graph.dims.get(node.input[0], [])
    if starts is None or ends is None or axes is None or steps is None or len(dims) != 4:
        return None
    result = [1, 1]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % 4 not in (2, 3) or start != 0 or step < 1 or not (end >= dims[axis % 4] > 0 or end >= 2**31 - 1):
            return None
        result[axis % 4 - 2] *= step
    return result


def _rename(graph: onnx.GraphProto, leaves: Collection[str]) -> None:
    """Name nodes and the tensors they make by module path; a module of several nodes gives its path to the last one."""
    homes = [_home(node) for node in graph.node]
    last = {path: index for index, path in enumerate(homes)}
    outputs = {output.name for output in graph.output}
    taken = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | outputs
    names: dict[str, str] = {}
    for index, (node, path) in enumerate(zip(graph.node, homes, strict=True)):
        kind = "shortcut" if any(i.endswith(".copy") for i in node.input) else node.op_type.lower()
        wanted = path if path in leaves and last[path] == index else f"{path}.{kind}".lstrip(".")
        name, count = wanted, 2
        while name in taken:
            name, count = f"{wanted}_{count}", count + 1
        taken.add(name)
        node.name = name
        for place, output in enumerate(node.output):
            if output and output not in outputs:
                names[output] = name if place == 0 else f"{name}:{place}"
        for tensor in graph.initializer:
            if tensor.name.endswith(".copy") and tensor.name in node.input:
                names[tensor.name] = f"{name}.weight"
    for node in graph.node:
        _rewire(node, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _home(node: onnx.NodeProto) -> str:
    """Path of the module the node came from; empty for the network itself."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        scopes = [str(scope) for scope in ast.literal_eval(text)] if text else []
    except (ValueError, SyntaxError):
        scopes = []
    return scopes[-2] if len(scopes) > 1 else ""  # the last entry is the operation


def _rewire(node: onnx.NodeProto, names: dict[str, str]) -> None:
    inputs, outputs = [names.get(i, i) for i in node.input], [names.get(o, o) for o in node.output]
    del node.input[:]
    node.input.extend(inputs)
    del node.output[:]
    node.output.extend(outputs)


def _share_constants(graph: onnx.GraphProto) -> None:
    """Keep one of each set of equal small constants, and only those in use."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.size <= 16 and array.dtype.kind in "iub":
            names[tensor.name] = first.setdefault((tensor.data_type, tuple(tensor.dims), array.tobytes()), tensor.name)
    for node in graph.node:
        _rewire(node, names)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _drop_defaults(node: onnx.NodeProto) -> None:
    if node.op_type not in ("Conv", "Gemm", "MaxPool", "AveragePool"):
        return
    kept = []
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        ones = attribute.name in ("dilations", "strides") and all(v == 1 for v in value)
        zeros = attribute.name == "pads" and not any(value)
        if not ones and not zeros and _DEFAULTS.get(attribute.name, _DEFAULTS) != value:
            kept.append(attribute)
    del node.attribute[:]
    node.attribute.extend(kept)
