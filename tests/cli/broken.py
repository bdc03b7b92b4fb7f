"""ONNX files that nothing can be done with, each broken in another way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_onnx import convnet, model_of


def _edited(edit: Callable[[onnx.GraphProto], object], *, opset: int = 18) -> bytes:
    model = convnet(opset=opset)
    edit(model.graph)
    return bytes(model.SerializeToString())


def _cyclic(graph: onnx.GraphProto) -> None:
    graph.node[0].input[0] = "b.relu"


def _wrong_shape(graph: onnx.GraphProto) -> None:
    graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros((8, 5, 3, 3), np.float32), graph.initializer[1].name))


def _short_data(graph: onnx.GraphProto) -> None:
    graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-8]


def _unknown(graph: onnx.GraphProto) -> None:
    graph.node[1].op_type = "Unheard"


def _two_inputs(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    graph.node[1].op_type = "PRelu"
    graph.node[1].input.append("mask")


def _truth_only() -> bytes:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BOOL)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4))
    truth = helper.make_tensor_value_info("y", TensorProto.BOOL, ("n", 4))
    graph = helper.make_graph([node], "truth", [image], [truth])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())


def _no_batch() -> bytes:
    mean = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)
    model = model_of([mean], {}, (1, 3, 8, 8), ())
    return bytes(model.SerializeToString())


BROKEN: dict[str, tuple[bytes, str]] = {  # content and a word of the message
    "empty": (b"", "not an ONNX file"),
    "text": (b"not onnx at all", "not an ONNX file"),
    "noise": (np.random.default_rng(0).bytes(4096), "not an ONNX file"),
    "truncated": (convnet().SerializeToString()[:-900], "not an ONNX file"),
    "cyclic": (_edited(_cyclic), "cannot run"),
    "missing initializer": (_edited(lambda graph: graph.initializer.pop(1)), "cannot run"),
    "wrong shape": (_edited(_wrong_shape), "b"),
    "short data": (_edited(_short_data), "does not hold its values"),
    "unknown operator": (_edited(_unknown), "Unheard"),
    "no nodes": (_edited(lambda graph: graph.ClearField("node")), "cannot run"),
    "two inputs": (_edited(_two_inputs), "2 inputs"),
    "neither scores nor a class": (_truth_only(), "neither scores nor a class"),
    "no batch": (_no_batch(), "a classifier gives"),
    "opset of the future": (_edited(lambda graph: None).replace(b"\x10\x12", b"\x10\x7f"), "Opset 127"),
}


def write(folder: Path) -> dict[str, Path]:
    """All of them, by name."""
    files = {name: folder / f"{name.replace(' ', '-')}.onnx" for name in BROKEN}
    for name, file in files.items():
        file.write_bytes(BROKEN[name][0])
    return files
