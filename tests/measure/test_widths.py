"""Layers cut out of a file: the right ones, at the right widths, each once. Nothing here asserts how fast anything is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from gleanet.core.records import LatencyTable
from gleanet.export import export_onnx
from gleanet.measure import width_times
from gleanet.measure.widths import _kinds, _layer
from gleanet.nn import build
from gleanet.prune import find_groups, measured_widths
from tests.prune.nets import Grouped, Heads, MobileNetV2, lively
from tests.prune.test_budget import Vgg

X = torch.zeros(1, 3, 16, 16)


def exported(net: nn.Module, folder: Path) -> Path:
    return export_onnx(net, X, folder / "net.onnx").path


def measured(net: nn.Module, folder: Path, **more: bool) -> LatencyTable:
    axes = measured_widths(find_groups(net, X, **more), align=8, floor=0.1)
    return width_times(exported(net, folder), axes, seconds=0.01)


def test_layers_of_one_kind_are_measured_once(tmp_path: Path) -> None:
    net = build("resnet20", seed=0)
    table = measured(net, tmp_path)
    paths = [path for times in table.layers for path in times.layers]
    weighted = [path for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sorted(paths) == sorted(weighted)
    assert len(table.layers) <= len(paths) / 2
    kinds = {frozenset(times.layers): times for times in table.layers}
    inner = kinds[frozenset({"layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"})]
    assert (inner.what, inner.outs, inner.ins) == ("conv 3x3, 16 x 16 pixels", (16,), (4, 8, 12, 16))
    strided = next(times for times in table.layers if times.layers == ("layer3.0.conv1",))
    assert strided.what == "conv 3x3 stride 2, 8 x 8 pixels"
    assert {8, 16, 24, 32, 40, 48, 56, 64} <= set(strided.outs)


def test_every_width_has_a_time_and_some_lie_beside_the_blocks(tmp_path: Path) -> None:
    table = measured(build("resnet8", seed=0), tmp_path, residual=True)
    assert table.base_ms > 0
    assert table.repeats >= 15
    for times in table.layers:
        assert [len(row) for row in times.ms] == [len(times.ins)] * len(times.outs)
        assert all(ms >= 0 for row in times.ms for ms in row)
        assert all(out % 8 in (1, 7) or in_ % 8 in (1, 7) for out, in_, _ in times.odd)
    assert any(times.odd for times in table.layers)


@pytest.mark.parametrize("net", [Grouped, MobileNetV2, Vgg, Heads, lambda: build("resnet8", seed=0)])
def test_a_layer_at_its_own_widths_is_the_layer_of_the_file(net: type[nn.Module], tmp_path: Path) -> None:
    """Attributes and shapes agree, and the narrower ones pass the checker."""
    model = lively(net(), dtype=torch.float32)
    example = torch.zeros(1, 3, 12, 12)
    grouping = find_groups(model, example)
    if isinstance(model, Heads):
        model.forward = lambda x: model.first(model.shared(model.shared(model.stem(x))))  # type: ignore[method-assign]
    file = export_onnx(model, example, tmp_path / "net.onnx").path
    nodes = {node.name: node for node in onnx.load(file).graph.node}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(file).graph.initializer}
    for kind in _kinds(file, measured_widths(grouping, align=2, floor=0.1)):
        layer = _layer(kind, kind.outs[-1], kind.ins[-1], 1)
        node = nodes[kind.layers[0]]
        assert list(layer.graph.node[0].attribute) == list(node.attribute)
        assert numpy_helper.to_array(layer.graph.initializer[0]).shape == shapes[node.input[1]]
        for out in kind.outs:
            for in_ in kind.ins:
                narrow = onnx.shape_inference.infer_shapes(_layer(kind, out, in_, 2), strict_mode=True)
                onnx.checker.check_model(narrow, full_check=True)
                assert [d.dim_value for d in narrow.graph.output[0].type.tensor_type.shape.dim][:2] == [2, out]


def test_a_layer_that_is_called_twice_counts_twice(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shared, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.shared(self.shared(self.stem(x)).relu()).relu()
            return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    table = width_times(exported(Twice(), tmp_path), {"shared": ((8, 16), (8, 16))}, seconds=0.01)
    assert [times.layers for times in table.layers] == [("shared", "shared")]
    assert np.shape(table.layers[0].ms) == (2, 2)
