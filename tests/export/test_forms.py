"""A reformed model says the same about the same images: every form, of float and of quantized files."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from gleanet.core.errors import ExportError, ModelError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.export import reform, reform_file
from gleanet.measure import read_metadata
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, save

PREPROCESS = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
METADATA = {
    "gleanet.preprocess": '{"layout": "NCHW", "color": "RGB", "range": [0.0, 1.0], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}',
    "gleanet.classes": '["a", "b", "c", "d"]',
}
PIXELS = np.random.default_rng(5).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean, std = np.array(PREPROCESS.mean), np.array(PREPROCESS.std)
    factor, offset = ((v).astype(np.float32).reshape(1, 3, 1, 1) for v in (1 / (255 * std), -mean / std))
    return np.asarray(pixels.astype(np.float32) * factor + offset)


def run(model: onnx.ModelProto, x: NDArray[Any]) -> NDArray[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})[0])


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    return bool(one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True))


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.batches = iter([{"x": normalised(PIXELS)}])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.batches, None)


def qdq(model: onnx.ModelProto, name: str = "u8s8") -> onnx.ModelProto:
    prepared = prepare(model, Path("m.onnx"))
    return insert(prepared, min_max(prepared, [normalised(PIXELS)], file=Path("m.onnx")), METHODS[name], model)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """The same network in float, as QDQ pairs, and as integer operators (some of them com.microsoft's)."""
    folder = tmp_path_factory.mktemp("sources")
    model = convnet(metadata=METADATA, channels=16)
    save(model, folder / "float.onnx")
    quantize_static(folder / "float.onnx", folder / "integer.onnx", Images(), quant_format=QuantFormat.QOperator)
    integer = onnx.load(str(folder / "integer.onnx"))
    assert {"QLinearConv", "QLinearAdd"} <= {node.op_type for node in integer.graph.node}
    return {"float": model, "qdq": qdq(model), "head": qdq(model, "u8s8-channel-head"), "integer": integer}


FORMS: list[tuple[Any, ...]] = list(product(["float", "uint8"], ["logits", "softmax", "argmax"], ["dynamic", 1, 5], ["NCHW", "NHWC"]))


@pytest.mark.parametrize("name", ["float", "qdq", "head", "integer"])
def test_every_form_says_the_same_and_is_its_own_form(sources: dict[str, onnx.ModelProto], name: str) -> None:
    source = sources[name]
    logits = run(source, normalised(PIXELS)).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = {"logits": logits, "softmax": powers / powers.sum(axis=1, keepdims=True), "argmax": logits.argmax(axis=1)}
    for input, output, batch, layout in FORMS:
        form: dict[str, Any] = {"input": input, "output": output, "batch": batch, "layout": layout}
        made = reform(source, **form)
        onnx.checker.check_model(made)
        size = 4 if batch == "dynamic" else batch
        x = PIXELS if input == "uint8" else normalised(PIXELS)
        x = x.transpose(0, 2, 3, 1) if layout == "NHWC" else x
        found = np.concatenate([run(made, x[i : i + size]) for i in range(0, len(x), size)])
        assert found.shape == expected[output].shape, form
        if output == "argmax":
            assert found.dtype == np.int64
        assert np.abs(found - expected[output]).max() <= (1e-5 if output == "softmax" or name == "float" else 1e-6), form
        assert same(reform(made, **form), made), form
        assert made.graph == source.graph or not made.graph.value_info  # no shapes of the old form
        ours = {e.key for e in made.metadata_props if e.key.startswith("gleanet.")}
        assert ours == ({"gleanet.classes"} if input == "uint8" else set(METADATA)), form


@pytest.mark.parametrize("name", ["float", "qdq"])
def test_a_form_can_be_taken_back(sources: dict[str, onnx.ModelProto], name: str, tmp_path: Path) -> None:
    source = sources[name]
    for output, layout in product(["logits", "softmax", "argmax"], ["NCHW", "NHWC"]):
        there: dict[str, Any] = {"output": output, "layout": layout}
        back = reform(reform(source, input="uint8", **there), input="float", output="logits", layout="NCHW")
        assert list(back.graph.node) == list(source.graph.node)
        assert list(back.graph.initializer) == list(source.graph.initializer)
        assert read_metadata(save(back, tmp_path / "b.onnx")) == read_metadata(save(source, tmp_path / "s.onnx"))


@pytest.mark.parametrize("name", ["float", "qdq", "integer"])
def test_a_fixed_batch_takes_nothing_else_and_all_shapes_are_static(sources: dict[str, onnx.ModelProto], name: str) -> None:
    made = reform(sources[name], batch=2)
    run(made, normalised(PIXELS[:2]))
    with pytest.raises(Exception, match=r"Got invalid dimensions for input: x (?s:.*)index: 0 Got: 3 Expected: 2"):
        run(made, normalised(PIXELS[:3]))
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name
    assert run(reform(made, batch="dynamic"), normalised(PIXELS)).shape == (20, 4)


def test_pixels_cost_one_cast_and_one_normalisation_before_the_first_rounding(sources: dict[str, onnx.ModelProto]) -> None:
    made = reform(sources["qdq"], input="uint8", layout="NHWC")
    name, kinds = "x", []
    for _ in range(4):
        (node,) = [node for node in made.graph.node if name in node.input]
        name = node.output[0]
        kinds.append(node.op_type)
    assert kinds == ["Transpose", "Cast", "BatchNormalization", "QuantizeLinear"]


def test_uint8_needs_to_know_the_normalisation() -> None:
    bare = convnet()
    with pytest.raises(SettingsError, match=r"give --mean and --std .*gleanet\.preprocess"):
        reform(bare, input="uint8")
    made = reform(bare, input="uint8", preprocess=PREPROCESS)
    assert np.abs(run(made, PIXELS) - run(bare, normalised(PIXELS))).max() <= 1e-5
    assert same(reform(made, input="uint8", preprocess=PREPROCESS), made)
    with pytest.raises(SettingsError, match="normalises them already"):
        reform(made, input="uint8", preprocess=Preprocess())
    single = reform(bare, input="uint8", preprocess=Preprocess(mean=(0.5,), std=(0.5,)))
    assert np.abs(run(single, PIXELS) - run(bare, (PIXELS / 127.5 - 1).astype(np.float32))).max() <= 1e-5
    for wrong in (Preprocess(mean=(0.5, 0.5), std=(1, 1)), Preprocess(std=(1, 1, 0)), Preprocess(std=(1,)), Preprocess(color="BGR")):
        with pytest.raises(SettingsError, match=r"channels|std above 0|only RGB"):
            reform(bare, input="uint8", preprocess=wrong)


def test_preprocessing_of_a_float_file_can_be_put_on_record(tmp_path: Path) -> None:
    made = reform(convnet(), preprocess=PREPROCESS, layout="NHWC")
    found = read_metadata(save(made, tmp_path / "m.onnx")).preprocess
    assert found == Preprocess(layout="NHWC", mean=PREPROCESS.mean, std=PREPROCESS.std)


def test_a_free_normalisation_cannot_be_cut_off() -> None:
    with pytest.raises(ExportError, match="way of its own"):
        reform(convnet(pixels=True), input="float")
    assert same(reform(convnet(pixels=True), input="uint8"), convnet(pixels=True))


@pytest.mark.parametrize(
    "form", [{"batch": 0}, {"batch": "3"}, {"batch": True}, {"output": "logit"}, {"layout": "CHWN"}, {"input": "int8"}]
)
def test_unknown_forms(form: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(form))} must be"):
        reform(convnet(), **form)


def test_a_file_is_written_only_when_it_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save(convnet(metadata=METADATA), tmp_path / "s.onnx"), tmp_path / "o.onnx"
    done = reform_file(source, out, input="uint8", output="softmax", batch=1, check=PIXELS)
    assert 0 <= done.max_abs_diff <= 1e-5
    before = out.read_bytes()
    assert same(onnx.load(str(out)), reform(onnx.load(str(source)), input="uint8", output="softmax", batch=1))

    def broken(model: onnx.ModelProto, **form: Any) -> onnx.ModelProto:
        made = reform(model, **form)
        tensor = next(t for t in made.graph.initializer if t.name == "d.bias")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.array([0, 0.01, 0, 0], dtype=np.float32), "d.bias"))
        return made

    monkeypatch.setattr("gleanet.export.formfile.reform", broken)
    with pytest.raises(ExportError, match=r"o\.onnx not written: its scores differ"):
        reform_file(source, out, input="uint8")
    with pytest.raises(ModelError, match="cannot read"):
        reform_file(tmp_path / "none.onnx", out, input="uint8")
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.onnx", "s.onnx"]


def test_half_precision_input(tmp_path: Path) -> None:
    model = convnet(metadata=METADATA)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["wide"], name="wide", to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "wide"
    made = reform(model, input="uint8", layout="NHWC")
    expected = run(model, normalised(PIXELS).astype(np.float16))
    assert np.abs(run(made, PIXELS.transpose(0, 2, 3, 1)) - expected).max() <= 1e-5
    back = reform(made, input="float", layout="NCHW")
    assert back.graph.input[0] == model.graph.input[0]
    reform_file(save(model, tmp_path / "s.onnx"), tmp_path / "o.onnx", input="uint8")
