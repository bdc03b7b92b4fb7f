"""Files made elsewhere are quantized: what comes out is as precise as from files of ours, and what is impossible is said in one line."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gleanet.core.errors import GleanetError, ModelError, QuantizationError
from gleanet.core.stats import sqnr_db
from gleanet.measure import graph_cost, graph_layers, open_session, predict
from gleanet.measure.inspect import structure_of
from gleanet.quantize import METHODS, quantize
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.outlook import outlook
from gleanet.quantize.prepare import opset_of, prepare
from tests import odd
from tests.foreign import LAYERS, MACS, OPSETS, foreign, meaningful
from tests.tiny_onnx import convnet, floats, model_of, save

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
X = floats(32)
PRECISE_DB = 30.0
FOUR_BITS_DB = 15.0


def quantized(model: onnx.ModelProto, method: str, folder: Path, x: np.ndarray = X) -> tuple[Path, Path]:
    """The float file and the quantized one."""
    source, target = save(model, folder / "float.onnx"), folder / f"{method}.onnx"
    prepared = prepare(model, source)
    target.write_bytes(insert(prepared, min_max(prepared, [x], file=source), METHODS[method], model).SerializeToString())
    return source, target


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("opset", OPSETS)
def test_any_opset_batch_and_layout(opset: int, batch: int | str, nhwc: bool, tmp_path: Path) -> None:
    model = foreign(opset, batch=batch, nhwc=nhwc)
    for method in ("u8s8", "u8s8-channel"):
        source, target = quantized(model, method, tmp_path)
        written = onnx.load(target)
        onnx.checker.check_model(written, full_check=True)
        assert opset_of(written) == max(opset, 13)
        assert sqnr_db(predict(source, X), predict(target, X)) >= PRECISE_DB
        layers = graph_layers(target)
        assert tuple(layer.name for layer in layers) == LAYERS
        assert {layer.dtype for layer in layers} == {"int8"}
        assert sum(layer.macs for layer in layers) == MACS
        assert open_session(target).batch == open_session(source).batch


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.calibrator == "min-max"])  # others write the same nodes
@pytest.mark.parametrize("opset", [7, 10, 22])
def test_every_method_takes_an_old_and_a_new_file(opset: int, method: str, tmp_path: Path) -> None:
    source, target = quantized(foreign(opset, nhwc=opset == 10), method, tmp_path)
    assert sqnr_db(predict(source, X), predict(target, X)) >= (FOUR_BITS_DB if method.startswith("weights4") else PRECISE_DB)


@pytest.mark.parametrize("between", ["Identity", "Transpose", "MaxPool"])
@pytest.mark.parametrize("method", ["u8s8-qop", "u8s8"])
def test_a_relu_is_kept_where_what_comes_before_it_does_not_clip(between: str, method: str, tmp_path: Path) -> None:
    """The inserter of integer operators drops the Relu; here its input has another reader, or the scale of what lies further back."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "v": rng.standard_normal((4, 4, 1, 1)).astype(np.float32)}
    attributes: dict[str, Any] = {"Identity": {}, "Transpose": {"perm": [0, 1, 3, 2]}, "MaxPool": {"kernel_shape": [1, 1]}}[between]
    nodes = [helper.make_node("Conv", ["x", "w"], ["one"], name="one")]
    read = "one"
    if between != "Identity":
        nodes.append(helper.make_node(between, ["one"], ["same"], name="same", **attributes))
        read = "same"
    nodes += [
        helper.make_node("Relu", [read], ["relu"], name="relu"),
        helper.make_node("Conv", ["relu", "v"], ["two"], name="two"),
        helper.make_node("Add", ["two", read] if between == "Identity" else ["two", "relu"], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["y"], name="y"),
    ]
    source, target = quantized(model_of(nodes, weights, ("n", 3, 8, 8), ("n", 4)), method, tmp_path)
    assert sqnr_db(predict(source, X), predict(target, X)) >= PRECISE_DB


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_a_file_that_the_converter_would_change_keeps_its_opset(opset: int, tmp_path: Path) -> None:
    """Weights per tensor are still possible from opset 10 on; per channel the reason is said."""
    model = odd.hardmax(opset)
    if opset < 10:
        with pytest.raises(QuantizationError, match="opset 9 and cannot be raised to 13"):
            prepare(model, tmp_path / "m.onnx")
        return
    source, target = quantized(model, "u8s8", tmp_path)
    assert opset_of(onnx.load(target)) == opset
    assert np.mean(predict(source, X) == predict(target, X)) >= 0.9
    with pytest.raises(QuantizationError, match=f"weights per channel need opset 13, this file stays at {opset}"):
        quantized(model, "u8s8-channel", tmp_path)
    assert "weights per channel are impossible" in outlook(source).trouble[0]


def test_layers_keep_their_names_where_the_runtime_fuses_them(tmp_path: Path) -> None:
    """MatMul and Add become one Gemm, a Pad goes into its convolution; a layer without a name is called by its output."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 4, 1, 1), "m": (4, 5), "b": (5,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["wide"], name="pad"),
        helper.make_node("Conv", ["wide", "w1"], ["one"], name="wide.conv"),
        helper.make_node("Conv", ["one", "w2"], ["two"], name="second"),
        helper.make_node("Conv", ["two", "w2"], ["three"]),
        helper.make_node("GlobalAveragePool", ["three"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["row"]),
        helper.make_node("MatMul", ["row", "m"], ["product"], name="linear"),
        helper.make_node("Add", ["product", "b"], ["y"], name="bias"),
    ]
    model = model_of(nodes, weights, ("n", 3, 8, 8), ("n", 5))
    source, target = quantized(model, "u8s8", tmp_path)
    assert [layer.name for layer in graph_layers(target)] == ["wide.conv", "second", "three", "linear"]
    assert sqnr_db(predict(source, X), predict(target, X)) >= 25


def test_weights_that_are_listed_as_inputs_are_constants(tmp_path: Path) -> None:
    """From IR version 4 on that makes them variable for the runtime, which then folds nothing."""
    model = foreign(17)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims)))
    source, target = quantized(model, "u8s8", tmp_path)
    written = onnx.load(target).graph
    assert [value.name for value in written.input] == ["x"]
    assert not {"BatchNormalization", "Transpose"} & {node.op_type for node in written.node if node.name != "mixed"}
    assert sqnr_db(predict(source, X), predict(target, X)) >= PRECISE_DB


def test_a_batch_that_is_fixed_further_in_is_fixed_in_the_quantized_file(tmp_path: Path) -> None:
    source, target = quantized(odd.inner_batch(), "u8s8", tmp_path)
    assert (open_session(source).batch, open_session(target).batch) == (None, 1)
    assert sqnr_db(predict(source, X), predict(target, X)) >= 25


@pytest.mark.parametrize("make", [odd.two_heads, odd.squared, odd.open_size, odd.with_function])
def test_odd_files_are_quantized_like_the_plain_one(make: object, tmp_path: Path) -> None:
    assert callable(make)
    source, target = quantized(make(), "u8s8", tmp_path)
    assert np.abs(predict(source, X) - predict(save(convnet(), tmp_path / "plain.onnx"), X)).max() <= 1e-5
    assert sqnr_db(predict(source, X), predict(target, X)) >= 25
    assert Counter(layer.dtype for layer in graph_layers(target, (3, 8, 8))) == {"int8": 4}


def test_what_cannot_be_quantized_is_said_in_one_line(tmp_path: Path) -> None:
    cases = {
        "takes float16 images": odd.half(),
        r"sub-graphs \(If\)": odd.branching(layer_inside=False),
        "lies inside a sub-graph|has sub-graphs": odd.branching(layer_inside=True),
    }
    for words, model in cases.items():
        with pytest.raises(ModelError, match=words) as caught:
            prepare(model, tmp_path / "m.onnx")
        assert "\n" not in str(caught.value)
        found = outlook(save(model, tmp_path / "m.onnx"))
        assert not found.possible
        assert len(found.trouble) == 1


@pytest.mark.parametrize("kind", ["outputs", "attribute", "dropout"])
def test_a_file_in_training_mode_is_refused(kind: str, tmp_path: Path) -> None:
    path = save(odd.training(kind), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="'drop' is in training mode, its answers depend on the batch"):
        prepare(onnx.load(path), path)
    assert any("'drop' is in training mode" in line for line in structure_of(path).trouble)


def test_a_softmax_at_the_end_keeps_classes_apart(tmp_path: Path) -> None:
    """In 256 levels the small probabilities of many classes would all be 0."""
    model = convnet(classes=200)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["y"], name="softmax"))
    source, target = quantized(model, "u8s8", tmp_path)
    probabilities = predict(target, X)
    assert float(probabilities.min()) > 0
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-5
    assert outlook(source).other_nodes == {"Softmax": 1}


def test_outlook_agrees_with_what_is_written(tmp_path: Path) -> None:
    source, target = quantized(foreign(9), "u8s8", tmp_path)
    found = outlook(source)
    assert found.integer == tuple(layer.name for layer in graph_layers(target))
    assert (found.stays_float, found.other_nodes) == ({}, {"LRN": 1})
    assert found.trouble == ("Opset 9: raised to 13 for quantization.",)
    product = helper.make_node("MatMul", ["y", "turned"], ["z"], name="product")
    model = convnet(batch=1)
    model.graph.node.extend([helper.make_node("Transpose", ["y"], ["turned"], name="turned"), product])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 1)))
    assert outlook(save(model, tmp_path / "p.onnx")).stays_float == {"product": "its weights are computed in the graph"}


def test_the_whole_grid_on_a_foreign_file(tmp_path: Path) -> None:
    """A reason for every method that is impossible, a file from the others."""
    source = save(odd.hardmax(11), tmp_path / "m.onnx")
    labels = predict(source, X).argmax(axis=1)
    done = quantize(source, calibration=[X], evaluate=[(X, labels)], max_drop=100.0, method="u8s8,u8s8-channel,s8s8", batches=(1,))
    verdicts = {trial.method: trial for trial in done.trials}
    assert verdicts["u8s8-channel"].verdict in ("failed", "impossible")
    assert "opset 13" in verdicts["u8s8-channel"].reason
    assert done.method in ("u8s8", "s8s8")


# Millions of MACs and parameters: torchvision's tables of models, GoogLeNet's from Szegedy et al., CVPR 2015 (1.5 billion multiply-adds).
# Caffe's networks pad and group a little differently, hence the tolerance of MACs.
PUBLISHED = {
    "bvlc_alexnet": (714, 61.0),
    "densenet121": (2834, 7.98),
    "inception_v1": (1500, 6.99),
    "resnet50": (4089, 25.56),
    "squeezenet": (349, 1.24),
    "vgg19": (19632, 143.67),
}
SMALL = ("inception_v1", "inception_v2", "shufflenet", "squeezenet")
LARGE = ("bvlc_alexnet", "densenet121", "resnet50", "vgg19", "zfnet512")  # seconds each: much weight, or many nodes
EVERY = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


def test_light_models_cost_what_was_published() -> None:
    for name, (macs, params) in PUBLISHED.items():
        found = graph_cost(LIGHT / f"light_{name}.onnx")
        assert found[0] / 1e6 == pytest.approx(macs, rel=0.1), name
        assert found[1] / 1e6 == pytest.approx(params, rel=0.01), name


@pytest.mark.parametrize("name", EVERY)
def test_light_models_go_through_two_methods(name: str, tmp_path: Path) -> None:
    """Filled with one number, their logits say nothing, so what is asked is structure: layers, costs and size."""
    path = LIGHT / f"light_{name}.onnx"
    model, x = onnx.load(path), np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    prepared = prepare(model, path)
    ranges = min_max(prepared, [x], file=path)
    given = {layer.name: layer.macs for layer in graph_layers(path) if layer.macs}
    for method in ("u8s8", "u8s8-channel"):
        target = tmp_path / "q.onnx"
        target.write_bytes(insert(prepared, ranges, METHODS[method], model).SerializeToString())
        layers = [layer for layer in graph_layers(target) if layer.macs]
        assert {layer.name: layer.macs for layer in layers} == given
        assert {layer.dtype for layer in layers} == {"int8"}
        assert target.stat().st_size <= 1.35 * graph_cost(path)[1]
        assert np.isfinite(predict(target, x)).all()


@pytest.mark.parametrize("name", [pytest.param("densenet121", marks=pytest.mark.slow), "inception_v1", "squeezenet"])
def test_real_topologies_with_weights_that_mean_something_stay_precise(name: str, tmp_path: Path) -> None:
    model = meaningful(onnx.load(LIGHT / f"light_{name}.onnx"))
    x = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    source, target = quantized(model, "u8s8-channel", tmp_path, x)
    assert sqnr_db(predict(source, x), predict(target, x)) >= 15


def test_errors_of_a_broken_file_are_ours(tmp_path: Path) -> None:
    model = convnet()
    model.graph.initializer.pop(1)
    with pytest.raises(GleanetError, match="cannot run"):
        prepare(model, tmp_path / "m.onnx")
