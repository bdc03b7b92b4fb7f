"""Layers in every file we write are called what the torch module is called."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gleanet.export import export_onnx, reform
from gleanet.nn import build
from gleanet.prune import apply, plan
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare

LAYERS = ("Conv", "Gemm", "QLinearConv", "QGemm")


def names(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node if node.op_type in LAYERS}


@pytest.mark.parametrize("network", ["resnet8", "resnet20", "squeezenet1_1_cifar", "mobilenet_v2_cifar"])
def test_layers_keep_the_module_paths_through_pruning_export_quantization_and_forms(network: str, tmp_path: Path) -> None:
    net, example = build(network, seed=0), torch.zeros(1, 3, 32, 32)
    small = apply(net, plan(net, example, flops=0.6))
    paths = {path for path, module in small.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    export_onnx(small, example, tmp_path / "m.onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    copies = {node.name for node in model.graph.node if node.name.endswith("shortcut")}  # option A's, which has no module
    assert names(model) - copies == paths
    prepared = prepare(model, Path("m.onnx"))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    ranges = min_max(prepared, [images], file=Path("m.onnx"))
    for method in ("u8s8", "u8s8-channel-head-pad"):
        quantized = insert(prepared, ranges, METHODS[method], model)
        assert names(quantized) - copies == paths
        formed = reform(quantized, input="uint8", output="argmax", batch=1, layout="NHWC")
        assert names(formed) - copies == paths
        assert {path + ".weight" for path in paths} <= {tensor.name for tensor in formed.graph.initializer}
