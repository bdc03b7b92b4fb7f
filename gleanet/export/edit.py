"""Reading and editing ONNX graphs: what all deployment forms need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from gleanet.core.errors import ModelError
from gleanet.measure.runtime import ORT_ERRORS, one_line, serialize

Dim = int | str | None

_KINDS = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(double)": onnx.TensorProto.DOUBLE,
    "tensor(uint8)": onnx.TensorProto.UINT8,
    "tensor(int8)": onnx.TensorProto.INT8,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(int64)": onnx.TensorProto.INT64,
}


@dataclass(frozen=True)
class Tensor:
    """Element type (of ``onnx.TensorProto``, 0 where it is another) and shape; a free dimension is its name, or None."""

    kind: int
    shape: tuple[Dim, ...]


def image_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The one input that is no weight.

    Raises:
        ModelError: there are several, or none.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}): an image classifier has one")
    return inputs[0]


def opset(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def readers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if name in node.input]


def producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def constant(graph: onnx.GraphProto, name: str) -> NDArray[Any] | None:
    """The value of an initializer or of a Constant node; None for anything else."""
    tensor = next((t for t in graph.initializer if t.name == name), None)
    if tensor is not None:
        return np.asarray(numpy_helper.to_array(tensor))
    node = producer(graph, name)
    if node is None or node.op_type != "Constant":
        return None
    value = onnx.helper.get_attribute_value(node.attribute[0])
    return np.asarray(numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def fresh(graph: onnx.GraphProto, wanted: str) -> str:
    """``wanted``, or ``wanted_2, ...`` where a tensor or node has that name already."""
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    name, count = wanted, 2
    while name in taken:
        name, count = f"{wanted}_{count}", count + 1
    return name


def redirect(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Make every node that reads ``old`` read ``new``, those in sub-graphs too."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for holder in node.attribute:
            for inner in (holder.g, *holder.graphs):
                redirect(inner, old, new)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes that lead to no output, and constants that nothing reads."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    unused = {tensor.name for tensor in graph.initializer} - needed
    inputs: list[onnx.ValueInfoProto] = [value for value in graph.input if value.name not in unused]
    for field, values in ((graph.initializer, weights), (graph.input, inputs)):
        del field[:]
        field.extend(values)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    yield from node.input
    for holder in node.attribute:
        for inner in (holder.g, *holder.graphs):
            yield from (value.name for value in inner.output)
            for child in inner.node:
                yield from _reads(child)


def tensors(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Type and shape of every tensor, as ONNX Runtime infers them: it also knows the operators of ``com.microsoft``.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.value_info[:], probe.graph.output[:]
    names = dict.fromkeys(name for node in probe.graph.node for name in node.output if name)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(serialize(probe), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime {ort.__version__} cannot run the model: {one_line(error)}") from error
    values = [*session.get_inputs(), *session.get_outputs()]
    return {value.name: Tensor(_KINDS.get(value.type, 0), tuple(value.shape)) for value in values}


def set_shape(value: onnx.ValueInfoProto, kind: int, shape: Sequence[Dim]) -> None:
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, list(shape)))
