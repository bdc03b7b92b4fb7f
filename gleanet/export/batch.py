"""The batch size of an ONNX file: fixed to a number, with every shape static, or free."""

from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from gleanet.core.errors import ExportError, ModelError
from gleanet.export.edit import Dim, Tensor, attribute, constant, drop_unused, fresh, image_input, producer, set_shape, tensors
from gleanet.measure.runtime import serialize

Batch = int | Literal["dynamic"]

_FREE = "batch"
_SMALL = 64  # elements; what is computed from shapes alone is not larger


def set_batch(model: onnx.ModelProto, wanted: Batch) -> None:
    """Fix or free the first dimension of the input, in place, and all that hangs on it.

    A fixed size makes all shapes static: what is computed from them alone becomes constant. Where the batch was fixed to another number,
    reshapes that name it are rewritten.

    Raises:
        ExportError: a node mixes images, or holds on to the old one; or the image size is open. The message names it.
    """
    value = image_input(model.graph)
    if not value.type.tensor_type.shape.dim:
        raise ExportError(f"input {value.name!r} has no shape: the batch cannot be found in it")
    before = value.type.tensor_type.shape.dim[0].dim_value
    if before and before != wanted:
        _loosen_reshapes(model, value.name, before)
        _declare(model, value, _FREE)
        _free_outputs(model, value.name)
    if wanted != "dynamic":
        _check_sizes(value)
        _declare(model, value, wanted)
        _fold_shapes(model)
        _fix_outputs(model)


def _declare(model: onnx.ModelProto, value: onnx.ValueInfoProto, batch: int | str) -> None:
    """Write the size into the input, and forget all shapes that were inferred with another."""
    old = value.type.tensor_type
    shape: list[Dim] = [dim.dim_value or dim.dim_param or None for dim in old.shape.dim]
    set_shape(value, old.elem_type, [batch, *shape[1:]])
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.ClearField("type")


def _check_sizes(value: onnx.ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    if any(not dim.dim_value for dim in dims[1:]):
        shown = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        raise ExportError(f"input {value.name!r} [{shown}] leaves the image size open: export the model with a fixed one for a fixed batch")


def _infer(model: onnx.ModelProto) -> dict[str, Tensor]:
    try:
        return tensors(model)
    except ModelError as error:
        raise ExportError(f"the batch size cannot be changed: {error}") from error


def _loosen_reshapes(model: onnx.ModelProto, name: str, batch: int) -> None:
    """Let reshapes to [batch, ...] copy the batch size from their input instead."""
    graph = model.graph
    known = tensors(model)
    led = {name}  # tensors whose first dimension is the batch
    for node in graph.node:
        source, out = node.input[0] if node.input else "", node.output[0]
        shape = known[out].shape if out in known else ()
        if not led.intersection(node.input) or not shape or shape[0] != batch or node.op_type in ("Shape", "Size", "ConstantOfShape"):
            continue
        if node.op_type == "Transpose" and attribute(node, "perm", [1])[0] != 0:
            continue
        if node.op_type == "Reshape":
            if source not in led:
                continue
            _loosen(graph, node, batch)
        led.add(out)


def _loosen(graph: onnx.GraphProto, node: onnx.NodeProto, batch: int) -> None:
    target = constant(graph, node.input[1])
    if target is None or len(target) == 0 or target[0] != batch or not target[1:].all():
        return
    kept = [a for a in node.attribute if a.name != "allowzero"]  # here 0 has to mean: as it was
    del node.attribute[:]
    node.attribute.extend(kept)
    name = fresh(graph, f"{node.name or node.output[0]}.shape")
    graph.initializer.append(numpy_helper.from_array(np.array([0, *target[1:]], dtype=np.int64), name))
    node.input[1] = name


def _fold_shapes(model: onnx.ModelProto) -> None:
    """Replace what is computed from shapes alone by constants, in place, until nothing is left of it."""
    graph = model.graph
    while True:
        known = _infer(model)
        outputs = {output.name for output in graph.output}
        folded: dict[str, NDArray[Any]] = {}
        for node in graph.node:
            value = None if node.output[0] in outputs else _from_shape(model, node, known, folded)
            if value is not None and value.size <= _SMALL:
                folded[node.output[0]] = value
        if not folded:
            return
        kept = [node for node in graph.node if node.output[0] not in folded]
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in folded.items())
        drop_unused(graph)


def _from_shape(
    model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, Tensor], folded: dict[str, NDArray[Any]]
) -> NDArray[Any] | None:
    """The value of ``node`` when it is a static shape, or computed from nothing but such and constants."""
    if node.op_type == "Shape":
        shape = known[node.input[0]].shape if node.input[0] in known else (None,)
        if not all(isinstance(dim, int) for dim in shape):
            return None
        return np.array(shape[attribute(node, "start", 0) : attribute(node, "end", None)], dtype=np.int64)
    if len(node.output) != 1 or not folded.keys() & set(node.input) or any(a.HasField("g") for a in node.attribute):
        return None
    inputs = {name: folded[name] if name in folded else constant(model.graph, name) for name in node.input if name}
    if any(array is None for array in inputs.values()):
        return None
    given = [numpy_helper.from_array(np.asarray(array), name) for name, array in inputs.items()]
    graph = onnx.helper.make_graph([node], "one", [], [onnx.ValueInfoProto(name=node.output[0])], given)
    one = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return np.asarray(ort.InferenceSession(serialize(one), options, providers=["CPUExecutionProvider"]).run(None, {})[0])


def _fix_outputs(model: onnx.ModelProto) -> None:
    known = _infer(model)
    for name, tensor in known.items():
        if not all(isinstance(dim, int) for dim in tensor.shape):
            node = producer(model.graph, name)
            raise ExportError(f"the batch cannot be fixed: {_words(node)} gives a shape that depends on values: {list(tensor.shape)}")
    for output in model.graph.output:
        set_shape(output, known[output.name].kind, known[output.name].shape)


def _free_outputs(model: onnx.ModelProto, name: str) -> None:
    """Set the outputs' shapes, and raise where the free batch size does not reach the first one."""
    known = _infer(model)
    main = known[model.graph.output[0].name]
    if not main.shape or isinstance(main.shape[0], int):
        raise ExportError(f"the batch size cannot be changed: {_words(_culprit(model.graph, name, known))} holds on to the old one")
    for output in model.graph.output:
        tensor = known[output.name]
        first = tensor.shape[:1] if tensor.shape and isinstance(tensor.shape[0], int) else [_FREE]
        set_shape(output, tensor.kind, [*first, *tensor.shape[1:]] if tensor.shape else [])


def _culprit(graph: onnx.GraphProto, name: str, known: dict[str, Tensor]) -> onnx.NodeProto | None:
    """The first node that reads something with a free first dimension and gives something with a fixed one."""
    led = {name}
    nodes: list[onnx.NodeProto] = list(graph.node)
    for node in nodes:
        shape = known[node.output[0]].shape if node.output[0] in known else ()
        if not led.intersection(node.input) or node.op_type in ("Shape", "Size"):
            continue
        if shape and isinstance(shape[0], int):
            return node
        led.add(node.output[0])
    return None


def _words(node: onnx.NodeProto | None) -> str:
    return "a node" if node is None else f"{node.op_type} {node.name or node.output[0]!r}"
