"""The written file is valid, small, keeps names and metadata, and computes nearly what the float file computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gleanet.core.errors import ModelError, SettingsError
from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.measure.graph import PADDED
from gleanet.measure.runtime import node_counts
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS, SHORTLIST, impossible, select, with_calibrator
from gleanet.quantize.prepare import prepare
from gleanet.quantize.trial import INTEGER_LAYERS, structure
from tests.tiny_onnx import convnet, floats, save

FILE = Path("m.onnx")
X = floats(64)


def quantized(model: onnx.ModelProto, name: str, x: np.ndarray = X) -> onnx.ModelProto:
    prepared = prepare(model, FILE)
    return insert(prepared, min_max(prepared, [x], file=FILE), METHODS[name], model)


def precision(model: onnx.ModelProto, name: str, folder: Path, x: np.ndarray = X) -> float:
    a, b = save(model, folder / "a.onnx"), save(quantized(model, name, x), folder / "b.onnx")
    return sqnr_db(predict(a, x), predict(b, x))


# calibrators change ranges and nothing that is written; they are compared with references in test_thresholds.py
DISTINCT = [name for name, method in METHODS.items() if method.calibrator == "min-max"]
PLAIN = [name for name in DISTINCT if METHODS[name].mode == "static" and METHODS[name].format == "QDQ"]


@pytest.mark.parametrize("name", DISTINCT)
def test_every_method_gives_a_valid_precise_file(name: str, tmp_path: Path) -> None:
    method = METHODS[name]
    model = quantized(convnet(metadata={"gleanet.classes": '["a"]', "other": "kept"}), name)
    onnx.checker.check_model(model, full_check=True)
    assert {e.key: e.value for e in model.metadata_props if e.key != PADDED} == {"gleanet.classes": '["a"]', "other": "kept"}
    assert {e.domain for e in model.opset_import} <= {"", "com.microsoft"}
    assert {node.domain for node in model.graph.node} >= {e.domain for e in model.opset_import if e.domain}
    least = 5 if method.weight == "int4" else 20 if method.reduce_range else 60 if method.mode == "float16" else 25
    assert precision(convnet(), name, tmp_path) >= least


@pytest.mark.parametrize(("name", "kinds"), [("u8s8-channel-qop", {"QLinearConv": 3, "QGemm": 1}), ("dynamic-u8u8", {"ConvInteger": 3})])
def test_integer_operators_keep_the_names_of_layers_and_weights(name: str, kinds: dict[str, int]) -> None:
    model = quantized(convnet(), name)
    found = [node.op_type for node in model.graph.node]
    assert {kind: found.count(kind) for kind in kinds} == kinds
    assert {"a", "b", "c"} <= {node.name for node in model.graph.node}
    assert {"a.weight", "b.weight", "c.weight"} <= {t.name for t in model.graph.initializer}


@pytest.mark.parametrize(("name", "share"), [("weights8", 0.3), ("weights8-channel", 0.3), ("weights4", 0.2), ("float16", 0.55)])
def test_size_only_methods_store_less_and_compute_in_float(name: str, share: float, tmp_path: Path) -> None:
    source = convnet(channels=64)
    model = quantized(source, name)
    assert len(model.SerializeToString()) < share * len(source.SerializeToString())
    arrays = {t.name: numpy_helper.to_array(t) for t in source.graph.initializer}
    if name == "weights8-channel":  # what is stored is the nearest of 255 levels, channel by channel
        stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        scale = {n.input[0]: stored[n.input[1]] for n in model.graph.node if n.op_type == "DequantizeLinear"}["b.weight"]
        error = np.abs(stored["b.weight"] * scale[:, None, None, None] - arrays["b.weight"])
        assert (error <= scale[:, None, None, None] / 2 * 1.001).all()
    assert not set(node_counts(save(model, tmp_path / "m.onnx"))) & {*INTEGER_LAYERS, "QLinearAdd"}


@pytest.mark.parametrize("name", PLAIN)
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
    assert select("all") == tuple(METHODS.values())
    assert [method.name for method in select("auto")] == list(SHORTLIST)
    assert len(METHODS) == len({method.name for method in METHODS.values()})
    for wrong in ("int4", "", "u8s8,nope"):
        with pytest.raises(SettingsError, match=r"unknown quantization method .* u8s8, u8s8-channel"):
            select(wrong)


def test_the_structure_does_not_depend_on_ranges_and_on_which_constants_are_equal() -> None:
    """Equal scales are stored once: a calibrator that gives two tensors one range must not make another structure of the file."""
    prepared = prepare(convnet(), FILE)
    found = min_max(prepared, [X], file=FILE)
    equal = dict.fromkeys(found, (-1.0, 3.0))
    files = {name: structure(insert(prepared, found, METHODS[name], convnet())) for name in ("u8s8", "u8s8-7bit", "u8u8", "u8s8-channel")}
    assert len(insert(prepared, equal, METHODS["u8s8"], convnet()).graph.initializer) < len(
        insert(prepared, found, METHODS["u8s8"], convnet()).graph.initializer
    )
    assert structure(insert(prepared, equal, METHODS["u8s8"], convnet())) == files["u8s8"] == files["u8s8-7bit"]
    assert len(set(files.values())) == 3


def test_combinations_that_do_not_exist_say_why() -> None:
    groups = impossible()
    assert not {name for names in groups.values() for name in names} & set(METHODS)
    for name, why in (
        ("s8u8", "no kernels"),
        ("u16s8-qop", "QDQ pairs"),
        ("dynamic-s8s8", "uint8 and nothing else"),
        ("u8u8-7bit", "7-bit"),
    ):
        (reason,) = [reason for reason, names in groups.items() if name in names]
        assert why in reason
        with pytest.raises(SettingsError, match=f"there is no quantization method {name}: .*{why}"):
            select(name)


def test_the_same_method_with_other_ranges() -> None:
    for method in METHODS.values():
        other = with_calibrator(method, "mse")
        if method.mode != "static" or method.activation == "uint16":
            assert other is None
        else:
            assert other is not None
            assert replace(other, calibrator=method.calibrator, name=method.name) == method
