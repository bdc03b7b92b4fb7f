"""What quantization would do to a file, before any image is looked at: which layers become integer, what stays in float, and why."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from gleanet.core.errors import GleanetError
from gleanet.measure.graph import model_layers
from gleanet.measure.runtime import StrPath, main_inputs, one_line, read_model
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.pointwise import look_up
from gleanet.quantize.prepare import MIN_OPSET, opset_of, prepare

_METHOD = "u8s8"  # the plain one


@dataclass(frozen=True)
class Outlook:
    """What would become of a float file.

    Attributes:
        possible: False: ``trouble`` says why not.
        integer: names of the layers with weights that become integer.
        stays_float: {layer: why} of the others.
        other_nodes: {operator: how many} of nodes without weights that have no integer form; they stay in float.
        trouble: sentences on what had to be done first, or on what is impossible.
    """

    possible: bool
    integer: tuple[str, ...] = ()
    stays_float: dict[str, str] | None = None
    other_nodes: dict[str, int] | None = None
    trouble: tuple[str, ...] = ()


def outlook(path: StrPath) -> Outlook:
    """Prepare a float ONNX file and put quantization nodes into a copy in memory, with ranges that mean nothing.

    Raises:
        ModelError: the file cannot be read.
    """
    file = Path(path)
    model = read_model(file)
    given = opset_of(model)
    try:
        prepared = prepare(model, file)
        tensors = {name for node in prepared.graph.node for name in (*node.input, *node.output)}
        result = insert(prepared, dict.fromkeys(tensors, (-1.0, 1.0)), METHODS[_METHOD], model)
        layers = [layer for layer in model_layers(result, file, _some_size(result)) if layer.macs]
    except GleanetError as error:
        return Outlook(possible=False, trouble=(one_line(error, limit=400),))
    integer = tuple(layer.name for layer in layers if layer.dtype and "float" not in layer.dtype)
    return Outlook(
        possible=True,
        integer=integer,
        stays_float={layer.name: _why(layer.kind, layer.dtype) for layer in layers if layer.name not in integer},
        other_nodes=_without_integer_form(prepared, {layer.name for layer in layers}, {node.name for node in look_up(result).graph.node}),
        trouble=tuple(_raised(given, opset_of(prepared))),
    )


def _some_size(model: onnx.ModelProto) -> tuple[int, ...]:
    """A shape of one image for files that leave it open: only names and types are asked for, not costs."""
    dims = main_inputs(model)[0].type.tensor_type.shape.dim
    return tuple(d.dim_value if d.dim_value > 0 else 224 for d in list(dims)[1:])


def _why(kind: str, dtype: str) -> str:
    if not dtype:
        return "its weights are computed in the graph"
    if kind not in {*QDQRegistry, *QLinearOpsRegistry}:
        return f"{kind} has no integer form in ONNX Runtime"
    return "the method leaves it in float"


def _without_integer_form(prepared: onnx.ModelProto, layers: set[str], written: set[str]) -> dict[str, int]:
    last = [node.name in layers for node in prepared.graph.node]
    end = len(last) - 1 - last[::-1].index(True) if True in last else len(last)
    kinds = Counter(
        node.op_type
        for index, node in enumerate(prepared.graph.node)
        if node.name not in layers
        and node.name in written  # else a table takes its place
        and node.op_type != "Constant"
        and (node.op_type not in {*QDQRegistry, *QLinearOpsRegistry} or (node.op_type == "Softmax" and index > end))
    )
    return dict(sorted(kinds.items()))


def _raised(given: int, now: int) -> list[str]:
    if given >= MIN_OPSET:
        return []
    if now < MIN_OPSET:
        return [f"Opset {given}: it cannot be raised to {MIN_OPSET}, so that weights per channel are impossible."]
    return [f"Opset {given}: raised to {now} for quantization."]
