"""Classifiers as other tools write them: any opset from 7 to 22, old and new forms of the same operators."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = range(7, 23)
SIZE, WIDTH, CLASSES = 8, 8, 5
LAYERS = ("stem", "grouped", "point", "head")
MACS = 64 * 8 * 27 + 16 * 8 * 36 + 16 * 8 * 8 + 5 * 8
PARAMS = (8 * 27 + 2 * 8) + (8 * 36 + 8) + 8 * 8 + (5 * 8 + 5)
Array = NDArray[Any]


def foreign(opset: int, *, batch: int | str = "n", nhwc: bool = False, seed: int = 0) -> onnx.ModelProto:
    """stem conv - batch-norm - relu - max-pool - grouped conv - channel shuffle - clip - 1 x 1 conv - dropout - sum - LRN - concat with an
    upsampled and pooled copy - global pool - linear.

    Every weight is stored in another way (initializer, Constant node, filled tensor, transposed), a dropout gives
    its unused mask, and up to opset 8 the file has IR version 3, which lists initializers among the inputs.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {
        "stem.w": _normal(rng, WIDTH, 3, 3, 3),
        "bn.scale": rng.uniform(0.8, 1.2, WIDTH),
        "bn.shift": 0.1 * rng.standard_normal(WIDTH),
        "bn.mean": 0.1 * rng.standard_normal(WIDTH),
        "bn.var": rng.uniform(0.8, 1.2, WIDTH),
        "grouped.w": _normal(rng, WIDTH, WIDTH // 2, 3, 3),
        "grouped.b": 0.1 * rng.standard_normal(WIDTH),
        "head.w": _normal(rng, CLASSES, WIDTH),
        "head.b": 0.1 * rng.standard_normal(CLASSES),
    }
    weights = {name: array.astype(np.float32) for name, array in made.items()}
    point = helper.make_node("Constant", [], ["point.w"], value=numpy_helper.from_array(_normal(rng, WIDTH, WIDTH, 1, 1)))
    nodes = [point]
    if opset >= 9:
        weights.pop("grouped.b")
        weights["grouped.size"] = np.array([WIDTH])
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.05])
        nodes.append(helper.make_node("ConstantOfShape", ["grouped.size"], ["grouped.b"], value=value))
    weights["head.wt"] = np.ascontiguousarray(weights.pop("head.w").T)
    nodes.append(helper.make_node("Transpose", ["head.wt"], ["head.w"], perm=[1, 0]))
    image = "x"
    if nhwc:
        nodes.append(helper.make_node("Transpose", ["x"], ["chw"], name="to.nchw", perm=[0, 3, 1, 2]))
        image = "chw"
    nodes += _body(opset, image, weights)
    shape = (batch, SIZE, SIZE, 3) if nhwc else (batch, 3, SIZE, SIZE)
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if opset <= 8:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, tuple(t.dims)) for t in stored]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, CLASSES))
    graph = helper.make_graph(nodes, "foreign", inputs, [output], stored)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=3 if opset <= 8 else 8 if opset < 21 else 10,
        producer_name="elsewhere",
    )


def _body(opset: int, image: str, weights: dict[str, Array]) -> list[onnx.NodeProto]:
    half = SIZE // 2
    weights |= {"split": np.array([0, 2, WIDTH // 2, half, half]), "merge": np.array([0, WIDTH, half, half]), "flat": np.array([0, -1])}
    return [
        helper.make_node("Conv", [image, "stem.w"], ["stem"], name="stem", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["stem", "bn.scale", "bn.shift", "bn.mean", "bn.var"], ["bn"], name="bn"),
        helper.make_node("Relu", ["bn"], ["relu"], name="relu"),
        helper.make_node("MaxPool", ["relu"], ["small"], name="small", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["small", "grouped.w", "grouped.b"], ["grouped"], name="grouped", group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["grouped", "split"], ["five"], name="five"),
        helper.make_node("Transpose", ["five"], ["mixed"], name="mixed", perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["mixed", "merge"], ["shuffled"], name="shuffled"),
        *_clip(opset, weights),
        helper.make_node("Conv", ["clipped", "point.w"], ["point"], name="point"),
        helper.make_node("Dropout", ["point"], ["kept", "mask"], name="dropout"),
        helper.make_node("Sum", ["kept", "small"], ["sum"], name="sum"),
        helper.make_node("LRN", ["sum"], ["lrn"], name="lrn", size=3),
        *_up(opset, weights),
        helper.make_node("AveragePool", ["up"], ["down"], name="down", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["lrn", "down"], ["both"], name="both", axis=2),
        helper.make_node("GlobalAveragePool", ["both"], ["pool"], name="pool"),
        helper.make_node("Reshape", ["pool", "flat"], ["row"], name="row"),
        helper.make_node("Gemm", ["row", "head.w", "head.b"], ["y"], name="head", transB=1),
    ]


def _clip(opset: int, weights: dict[str, Array]) -> list[onnx.NodeProto]:
    if opset < 11:
        return [helper.make_node("Clip", ["shuffled"], ["clipped"], name="clipped", min=0.0, max=6.0)]
    weights |= {"low": np.array(0, dtype=np.float32), "high": np.array(6, dtype=np.float32)}
    return [helper.make_node("Clip", ["shuffled", "low", "high"], ["clipped"], name="clipped")]


def _up(opset: int, weights: dict[str, Array]) -> list[onnx.NodeProto]:
    """Twice as large, bilinear: the operator whose meaning changed with opset 11."""
    scales = np.array([1, 1, 2, 2], dtype=np.float32)
    if opset < 9:
        return [helper.make_node("Upsample", ["sum"], ["up"], name="up", mode="linear", scales=scales.tolist())]
    weights["scales"] = scales
    if opset < 11:
        return [helper.make_node("Upsample" if opset == 9 else "Resize", ["sum", "scales"], ["up"], name="up", mode="linear")]
    weights["roi"] = np.zeros(0, dtype=np.float32)
    return [helper.make_node("Resize", ["sum", "roi", "scales"], ["up"], name="up", mode="linear")]


def meaningful(light: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A light model of the onnx package with random weights in place of its filled ones (He et al., ICCV 2015, for those of layers)."""
    rng = np.random.default_rng(seed)
    model = onnx.ModelProto()
    model.CopyFrom(light)
    graph = model.graph
    used = {name: (node.op_type, position) for node in graph.node for position, name in enumerate(node.input)}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    filled = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    for node in filled:
        shape = tuple(int(size) for size in stored[node.input[0]])
        place = used[node.output[0]]
        if place in (("Conv", 1), ("Gemm", 1)):
            array = _normal(rng, *shape)
        elif place in (("BatchNormalization", 1), ("BatchNormalization", 4)):
            array = rng.uniform(0.8, 1.2, shape).astype(np.float32)
        else:
            array = (0.1 * rng.standard_normal(shape)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        graph.node.remove(node)
    return model


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return (rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
