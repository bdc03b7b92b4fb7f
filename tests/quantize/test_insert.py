"""The written file is valid, small, keeps names and metadata, and computes nearly what the float file computes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gleanet.core.errors import ModelError, SettingsError
from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.measure.graph import PADDED
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS, select
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, floats, save

FILE = Path("m.onnx")
X = floats(64)


def quantized(model: onnx.ModelProto, name: str, x: np.ndarray = X) -> onnx.ModelProto:
    prepared = prepare(model, FILE)
    return insert(prepared, min_max(prepared, [x], file=FILE), METHODS[name], model)


def precision(model: onnx.ModelProto, name: str, folder: Path, x: np.ndarray = X) -> float:
    a, b = save(model, folder / "a.onnx"), save(quantized(model, name, x), folder / "b.onnx")
    return sqnr_db(predict(a, x), predict(b, x))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_valid_precise_file(name: str, tmp_path: Path) -> None:
    model = quantized(convnet(metadata={"gleanet.classes": '["a"]', "other": "kept"}), name)
    onnx.checker.check_model(model, full_check=True)
    assert {e.key: e.value for e in model.metadata_props if e.key != PADDED} == {"gleanet.classes": '["a"]', "other": "kept"}
    assert {e.domain for e in model.opset_import} == {""}
    assert precision(convnet(), name, tmp_path) >= (20 if METHODS[name].reduce_range else 25)


@pytest.mark.parametrize("name", METHODS)
def test_types_are_those_of_the_method(name: str) -> None:
    method, model = METHODS[name], quantized(convnet(), name)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert arrays["b.weight"].dtype == method.weight
    assert arrays["b.bias"].dtype == np.int32
    assert arrays["d.weight"].dtype == ("float32" if method.float_head else method.weight)
    limit = 64 if method.reduce_range else 127
    if method.weight == "int8":
        assert limit - 1 <= np.abs(arrays["b.weight"].astype(int)).max() <= limit
    scales = {n.input[0]: arrays[n.input[1]].size for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert scales["b.weight"] == (8 if method.per_channel else 1)
    zero_points = {str(arrays[n.input[2]].dtype) for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert zero_points == {method.activation}


def test_names_stay_and_the_overhead_is_small() -> None:
    model = quantized(convnet(channels=16), "u8s8")
    assert {"a", "b", "b.add", "c", "pool", "flat", "d"} <= {n.name for n in model.graph.node}
    assert {"a.weight", "b.weight", "c.weight", "d.weight"} <= {t.name for t in model.graph.initializer}
    payload = sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    assert len(model.SerializeToString()) - payload < 110 * len(model.graph.node)
    assert not model.graph.value_info


def test_inserted_names_do_not_collide_with_the_models_own() -> None:
    model = convnet()
    for node in model.graph.node:  # call the tensors what the inserter would like to call its own
        node.input[:] = [{"a.relu": "q0", "c.relu": "d0", "a.bias": "c0"}.get(i, i) for i in node.input]
        node.output[:] = [{"a.relu": "q0", "c.relu": "d0"}.get(o, o) for o in node.output]
    next(t for t in model.graph.initializer if t.name == "a.bias").name = "c0"
    onnx.checker.check_model(quantized(model, "u8s8"), full_check=True)


@pytest.mark.parametrize("types", ["u8s8", "u8u8", "s8s8"])
def test_per_channel_beats_per_tensor_where_channels_differ_wildly(types: str, tmp_path: Path) -> None:
    wild = convnet(outlier=20)
    assert precision(wild, f"{types}-channel", tmp_path) > precision(wild, types, tmp_path) + 3


def test_normalisation_of_pixels_stays_float(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    model = quantized(convnet(pixels=True), "u8s8", pixels)
    kinds = {output: node.op_type for node in model.graph.node for output in node.output}
    (scaling,) = [node for node in model.graph.node if node.op_type == "Mul"]
    assert [kinds.get(name) for name in scaling.input] == ["Cast", None]
    assert precision(convnet(pixels=True), "u8s8", tmp_path, pixels) >= 25


def test_old_opsets_are_raised_so_that_axes_exist() -> None:
    model = quantized(convnet(opset=11), "u8s8-channel")
    assert model.opset_import[0].version >= 13
    onnx.checker.check_model(model, full_check=True)


def test_a_quantized_model_is_not_quantized_again() -> None:
    with pytest.raises(ModelError, match="quantized already"):
        prepare(quantized(convnet(), "u8s8"), FILE)


def test_method_names() -> None:
    assert select("u8u8, u8s8,u8u8") == (METHODS["u8u8"], METHODS["u8s8"])
    assert select("all") == select("auto") == tuple(METHODS.values())
    for wrong in ("int4", "", "u8s8,nope"):
        with pytest.raises(SettingsError, match=r"unknown quantization method .* u8s8, u8s8-channel"):
            select(wrong)
