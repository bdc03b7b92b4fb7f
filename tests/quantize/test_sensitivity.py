"""Sensitivity from cached values is that of whole models, each quantized and run from the input on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from gleanet.core.errors import DataError
from gleanet.core.records import LayerSensitivity
from gleanet.core.stats import sqnr_db
from gleanet.export import export_onnx
from gleanet.measure.runtime import open_session
from gleanet.nn import build
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.layers import island, layer_names
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.sensitivity import sensitivity
from tests.tiny_onnx import convnet, floats, mobile, save

FILE = Path("m.onnx")
X = floats(70)
PIXELS = np.random.default_rng(0).integers(0, 256, X.shape, dtype=np.uint8)
TOLERANCE_DB = 0.01  # sums of other batches may differ in the last bit, and a value on the border of two levels with them


def brute_force(
    model: onnx.ModelProto, name: str, x: np.ndarray, folder: Path, layers: tuple[str, ...] = ()
) -> dict[str, tuple[float, float]]:
    """The same by running whole files."""
    prepared = prepare(model, FILE)
    ranges = min_max(prepared, [x], file=FILE)
    every = [node.name for node in prepared.graph.node]

    def precision(keep: list[str]) -> float:
        file = save(insert(prepared, ranges, METHODS[name], model, keep_float=keep), folder / "q.onnx")
        return sqnr_db(exact, open_session(file, optimize=False).run(x))

    exact = open_session(save(prepared, folder / "f.onnx"), optimize=False).run(x)
    found = {}
    for layer in layers or layer_names(prepared, METHODS[name]):
        own = list(island(prepared, (layer,)))
        found[layer] = (precision([other for other in every if other not in own]), precision(own))
    return found


def ours(model: onnx.ModelProto, name: str, x: np.ndarray) -> tuple[LayerSensitivity, ...]:
    prepared = prepare(model, FILE)
    return sensitivity(prepared, min_max(prepared, [x], file=FILE), METHODS[name], model, x)


def forked() -> onnx.ModelProto:
    """convnet with a shortcut convolution "s" that reads what b reads. Its activation comes late, after a layer "t" behind b."""
    model = convnet(outlier=20)
    rng = np.random.default_rng(3)
    for name in "st":
        weight = rng.standard_normal((8, 8, 1, 1)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, f"{name}.weight"))
    nodes = list(model.graph.node)
    (b,) = [index for index, node in enumerate(nodes) if node.name == "b"]
    nodes[b + 1 : b + 2] = [
        helper.make_node("Relu", ["b"], ["b.mid"], name="b.mid"),
        helper.make_node("Conv", ["b.mid", "t.weight"], ["t"], name="t"),
        helper.make_node("Relu", ["s"], ["s.relu"], name="s.relu"),
        helper.make_node("Add", ["t", "s.relu"], ["b.add"], name="b.add"),
    ]
    nodes.insert(b, helper.make_node("Conv", ["a.relu", "s.weight"], ["s"], name="s"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("name", ["u8s8", "u8s8-7bit-channel", "s8s8", "u8s8-channel-head"])
@pytest.mark.parametrize("model", [convnet(outlier=20), convnet(residual=False), mobile(), mobile(activation="Clip"), forked()])
def test_it_is_what_whole_models_give(model: onnx.ModelProto, name: str, tmp_path: Path) -> None:
    found, expected = ours(model, name, X), brute_force(model, name, X, tmp_path)
    assert {record.layer for record in found} == set(expected)
    for record in found:
        assert (record.alone_db, record.others_db) == pytest.approx(expected[record.layer], abs=TOLERANCE_DB)
    assert [r.alone_db for r in found] == sorted(r.alone_db for r in found)


def test_pixels_and_a_batch_that_does_not_divide(tmp_path: Path) -> None:
    model = convnet(pixels=True, batch=7, outlier=20)
    found = {r.layer: (r.alone_db, r.others_db) for r in ours(model, "u8s8", PIXELS[:10])}
    free = convnet(pixels=True, outlier=20)
    expected = brute_force(free, "u8s8", PIXELS[:10], tmp_path)
    assert found.keys() == expected.keys()
    for layer, values in expected.items():
        assert found[layer] == pytest.approx(values, abs=TOLERANCE_DB)


def test_padding_changes_no_sensitivity() -> None:
    model = convnet(residual=False, outlier=20)
    assert ours(model, "u8s8-head-pad", X) == ours(model, "u8s8-head", X)


def test_an_activation_stays_with_its_layer_and_with_nobody_elses() -> None:
    prepared = prepare(convnet(), FILE)
    assert island(prepared, {"a", "c", "d"}) == ("a", "a.relu", "c", "c.relu", "d")
    assert island(prepared, {"b"}) == ("b",)  # an addition follows


def test_no_images_is_an_error() -> None:
    prepared = prepare(convnet(), FILE)
    with pytest.raises(DataError, match="at least one calibration image"):
        sensitivity(prepared, min_max(prepared, [X], file=FILE), METHODS["u8s8"], convnet(), X[:0])


@pytest.mark.slow
def test_public_resnet56(tmp_path: Path, shared_data: Path, shared_weights: Path) -> None:
    """All 58 layers on 128 real images; some of them compared with whole models, a shortcut among them."""
    data = pytest.importorskip("gleanet.data")
    net = build("resnet56", weights=shared_weights / "resnet56-jpeg.pt")
    images = data.load(str(shared_data / "cifar10-jpeg")).train.images[:128]
    export_onnx(net, torch.zeros(1, 3, 32, 32), tmp_path / "base.onnx", input="uint8", check=images[:8])
    model = onnx.load(str(tmp_path / "base.onnx"))
    found = {record.layer: (record.alone_db, record.others_db) for record in ours(model, "u8s8", images)}
    some = ("conv1", "layer1.3.conv2", "layer2.0.shortcut", "layer3.8.conv1", "linear")
    assert len(found) == 58
    expected = brute_force(model, "u8s8", images, tmp_path, some)
    for layer in some:
        assert found[layer] == pytest.approx(expected[layer], abs=TOLERANCE_DB)
