"""Streaming ranges equal the ranges of all activations held at once."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from gleanet.core.errors import DataError, QuantizationError
from gleanet.core.records import Preprocess
from gleanet.quantize.calibrate import CHUNK, min_max
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, floats

FILE = Path("m.onnx")


def brute_force(model: onnx.ModelProto, x: np.ndarray) -> dict[str, tuple[float, float]]:
    """Every activation of every image fetched, then its extremes."""
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    names = [o for node in model.graph.node for o in node.output]
    own = {o.name for o in model.graph.output}
    everything.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(everything.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(names, {"x": x}), strict=True)) | {"x": x}
    return {name: (float(v.min()), float(v.max())) for name, v in found.items() if v.dtype == np.float32}


def assert_same(found: dict[str, tuple[float, float]], expected: dict[str, tuple[float, float]]) -> None:
    assert set(found) == set(expected)
    for name, pair in expected.items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("sizes", [[30], [7, 1, 13, 9], [1] * 30])
def test_ranges_equal_brute_force_however_the_stream_is_cut(sizes: list[int]) -> None:
    model, x = prepare(convnet(), FILE), floats(30)
    cuts = np.split(x, np.cumsum(sizes)[:-1])
    assert_same(min_max(model, iter(cuts), file=FILE), brute_force(model, x))


def test_large_batches_are_cut_and_ragged_ends_counted() -> None:
    model, x = prepare(convnet(), FILE), floats(2 * CHUNK + 3)
    x[-1] *= 50  # the extreme lies in the last, ragged piece
    found = min_max(model, [x], file=FILE)
    assert_same(found, brute_force(model, x))
    assert found["x"] == (x.min(), x.max())


def test_fixed_batch_and_pixels() -> None:
    x = np.random.default_rng(0).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8)
    free = brute_force(prepare(convnet(pixels=True), FILE), x)
    assert_same(min_max(prepare(convnet(pixels=True, batch=4), FILE), [x], file=FILE), free)


def test_pixels_are_normalised_for_a_float_model() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    preprocess = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    x = ((pixels / 255 - np.reshape(preprocess.mean, (1, 3, 1, 1))) / np.reshape(preprocess.std, (1, 3, 1, 1))).astype(np.float32)
    model = prepare(convnet(), FILE)
    assert_same(min_max(model, [pixels], file=FILE, preprocess=preprocess), brute_force(model, x))


def test_bad_calibration_is_refused() -> None:
    model = prepare(convnet(), FILE)
    with pytest.raises(DataError, match="empty"):
        min_max(model, [], file=FILE)
    with pytest.raises(DataError, match="preprocess as for training"):
        min_max(model, [np.zeros((1, 3, 8, 8), np.uint8)], file=FILE)
    x = floats(2)
    x[1, 0, 0, 0] = np.inf
    with pytest.raises(QuantizationError, match="not finite"):
        min_max(model, [x], file=FILE)
