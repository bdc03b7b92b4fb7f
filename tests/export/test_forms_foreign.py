"""Models that were not made here: their own softmax and argmax, layouts, reshapes and shape arithmetic."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.errors import ExportError
from gleanet.core.records import Preprocess
from gleanet.export import reform, reform_file
from tests.export.test_forms import PIXELS, PREPROCESS, normalised, run, same
from tests.tiny_onnx import convnet, floats, save

X = floats(6)


def ending(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT, shape: list[Any] | None = None, **kwargs: Any) -> onnx.ModelProto:
    """``convnet`` with more nodes behind its logits, which are called "z"; the last one makes "y"."""
    model = convnet(**kwargs)
    model.graph.node[-1].output[0] = "z"
    model.graph.node.extend(nodes)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, shape or ["n", 4]))
    return model


def behind_flatten(*nodes: onnx.NodeProto, batch: int | str, constants: dict[str, Any]) -> onnx.ModelProto:
    """``convnet`` whose Flatten is replaced by ``nodes`` from "pool" to "flat"."""
    model = convnet(batch=batch)
    (flatten,) = [node for node in model.graph.node if node.op_type == "Flatten"]
    at = list(model.graph.node).index(flatten)
    model.graph.node.remove(flatten)
    for place, node in enumerate(nodes, at):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    return model


def softmax(z: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


LOGITS = run(convnet(), X)


@pytest.mark.parametrize("opset", [11, 18])
def test_its_own_softmax_is_kept_or_cut_off(opset: int) -> None:
    model = ending(helper.make_node("Softmax", ["z"], ["y"], axis=1), opset=opset)
    assert same(reform(model, output="softmax"), model)
    cut = reform(model, output="logits")
    assert np.array_equal(run(cut, X), LOGITS)
    assert [node.op_type for node in reform(model, output="argmax").graph.node][-2:] == ["Gemm", "ArgMax"]
    assert np.array_equal(run(reform(model, output="argmax"), X), LOGITS.argmax(axis=1))


def test_old_style_scores_of_four_dimensions() -> None:
    """As SqueezeNet in the ONNX zoo: [N, K, 1, 1] scores, softmax over them."""
    nodes = [helper.make_node("Reshape", ["z", "four"], ["z4"]), helper.make_node("Softmax", ["z4"], ["y"], axis=1)]
    model = ending(*nodes, shape=["n", 4, 1, 1], opset=11)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 4, 1, 1]), "four"))
    assert np.array_equal(run(reform(model, output="logits"), X), LOGITS)
    assert np.array_equal(run(reform(model, output="argmax"), X), LOGITS.argmax(axis=1))
    assert np.array_equal(run(reform(reform(model, output="logits"), output="softmax"), X), run(model, X)[:, :, 0, 0])


def test_log_softmax_is_a_kind_of_logits() -> None:
    model = ending(helper.make_node("LogSoftmax", ["z"], ["y"], axis=-1))
    assert same(reform(model, output="logits"), model)
    assert np.abs(run(reform(model, output="softmax"), X) - softmax(LOGITS)).max() <= 1e-6


def test_quantized_softmax_of_integer_operators() -> None:
    scales = {"s": np.float32(0.05), "p": np.uint8(128), "t": np.float32(1 / 256), "q": np.uint8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["z", "s", "p"], ["zq"]),
        helper.make_node("QLinearSoftmax", ["zq", "s", "p", "t", "q"], ["yq"], domain="com.microsoft", axis=1, opset=13),
        helper.make_node("DequantizeLinear", ["yq", "t", "q"], ["y"]),
    ]
    model = ending(*nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in scales.items())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert same(reform(model, output="softmax"), model)
    rounded = np.clip(np.rint(LOGITS / np.float32(0.05)), -128, 127) * np.float32(0.05)
    assert np.abs(run(reform(model, output="logits"), X) - rounded).max() <= 1e-6
    assert np.array_equal(run(reform(model, output="argmax"), X), rounded.argmax(axis=1))


def test_its_own_argmax_becomes_int64_of_one_dimension_or_goes() -> None:
    nodes = [
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["i"], axis=-1, keepdims=1),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.INT32),
    ]
    model = ending(*nodes, kind=TensorProto.INT32, shape=["n", 1])
    made = reform(model, output="argmax")
    found = run(made, X)
    assert found.dtype == np.int64
    assert found.shape == (6,)
    assert np.array_equal(found, LOGITS.argmax(axis=1))
    assert same(reform(made, output="argmax"), made)
    assert np.array_equal(run(reform(model, output="logits"), X), LOGITS)
    assert np.abs(run(reform(model, output="softmax"), X) - softmax(LOGITS)).max() <= 1e-6


def test_what_is_no_score_is_refused() -> None:
    model = ending(helper.make_node("Cast", ["z"], ["y"], to=TensorProto.INT32), kind=TensorProto.INT32)
    with pytest.raises(ExportError, match="'y' does not hold float scores"):
        reform(model, output="softmax")


def nhwc(*front: onnx.NodeProto) -> onnx.ModelProto:
    """As converted from TensorFlow: NHWC input, ``front`` from "x" to "t"."""
    model = convnet()
    model.graph.node[0].input[0] = "t"
    for place, node in enumerate(front):
        model.graph.node.insert(place, node)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 3]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2.0], dtype=np.float32), "two"))
    return model


@pytest.mark.parametrize("direct", [True, False])
def test_a_model_that_takes_nhwc(direct: bool, tmp_path: Any) -> None:
    """``direct``: its Transpose comes first and can be cut off; otherwise something else reads the channels-last image."""
    turn = helper.make_node("Transpose", ["x" if direct else "m"], ["t"], perm=[0, 3, 1, 2])
    model = nhwc(turn) if direct else nhwc(helper.make_node("Mul", ["x", "two"], ["m"]), turn)
    floats_in = normalised(PIXELS)
    expected = run(convnet(), floats_in * np.float32(1 if direct else 2))
    last = floats_in.transpose(0, 2, 3, 1)
    assert same(reform(model, layout="NHWC"), model)
    first = reform(model, layout="NCHW")
    assert np.array_equal(run(first, floats_in), run(model, last))
    assert [n.op_type for n in first.graph.node].count("Transpose") == (0 if direct else 2)
    for layout in ("NCHW", "NHWC"):
        made = reform(model, input="uint8", preprocess=PREPROCESS, layout=layout)
        x = PIXELS.transpose(0, 2, 3, 1) if layout == "NHWC" else PIXELS
        assert np.abs(run(made, x) - expected).max() <= 1e-5
        assert same(reform(made, input="uint8", preprocess=PREPROCESS, layout=layout), made)
    source = save(model, tmp_path / "s.onnx")
    done = reform_file(source, tmp_path / "o.onnx", input="uint8", output="softmax", batch=2, preprocess=PREPROCESS, check=PIXELS)
    assert done.max_abs_diff <= 1e-5
    assert reform_file(source, tmp_path / "r.onnx", output="argmax").max_abs_diff == 0


def test_shape_arithmetic_becomes_constant_with_a_fixed_batch() -> None:
    """As torch's older exporter writes ``x.view(x.size(0), -1)``."""
    nodes = [
        helper.make_node("Shape", ["pool"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Unsqueeze", ["rows", "axes"], ["row"]),
        helper.make_node("Concat", ["row", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["pool", "target"], ["flat"]),
    ]
    model = behind_flatten(
        *nodes, batch="n", constants={"zero": np.int64(0), "axes": np.array([0], dtype=np.int64), "rest": np.array([-1], dtype=np.int64)}
    )
    made = reform(model, batch=3)
    assert not {"Shape", "Gather", "Concat"} & {node.op_type for node in made.graph.node}
    assert np.array_equal(run(made, X[:3]), LOGITS[:3])
    assert same(reform(made, batch=3), made)
    for node in (made, reform(made, batch=6)):
        assert np.abs(run(reform(node, batch="dynamic"), X) - LOGITS).max() <= 1e-6
    assert np.abs(run(reform(made, batch=2), X[:2]) - LOGITS[:2]).max() <= 1e-6


@pytest.mark.parametrize(("batch", "target"), [(1, [1, 16]), (1, [1, -1]), (1, [-1, 16]), (2, [2, 16]), (2, [0, -1]), (4, [-1, 16])])
def test_reshapes_that_name_the_batch_are_freed(batch: int, target: list[int]) -> None:
    """In the classifier, and on the way (a reshape to five dimensions and back, as channel shuffles do)."""
    nodes = [
        helper.make_node("Reshape", ["pool", "five"], ["p5"], name="five"),
        helper.make_node("Transpose", ["p5"], ["p5t"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Transpose", ["p5t"], ["p5b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["p5b", "target"], ["flat"], name="flat", allowzero=0 if 0 in target else 1),
    ]
    model = behind_flatten(
        *nodes, batch=batch, constants={"five": np.array([batch, 4, 4, 1, 1], dtype=np.int64), "target": np.array(target, dtype=np.int64)}
    )
    assert np.array_equal(run(model, X[:batch]), run(convnet(), X[:batch]))
    for wanted in ("dynamic", 3):
        made = reform(model, batch=wanted)
        assert np.abs(run(made, X[:3]) - LOGITS[:3]).max() <= 1e-6
        assert same(reform(made, batch=wanted), made)


def test_what_holds_on_to_its_batch_is_named() -> None:
    mixing = behind_flatten(
        helper.make_node("Reshape", ["pool", "all"], ["mixed"], name="mix"),
        helper.make_node("Reshape", ["mixed", "back"], ["flat"], name="back"),
        batch=2,
        constants={"all": np.array([1, 32], dtype=np.int64), "back": np.array([2, 16], dtype=np.int64)},
    )
    for wanted in ("dynamic", 3):
        with pytest.raises(ExportError, match="batch size cannot be changed: Reshape 'mix' holds on to the old one"):
            reform(mixing, batch=wanted)
    added = behind_flatten(
        helper.make_node("Flatten", ["pool"], ["f"], name="f"),
        helper.make_node("Add", ["f", "per"], ["flat"], name="per image"),
        batch=2,
        constants={"per": np.ones((2, 16), np.float32)},
    )
    with pytest.raises(ExportError, match="Add 'per image' holds on"):
        reform(added, batch="dynamic")


def test_an_open_image_size_cannot_be_fixed() -> None:
    model = convnet(metadata=None)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"s{axis}"
    with pytest.raises(ExportError, match=r"'x' \[n, 3, s2, s3\] leaves the image size open"):
        reform(model, batch=1)
    assert run(reform(model, input="uint8", preprocess=Preprocess()), PIXELS).shape == (20, 4)


def test_further_outputs_stay() -> None:
    model = ending(helper.make_node("Softmax", ["z"], ["y"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 16]))
    made = reform(model, output="argmax", batch=2)
    assert [o.name for o in made.graph.output] == ["class", "flat"]
    assert [d.dim_value for d in made.graph.output[1].type.tensor_type.shape.dim] == [2, 16]
