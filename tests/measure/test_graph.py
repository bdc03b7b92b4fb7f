"""MACs and parameters of the graph equal what one computes by hand, in every form a layer can be written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from gleanet.core.errors import ModelError
from gleanet.export import export_onnx
from gleanet.measure import graph_cost, graph_layers
from gleanet.nn import build, cost
from tests.tiny import images
from tests.tiny_onnx import convnet, floats, model_of, save

MACS = 8 * 8 * 8 * 27 + 8 * 8 * 8 * 72 + 4 * 4 * 16 * 72 + 16 * 4
PARAMS = 8 * 27 + 8 + 8 * 72 + 8 + 16 * 72 + 16 + 16 * 4 + 4


@pytest.mark.parametrize("batch", ["n", 1, 5])
@pytest.mark.parametrize("pixels", [False, True])
def test_convnet_by_hand_and_per_image(tmp_path: Path, batch: int | str, pixels: bool) -> None:
    assert graph_cost(save(convnet(batch=batch, pixels=pixels), tmp_path / "m.onnx")) == (MACS, PARAMS)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"x": floats(4)}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator, "dynamic"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_files_cost_the_same(tmp_path: Path, form: QuantFormat | str, per_channel: bool) -> None:
    """Written by ONNX Runtime's own quantizer, in its three forms."""
    source, target = save(convnet(), tmp_path / "m.onnx"), tmp_path / "q.onnx"
    if form == "dynamic":
        quantize_dynamic(source, target, per_channel=per_channel, weight_type=QuantType.QUInt8)
    else:
        quantize_static(source, target, Reader(), quant_format=form, per_channel=per_channel, activation_type=QuantType.QUInt8)
    macs, params = graph_cost(target)
    assert macs == MACS
    assert params in (PARAMS, PARAMS - 32, PARAMS - 36)  # the dynamic form turns biases into additions, which are not layers


def test_layers_of_other_kinds(tmp_path: Path) -> None:
    """Depthwise and transposed convolution, MatMul with a bias, batch-norm, and a copying convolution, which is free."""
    rng = np.random.default_rng(0)
    weights = {
        "dw": rng.standard_normal((3, 1, 3, 3)),
        "tr": rng.standard_normal((3, 4, 2, 2)),
        "copy": np.eye(6, 4, -1).reshape(6, 4, 1, 1),
        "g": rng.uniform(1, 2, 6),
        "s": rng.standard_normal(6),
        "m": rng.standard_normal(6),
        "v": rng.uniform(1, 2, 6),
        "w": rng.standard_normal((6, 5)),
        "bias": rng.standard_normal(5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "dw"], ["1"], name="depthwise", group=3, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["1", "tr"], ["2"], name="transposed", strides=[2, 2]),
        helper.make_node("Conv", ["2", "copy"], ["3"], name="copy"),
        helper.make_node("BatchNormalization", ["3", "g", "s", "m", "v"], ["4"], name="norm"),
        helper.make_node("GlobalAveragePool", ["4"], ["5"]),
        helper.make_node("Flatten", ["5"], ["6"]),
        helper.make_node("MatMul", ["6", "w"], ["7"], name="linear"),
        helper.make_node("Add", ["7", "bias"], ["y"], name="bias"),
    ]
    model = model_of(nodes, {k: v.astype(np.float32) for k, v in weights.items()}, ("n", 3, 8, 8), ("n", 5))
    found = {layer.name: (layer.macs, layer.params) for layer in graph_layers(save(model, tmp_path / "m.onnx"))}
    assert found == {
        "depthwise": (3 * 64 * 9, 27),
        "transposed": (3 * 64 * 16, 48),
        "norm": (0, 12),
        "linear": (30, 30),
        "bias": (0, 5),
    }


def test_exported_network_costs_what_torch_counts(tmp_path: Path) -> None:
    net = build("resnet8", seed=0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.01)  # biases of exactly zero would be left out of the file
    export_onnx(net, images(1, size=16), tmp_path / "m.onnx")
    macs, params = graph_cost(tmp_path / "m.onnx")
    expected = cost(net, images(1, size=16))
    scales = sum(m.num_features for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))  # folded into the weights
    assert macs == expected.macs
    assert params == expected.params - scales
    assert {layer.name for layer in graph_layers(tmp_path / "m.onnx")} == {layer.path for layer in expected.layers}


def test_shapes_that_cannot_be_known_are_an_error(tmp_path: Path) -> None:
    model = convnet()
    for i in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[i].dim_param = "s"
    with pytest.raises(ModelError, match="size of its input open"):
        graph_cost(save(model, tmp_path / "m.onnx"))
