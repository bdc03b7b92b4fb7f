"""Which tensors of a graph are constants, and what they hold.

Weights of foreign files are not always initializers: they come from ``Constant`` and ``ConstantOfShape`` nodes, through ``Transpose``,
``Reshape`` and their like. Filled tensors are views of one number, so that a light file stays light.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gleanet.core.errors import ModelError
from gleanet.measure.runtime import one_line

Array = NDArray[Any]


def constants_of(model: onnx.ModelProto, file: Path) -> dict[str, Array]:
    """``{tensor: values}`` of everything in the main graph that no image reaches and that is stored, filled or only rearranged.

    Raises:
        ModelError: a tensor whose numbers do not fit its shape, or a node that asks the impossible; ``file`` is named in it.
    """
    found: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        try:
            found[tensor.name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{file}: the values of tensor {tensor.name!r} do not fit its shape {list(tensor.dims)}") from error
    for node in model.graph.node:
        rule = _RULES.get(node.op_type)
        if rule is None or not all(name in found for name in node.input if name):
            continue
        try:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            value = rule([found[name] for name in node.input if name], attributes)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ModelError(f"{file}: node {node.name or node.op_type!r} cannot be computed: {one_line(error)}") from error
        if value is not None:
            found[node.output[0]] = value
    return found


def _constant(inputs: list[Array], attributes: dict[str, Any]) -> Array | None:
    if "value" in attributes:
        return np.asarray(numpy_helper.to_array(attributes["value"]))
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in attributes:
            return np.asarray(attributes[name], dtype=kind)
    return None


def _filled(inputs: list[Array], attributes: dict[str, Any]) -> Array:
    value = numpy_helper.to_array(attributes["value"]).reshape(()) if "value" in attributes else np.float32(0)
    return np.broadcast_to(value, tuple(int(size) for size in inputs[0].reshape(-1)))


def _reshaped(inputs: list[Array], attributes: dict[str, Any]) -> Array | None:
    array = inputs[0]
    wanted = [int(size) for size in inputs[1]] if len(inputs) > 1 else list(attributes.get("shape", ()))
    if not attributes.get("allowzero", 0):
        wanted = [array.shape[i] if size == 0 and i < array.ndim else size for i, size in enumerate(wanted)]
    known = int(np.prod([size for size in wanted if size != -1]))
    fits = known == array.size if -1 not in wanted else known > 0 and array.size % known == 0
    return array.reshape(wanted) if fits and wanted.count(-1) <= 1 else None


def _axes(inputs: list[Array], attributes: dict[str, Any]) -> list[int]:
    return [int(axis) for axis in (inputs[1].reshape(-1) if len(inputs) > 1 else attributes.get("axes", ()))]


def _unsqueezed(inputs: list[Array], attributes: dict[str, Any]) -> Array:
    return np.expand_dims(inputs[0], tuple(_axes(inputs, attributes)))


def _squeezed(inputs: list[Array], attributes: dict[str, Any]) -> Array:
    return np.squeeze(inputs[0], tuple(_axes(inputs, attributes)) or None)


def _transposed(inputs: list[Array], attributes: dict[str, Any]) -> Array:
    return np.transpose(inputs[0], attributes.get("perm"))


_RULES: dict[str, Callable[[list[Array], dict[str, Any]], Array | None]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Identity": lambda inputs, attributes: inputs[0],
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
