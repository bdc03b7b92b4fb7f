"""ONNX files made by hand: too large, circular, unknown, external, not finite; and what they say about themselves."""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests import tiny_onnx
from tests.fuzz.making import Make, save


def large_graphs() -> Iterator[tuple[str, str, Make]]:
    huge = 1 << 36
    for reader in ("onnx_file", "onnx_graph"):
        for name, dims in (("2^36 values", [huge]), ("negative size", [-4, 3, 3, 3]), ("2^62 x 2^62", [1 << 62, 1 << 62])):
            yield f"a weight of {name} without its values, {reader}", reader, partial(_claimed, dims)
        yield f"a constant of 2^36 values made in the graph, {reader}", reader, partial(_filled, huge)
        yield f"a padding of 2^36, {reader}", reader, partial(_padded, huge)
        yield f"an input of 2^36 pixels, {reader}", reader, partial(_wide_input, 1 << 18)
        yield f"a graph that feeds itself, {reader}", reader, _circular
        yield f"graphs in graphs, {reader}", reader, _graphs_in_graphs
        yield f"an operator nobody knows, {reader}", reader, partial(_other_node, "NoSuchOperator", "")
        yield f"an operator of another's domain, {reader}", reader, partial(_other_node, "Relu", "evil.example")


def _claimed(dims: list[int], folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    save(model, folder)


def _filled(size: int, folder: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Add", ["flat", "sum"], ["y"]),
    ]
    save(tiny_onnx.model_of(nodes, {"size": np.array([size], np.int64)}, ("n", 3, 8, 8), ("n", 192)), folder)


def _padded(size: int, folder: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    pads = np.array([0, 0, 0, 0, 0, 0, size, 0], np.int64)
    save(tiny_onnx.model_of(nodes, {"pads": pads}, ("n", 3, 8, 8), ("n", 3)), folder)


def _wide_input(side: int, folder: Path) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["g"]), helper.make_node("Flatten", ["g"], ["y"])]
    save(tiny_onnx.model_of(nodes, {}, ("n", 3, side, side), ("n", 3)), folder)


def _circular(folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    model.graph.node[0].input[0] = "c.relu"
    save(model, folder)


def _graphs_in_graphs(folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    graph = model.graph
    for _ in range(40):
        node = graph.node.add(op_type="If", input=["x"], output=["z"])
        attribute = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        graph = attribute.g
    save(model, folder)


def _other_node(kind: str, domain: str, folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    model.graph.node[1].op_type, model.graph.node[1].domain = kind, domain
    if domain:
        model.opset_import.add(domain=domain, version=1)
    save(model, folder)


def external(entries: dict[str, str], folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    (folder / "data.bin").write_bytes(bytes(10_000))
    (folder / "link").symlink_to("../../outside/canary")
    (folder / "linked").symlink_to("../../outside")


def onnx_with(value: float, folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    tensor = model.graph.initializer[0]
    tensor.raw_data = struct.pack("<f", value) + tensor.raw_data[4:]
    save(model, folder)


def onnx_metadata(entries: dict[str, str], folder: Path) -> None:
    model = tiny_onnx.convnet(channels=4)
    helper.set_model_props(model, entries)
    save(model, folder)
