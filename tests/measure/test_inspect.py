"""What inspection says of a file is what was put into it."""

from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from gleanet.core.errors import ModelError
from gleanet.measure.inspect import Value, structure_of
from tests import odd
from tests.foreign import LAYERS, MACS, PARAMS, foreign
from tests.measure.test_graph import Reader
from tests.measure.test_runtime import with_external
from tests.tiny_onnx import convnet, save


def test_versions_shapes_and_costs_of_an_old_file(tmp_path: Path) -> None:
    path = save(foreign(8, batch=2, nhwc=True), tmp_path / "m.onnx")
    found = structure_of(path)
    assert (found.opset, found.ir_version, found.producer, found.bytes) == (8, 3, "elsewhere", path.stat().st_size)
    assert found.inputs == (Value("x", "float32", (2, 8, 8, 3)),), "weights that are listed as inputs are not inputs"
    assert found.outputs == (Value("y", "float32", (2, 5)),)
    assert (found.batch, found.layout, found.macs, found.params) == (2, "NHWC", MACS, PARAMS)
    assert (found.nodes["Conv"], found.nodes["Gemm"], found.nodes["LRN"]) == (3, 1, 1)
    layers = {layer.name: layer for layer in found.layers}
    assert [name for name, layer in layers.items() if layer.macs] == list(LAYERS)
    assert (layers["grouped"].weight, layers["head"].weight, layers["stem"].dtype) == ((8, 4, 3, 3), (5, 8), "float32")
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert layers["head"].share == pytest.approx(40 / MACS)
    assert any("batch is fixed to 2" in line for line in found.trouble)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("form", "per_channel", "words"),
    [
        (QuantFormat.QDQ, False, "QDQ pairs: 4 of 4 layers, uint8 activations, int8 weights per tensor"),
        (QuantFormat.QDQ, True, "QDQ pairs: 4 of 4 layers, uint8 activations, int8 weights per channel"),
        (QuantFormat.QOperator, True, "operators (QOperator): 4 of 4 layers, uint8 activations, int8 weights per channel"),
        ("dynamic", False, "dynamic: 4 of 4 layers, uint8 activations, uint8 weights per tensor"),
    ],
)
def test_how_a_file_is_quantized(form: QuantFormat | str, per_channel: bool, words: str, tmp_path: Path) -> None:
    """Written by ONNX Runtime's own quantizer."""
    source, target = save(convnet(), tmp_path / "m.onnx"), tmp_path / "q.onnx"
    assert structure_of(source).quantized == ""
    if form == "dynamic":
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    else:
        quantize_static(source, target, Reader(), quant_format=form, per_channel=per_channel, activation_type=QuantType.QUInt8)
    assert structure_of(target).quantized == words


def test_external_data_is_listed_and_counted(tmp_path: Path) -> None:
    path = with_external(tmp_path, "inside.bin")
    found = structure_of(path)
    assert found.external == ("inside.bin",)
    assert found.bytes == path.stat().st_size + (tmp_path / "inside.bin").stat().st_size


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (odd.inner_batch(), "fixed to 1 further in"),
        (odd.two_heads(), "3 outputs: 'y' counts as the logits"),
        (odd.open_size(), "leaves the image size open"),
        (odd.branching(layer_inside=False), "Sub-graphs (If)"),
        (odd.branching(layer_inside=True), "lies inside a sub-graph (If)"),
        (convnet(batch=7), "batch is fixed to 7"),
        (convnet(), "does not say how its input is normalised"),
    ],
)
def test_trouble_is_said(model: onnx.ModelProto, words: str, tmp_path: Path) -> None:
    assert any(words in line for line in structure_of(save(model, tmp_path / "m.onnx")).trouble)


def test_a_plain_file_gives_no_trouble(tmp_path: Path) -> None:
    assert structure_of(save(convnet(pixels=True), tmp_path / "m.onnx")).trouble == ()


def test_layers_that_do_not_fit_each_other_are_an_error(tmp_path: Path) -> None:
    model = convnet()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(ModelError, match=r"does not run|cannot run") as caught:
        structure_of(save(model, tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)
