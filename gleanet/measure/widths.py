"""What each width of each layer costs: layers cut out of an ONNX file, resized, and timed one by one.

A layer is its convolution or matrix product with the activation behind it, as the exporter writes it after batch-norm folding. Layers of
the same kind and shape are measured once. The weights are random: a time does not depend on them.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LatencyTable, LayerTimes
from gleanet.measure.graph import free_batch_to_one, tensor_shapes
from gleanet.measure.runtime import StrPath, open_session, read_model, runtime_name, serialize
from gleanet.measure.timing import call_of, interleaved

SECONDS = 20.0  # for all layers together, at least 15 rounds
BLOCK = 8
Axes = Mapping[str, tuple[Sequence[int], Sequence[int]]]
_TIMED = ("Conv", "ConvTranspose", "Gemm")
_ACTIVATIONS = ("Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish")


@dataclass(frozen=True)
class _Kind:
    """One kind of layer: its node, the activation behind it, the shape of its weight and of its input."""

    node: onnx.NodeProto
    activation: onnx.NodeProto | None
    weight: tuple[int, ...]
    size: tuple[int, ...]  # of the input, without batch and channels
    outs: tuple[int, ...]
    ins: tuple[int, ...]
    layers: list[str] = field(default_factory=list)

    @property
    def groups(self) -> int:
        return int(_attribute(self.node, "group", 1))

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.weight[1] == 1

    def words(self) -> str:
        if self.node.op_type == "Gemm":
            return "linear"
        kernel, sides = "x".join(map(str, self.weight[2:])), " x ".join(map(str, self.size))
        stride = _attribute(self.node, "strides", [1])[0]
        name = "depthwise" if self.depthwise else "transposed" if self.node.op_type == "ConvTranspose" else "conv"
        return f"{name} {kernel}{f' stride {stride}' if stride > 1 else ''}, {sides} pixels"


def width_times(
    path: StrPath, axes: Axes, *, batch: int = 1, threads: int = 1, seconds: float = SECONDS, progress: Progress = SILENT
) -> LatencyTable:
    """Time the layers of an ONNX file at several widths, all in turns, the whole file among them.

    Args:
        path: a float classifier whose nodes are named by module path, as :func:`gleanet.export.export_onnx` writes it.
        axes: (output widths, input widths) to measure by module path, ascending, each ending with the layer's own. A layer that is no
            convolution or Gemm in the file is left out: its time counts as the rest of the network.
        batch, threads: of each call.
        seconds: for all together; at least 15 rounds.

    Returns:
        medians, each without the cost of calling the runtime (that of a graph with nothing in it).

    Raises:
        ModelError: the file cannot be read or run.
    """
    file = Path(path)
    base = open_session(file, threads=threads)
    batch = base.batch or batch
    kinds = _kinds(file, axes)
    calls: dict[tuple[int, int, int], Callable[[], object]] = {(-1, 0, 0): call_of(base, batch)}
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:

        def call(model: onnx.ModelProto) -> Callable[[], object]:
            one = Path(folder) / "layer.onnx"
            one.write_bytes(serialize(model))
            return call_of(open_session(one, threads=threads), batch)

        calls[-2, 0, 0] = call(_nothing(batch))
        for number, kind in enumerate(kinds):
            for out, in_ in [*((o, i) for o in kind.outs for i in kind.ins), *_odd(kind)]:
                calls[number, out, in_] = call(_layer(kind, out, in_, batch))
    with progress.task("Time every width of every layer", None, "rounds") as advance:
        samples = interleaved(calls, seconds=seconds / len(calls), advance=advance)
    p50 = {key: 1e3 * float(np.median(times)) for key, times in samples.items()}

    def own(number: int, out: int, in_: int) -> float:
        return max(0.0, p50[number, out, in_] - p50[-2, 0, 0])

    return LatencyTable(
        runtime=runtime_name(),
        threads=threads,
        batch=batch,
        repeats=len(samples[-1, 0, 0]),
        base_ms=p50[-1, 0, 0],
        layers=tuple(
            LayerTimes(
                what=kind.words(),
                layers=tuple(kind.layers),
                outs=kind.outs,
                ins=kind.ins,
                ms=tuple(tuple(own(number, out, in_) for in_ in kind.ins) for out in kind.outs),
                odd=tuple((out, in_, own(number, out, in_)) for out, in_ in _odd(kind)),
            )
            for number, kind in enumerate(kinds)
        ),
    )


def _kinds(file: Path, axes: Axes) -> list[_Kind]:
    """The kinds of layers to measure, each with the paths of its layers; a layer that is called twice is there twice."""
    model = read_model(file)
    free_batch_to_one(model)
    nodes = [node for node in model.graph.node if node.op_type in _TIMED]
    shapes = tensor_shapes(model, [node.input[0] for node in nodes], file)
    owner = {node.input[1]: node.name for node in reversed(nodes) if node.name in axes}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kinds: dict[tuple[object, ...], _Kind] = {}
    for node in nodes:
        layer = owner.get(node.input[1])
        if layer is None:
            continue
        after = readers.get(node.output[0], [])
        activation = after[0] if len(after) == 1 and after[0].op_type in _ACTIVATIONS else None
        outs, ins = (tuple(axis) for axis in axes[layer])
        weight, size = shapes[node.input[1]], shapes[node.input[0]][2:]
        key = (_signature(node), activation and _signature(activation), len(node.input), weight, size, outs, ins)
        kinds.setdefault(key, _Kind(node, activation, weight, size, outs, ins)).layers.append(layer)
    return list(kinds.values())


def _signature(node: onnx.NodeProto) -> tuple[object, ...]:
    return node.op_type, tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))


def _odd(kind: _Kind) -> Iterator[tuple[int, int]]:
    """(outputs, inputs) one channel beside a multiple of 8, at half, three quarters and all of the width that varies."""
    side = 0 if len(kind.outs) > 1 else 1
    axis = (kind.outs, kind.ins)[side]
    if len(axis) < 2 or axis[-1] < 2 * BLOCK or (kind.groups > 1 and not kind.depthwise):
        return
    marks = {round(share * axis[-1] / BLOCK) * BLOCK for share in (0.5, 0.75, 1.0)}
    for width in sorted({mark + step for mark in marks for step in (-1, 1)}):
        if axis[0] < width < axis[-1] and width not in axis:
            yield (width, kind.ins[-1]) if side == 0 else (kind.outs[-1], width)


def _layer(kind: _Kind, out: int, in_: int, batch: int) -> onnx.ModelProto:
    """A graph of one layer with these widths, random weights and a fixed batch."""
    node = onnx.NodeProto()
    node.CopyFrom(kind.node)
    groups, kernel = kind.groups, kind.weight[2:]
    shape: tuple[int, ...]
    if node.op_type == "Gemm":
        shape = (out, in_) if _attribute(node, "transB", 0) else (in_, out)
    elif kind.depthwise:
        groups = in_ = out * groups // kind.weight[0] if node.op_type == "Conv" else out
        shape = (out, 1, *kernel)
        next(a for a in node.attribute if a.name == "group").i = groups
    else:
        shape = (out, in_ // groups, *kernel) if node.op_type == "Conv" else (in_, out // groups, *kernel)
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(0.1 * rng.standard_normal(shape, dtype=np.float32), "w")]
    if len(kind.node.input) > 2:
        constants.append(numpy_helper.from_array(rng.standard_normal(out, dtype=np.float32), "b"))
    del node.input[:], node.output[:]
    node.input.extend(["x", *(tensor.name for tensor in constants)])
    node.output.append("y")
    nodes = [node]
    if kind.activation is not None:
        behind = onnx.NodeProto()
        behind.CopyFrom(kind.activation)
        if len(behind.input) > 1:  # the limits of a Clip are constants of the file: an activation of the same cost stands in
            behind = helper.make_node("Relu", [], [])
        del behind.input[:], behind.output[:]
        behind.input.append("y")
        behind.output.append("z")
        nodes.append(behind)
    return _graph(nodes, (batch, in_, *kind.size), constants)


def _nothing(batch: int) -> onnx.ModelProto:
    return _graph([helper.make_node("Relu", ["x"], ["y"])], (batch, 1), [])


def _graph(nodes: Sequence[onnx.NodeProto], shape: Sequence[int], constants: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _attribute(node: onnx.NodeProto, name: str, default: object) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
