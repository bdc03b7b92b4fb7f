"""Classifiers with one odd thing each, around the same small network; see tests/foreign.py for old and new opsets."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_onnx import convnet


def half() -> onnx.ModelProto:
    """Everything in float16."""
    model = convnet()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def two_heads() -> onnx.ModelProto:
    """A second output, and before both a third of whole numbers."""
    model = convnet()
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["aux"]))
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ("n",))
    logits = onnx.ValueInfoProto.FromString(model.graph.output[0].SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend([label, logits, helper.make_tensor_value_info("aux", TensorProto.FLOAT, ("n", 4))])
    return model


def inner_batch() -> onnx.ModelProto:
    """The batch is free at the input, but a Reshape asks for one row."""
    model = convnet()
    flat = next(node for node in model.graph.node if node.op_type == "Flatten")
    flat.CopyFrom(helper.make_node("Reshape", ["pool", "row"], ["flat"], name="flat"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 16]), "row"))
    return model


def open_size(model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """Height and width are free."""
    model = model or convnet()
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        dim.dim_param = name
    return model


def squared() -> onnx.ModelProto:
    """[N, K, 1, 1] logits: no flatten, the head is a 1 x 1 convolution."""
    model = convnet()
    del model.graph.node[-2:]
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "d.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, None, None], "d.weight"))
    model.graph.node.append(helper.make_node("Conv", ["pool", "d.weight", "d.bias"], ["y"], name="d"))
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    return model


def branching(*, layer_inside: bool) -> onnx.ModelProto:
    """An If on the mean of the image, with the last layer inside it or after it."""
    model = convnet()
    last = model.graph.node.pop()
    arms = {}
    for arm, kind in (("then_branch", "Identity"), ("else_branch", "Neg")):
        name = f"{arm}.out"
        if layer_inside:
            inner = [helper.make_node("Gemm", list(last.input), [name], name="d", transB=1)]
        else:
            inner = [helper.make_node(kind, ["flat"], [name])]
        arms[arm] = helper.make_graph(inner, arm, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
    model.graph.node.append(helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["mean"], ["bright"], to=TensorProto.BOOL))
    model.graph.node.append(helper.make_node("If", ["bright"], ["y" if layer_inside else "flat2"], name="if", **arms))
    if not layer_inside:
        model.graph.node.append(helper.make_node("Gemm", ["flat2", *last.input[1:]], ["y"], name="d", transB=1))
    return model


def with_function() -> onnx.ModelProto:
    """The last layer is a local function."""
    model = convnet()
    last = model.graph.node.pop()
    body = [helper.make_node("Gemm", ["a", "b", "c"], ["z"], transB=1)]
    opset = helper.make_opsetid("", 18)
    model.functions.append(helper.make_function("own", "Head", ["a", "b", "c"], ["z"], body, [opset]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Head", list(last.input), ["y"], name="d", domain="own"))
    return model


def filled() -> onnx.ModelProto:
    """Weights without meaning: zeros."""
    model = convnet()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    return model


def hardmax(opset: int) -> onnx.ModelProto:
    """An operator that the version converter gets wrong: before opset 13 it flattens, so that only one class is 1 in the whole image."""
    model = convnet(opset=opset)
    last = model.graph.node[-1]
    last.output[0] = "logits"
    shape: NDArray[Any] = np.array([0, 2, 2])
    model.graph.initializer.append(numpy_helper.from_array(shape, "square"))
    model.graph.node.append(helper.make_node("Reshape", ["logits", "square"], ["pairs"], name="pairs"))
    model.graph.node.append(helper.make_node("Hardmax", ["pairs"], ["one"], name="one", axis=1))
    model.graph.node.append(helper.make_node("Flatten", ["one"], ["y"], name="out"))
    return model


def training(kind: str) -> onnx.ModelProto:
    """Exported for training: a batch-norm with the outputs that only training has, one with the attribute, or a dropout that drops."""
    model = convnet(opset=13 if kind == "outputs" else 18)
    last = model.graph.node[-1]
    if kind == "dropout":
        model.graph.initializer.extend(
            [numpy_helper.from_array(np.array(0.5, dtype=np.float32), "ratio"), numpy_helper.from_array(np.array(True), "on")]
        )
        node = helper.make_node("Dropout", ["flat", "ratio", "on"], ["kept"], name="drop")
    else:
        ones = np.ones(16, np.float32)
        model.graph.initializer.extend(numpy_helper.from_array(ones, name) for name in ("g", "s", "m", "v"))
        more = ["kept.m", "kept.v"] + ["kept.sm", "kept.sv"] * (kind == "outputs")
        mode: dict[str, Any] = {"training_mode": 1} if kind == "attribute" else {}
        node = helper.make_node("BatchNormalization", ["flat", "g", "s", "m", "v"], ["kept", *more], name="drop", **mode)
    last.input[0] = "kept"
    model.graph.node.insert(len(model.graph.node) - 1, node)
    return model
