"""Bias correction brings means back, on images it has not seen, and touches nothing but biases."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gleanet.core.errors import DataError
from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.correct import channel_means, correct_biases
from gleanet.quantize.cut import Walk, image_values
from gleanet.quantize.insert import insert
from gleanet.quantize.layers import island
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, floats, mobile, save

FILE = Path("m.onnx")
X, UNSEEN = floats(256), floats(256, seed=1)
LAYERS = ("a", "b", "c", "d")


def both(model: onnx.ModelProto, method: str, *keep: str) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """The float model, a quantized one, and the same corrected."""
    prepared = prepare(model, FILE)
    ranges = min_max(prepared, [X], file=FILE)
    quantized = insert(prepared, ranges, METHODS[method], model, keep_float=island(prepared, keep))
    return prepared, quantized, correct_biases(quantized, prepared, X)


def mean_error(prepared: onnx.ModelProto, quantized: onnx.ModelProto) -> dict[str, float]:
    """Root mean square over the channels of what each layer's mean output is off by, on unseen images."""
    names = [{node.name: node.output[0] for node in model.graph.node} for model in (prepared, quantized)]
    means = []
    for model, outputs in zip((prepared, quantized), names, strict=True):
        found = Walk(model, image_values(model, UNSEEN, model), 1).see([outputs[layer] for layer in LAYERS])
        means.append({layer: channel_means(found, outputs[layer]) for layer in LAYERS})
    errors = {layer: means[1][layer][: len(means[0][layer])] - means[0][layer] for layer in LAYERS}
    return {layer: float(np.sqrt(np.mean(error**2))) for layer, error in errors.items()}


@pytest.mark.parametrize("method", ["u8s8", "u8s8-7bit-channel", "s8s8", "u8s8-head-pad"])
def test_means_come_back_on_unseen_images(method: str, tmp_path: Path) -> None:
    prepared, quantized, corrected = both(convnet(outlier=20, residual=method != "u8s8-head-pad"), method)
    before, after = mean_error(prepared, quantized), mean_error(prepared, corrected)
    assert sum(after.values()) < sum(before.values()) / 2
    logits = [predict(save(m, tmp_path / "m.onnx"), UNSEEN) for m in (prepared, quantized, corrected)]
    assert sqnr_db(logits[0], logits[2]) > sqnr_db(logits[0], logits[1])


def test_biases_change_and_nothing_else() -> None:
    _, quantized, corrected = both(convnet(), "u8s8")
    before, after = ({t.name: t for t in m.graph.initializer} for m in (quantized, corrected))
    changed = {name for name in before if before[name].SerializeToString() != after[name].SerializeToString()}
    assert changed == {"a.bias", "b.bias", "c.bias", "d.bias"}
    assert all(after[name].data_type == before[name].data_type for name in changed)
    assert list(quantized.graph.node) == list(corrected.graph.node)


def test_layers_in_float_and_layers_without_bias() -> None:
    """A bias left in float takes up what the layers before it do; a MatMul has none and is passed over."""
    prepared, quantized, corrected = both(convnet(outlier=20), "u8s8", "c")
    before, after = mean_error(prepared, quantized), mean_error(prepared, corrected)
    assert after["c"] < before["c"] / 2
    bias = next(t for t in corrected.graph.initializer if t.name == "c.bias")
    assert bias.data_type == onnx.TensorProto.FLOAT
    _, quantized, corrected = both(mobile(), "u8s8")
    onnx.checker.check_model(corrected, full_check=True)


@pytest.mark.parametrize("keep", [(), ("a", "b")])
def test_a_shared_bias_becomes_one_for_each_layer(keep: tuple[str, ...]) -> None:
    model = convnet(outlier=20)
    next(node for node in model.graph.node if node.name == "b").input[2] = "a.bias"
    del model.graph.initializer[[t.name for t in model.graph.initializer].index("b.bias")]
    prepared, quantized, corrected = both(model, "u8s8", *keep)
    onnx.checker.check_model(corrected, full_check=True)
    producers = {node.output[0]: node.input[0] for node in corrected.graph.node}
    own = {node.name: producers.get(node.input[2], node.input[2]) for node in corrected.graph.node if node.name in ("a", "b")}
    values = {t.name: numpy_helper.to_array(t) for t in corrected.graph.initializer}
    assert not np.array_equal(values[own["a"]], values[own["b"]])
    before, after = mean_error(prepared, quantized), mean_error(prepared, corrected)
    assert sum(after.values()) < sum(before.values()) / 2


def test_no_images_is_an_error() -> None:
    prepared, quantized, _ = both(convnet(), "u8s8")
    with pytest.raises(DataError, match="at least one calibration image"):
        correct_biases(quantized, prepared, X[:0])
