"""Equalization changes weights and no answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.equalize import equalize
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, floats, mobile, save

FILE = Path("m.onnx")
X = floats(64)


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def greatest(weight: np.ndarray, axis: int) -> np.ndarray:
    """Largest magnitude of each channel along ``axis``."""
    return np.asarray(np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_the_function_stays_and_all_ranges_meet(activation: str, tmp_path: Path) -> None:
    """Through a depthwise convolution, a grouped one, pooling, flattening, a Gemm and a MatMul."""
    prepared = prepare(mobile(activation=activation), FILE)
    equalized = equalize(prepared)
    assert equalized.pairs == (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"))
    before, after = (predict(save(m, tmp_path / "m.onnx"), X) for m in (prepared, equalized.model))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    new = arrays(equalized.model)
    grouped = np.concatenate([greatest(half, 1) for half in np.split(new["c.weight"], 2)])
    by_channel = greatest(new["d.weight"].reshape(8, -1), 0)
    sides = [
        (greatest(new["a.weight"], 0), greatest(new["b.weight"], 0)),
        (greatest(new["b.weight"], 0), grouped),
        (greatest(new["c.weight"], 0), by_channel),
        (greatest(new["d.weight"], 1), greatest(new["e.weight"], 0)),
    ]
    for first, second in sides:
        np.testing.assert_allclose(first, second, rtol=5e-3)
    wild = greatest(arrays(prepared)["a.weight"], 0)
    assert np.ptp(np.log(greatest(new["a.weight"], 0))) < np.ptp(np.log(wild)) / 2


def test_the_given_model_is_not_touched() -> None:
    prepared = prepare(mobile(), FILE)
    before = prepared.SerializeToString(deterministic=True)
    equalize(prepared)
    assert prepared.SerializeToString(deterministic=True) == before


def test_what_is_read_twice_or_clipped_stays() -> None:
    """a of the residual network feeds an addition; ReLU6 is not positively homogeneous."""
    assert equalize(prepare(convnet(), FILE)).pairs == (("c", "d"),)
    assert equalize(prepare(convnet(residual=False), FILE)).pairs == (("a", "b"), ("b", "c"), ("c", "d"))
    assert equalize(prepare(mobile(activation="Clip"), FILE)).pairs == ()
    shared = convnet(residual=False, channels=16)
    for name in ("b.bias", "a.bias"):
        next(node for node in shared.graph.node if name in node.input).input[2] = "a.bias"
    assert equalize(prepare(shared, FILE)).pairs == (("c", "d"),)


def test_a_dead_channel_stays_dead_and_finite() -> None:
    model = convnet(residual=False)
    weight = next(t for t in model.graph.initializer if t.name == "a.weight")
    values = numpy_helper.to_array(weight).copy()
    values[3] = 0
    weight.CopyFrom(numpy_helper.from_array(values, "a.weight"))
    new = arrays(equalize(prepare(model, FILE)).model)
    assert not new["a.weight"][3].any()
    assert all(np.isfinite(array).all() for array in new.values())


def test_wild_channels_become_precise_per_tensor(tmp_path: Path) -> None:
    model = mobile()
    prepared = prepare(model, FILE)
    found = []
    for m in (prepared, equalize(prepared).model):
        quantized = insert(m, min_max(m, [X], file=FILE), METHODS["u8s8"], model)
        found.append(sqnr_db(predict(save(model, tmp_path / "f.onnx"), X), predict(save(quantized, tmp_path / "q.onnx"), X)))
    assert found[1] > found[0] + 5
