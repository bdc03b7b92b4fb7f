"""Constants are what a runtime computes for them, and tensors that an image reaches are none."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.errors import ModelError
from gleanet.measure.constants import constants_of
from tests.tiny_onnx import model_of

FILE = Path("m.onnx")


def chain(perm: list[int]) -> onnx.ModelProto:
    """filled and stored tensors through every rearrangement, the last one added to the input."""
    rng = np.random.default_rng(0)
    stored: dict[str, Any] = {
        "s": np.array([2, 3]),
        "w": rng.standard_normal((2, 3, 1)).astype(np.float32),
        "last": np.array([2]),
        "first": np.array([0]),
        "shape": np.array([0, -1, 1]),
    }
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5])
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["filled"], value=value),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Constant", [], ["whole"], value_ints=[3, 4]),
        helper.make_node("Constant", [], ["real"], value_float=2.5),
        helper.make_node("Squeeze", ["w", "last"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["turned"], perm=perm),
        helper.make_node("Unsqueeze", ["turned", "first"], ["more"]),
        helper.make_node("Reshape", ["more", "shape"], ["column"]),
        helper.make_node("Identity", ["column"], ["same"]),
        helper.make_node("Identity", ["x"], ["image"]),
        helper.make_node("Add", ["image", "same"], ["y"]),
    ]
    return model_of(nodes, stored, (1, 6, 1), (1, 6, 1))


def test_constants_are_what_the_runtime_computes() -> None:
    model = chain([1, 0])
    found = constants_of(model, FILE)
    made = ["filled", "zeros", "whole", "real", "flat", "turned", "more", "column", "same"]
    assert set(found) == {*made, "s", "w", "last", "first", "shape"}
    for name in made:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, expected in zip(made, session.run(made, {"x": np.zeros((1, 6, 1), np.float32)}), strict=True):
        assert found[name].dtype == expected.dtype, name
        assert np.array_equal(found[name], expected), name


def test_filled_tensors_take_no_memory() -> None:
    model = chain([1, 0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([10**6, 10**6]), "s"))
    assert constants_of(model, FILE)["filled"].shape == (10**6, 10**6)


def test_what_cannot_be_computed_is_named() -> None:
    model = chain([1, 0])
    next(node for node in model.graph.node if node.op_type == "Transpose").attribute[0].ints[:] = [1, 5]
    with pytest.raises(ModelError, match=r"m\.onnx: node 'Transpose' cannot be computed"):
        constants_of(model, FILE)
    model.graph.initializer[1].raw_data = b"\0" * 5
    with pytest.raises(ModelError, match=r"values of tensor 'w' do not fit its shape \[2, 3, 1\]"):
        constants_of(model, FILE)
