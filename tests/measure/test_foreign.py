"""Files made elsewhere: counted right, run whatever their layout, batch and outputs, and refused in one line where that is impossible."""

from pathlib import Path

import numpy as np
import pytest

from gleanet.core.errors import DataError, ModelError
from gleanet.core.records import Preprocess
from gleanet.measure import compare, graph_cost, graph_layers, latency, open_session, predict
from gleanet.measure.accuracy import normalise, says_nothing
from tests import odd
from tests.foreign import LAYERS, MACS, OPSETS, PARAMS, foreign
from tests.measure.test_graph import MACS as CONVNET_MACS
from tests.measure.test_graph import PARAMS as CONVNET_PARAMS
from tests.tiny_onnx import convnet, floats, save


@pytest.mark.parametrize("opset", OPSETS)
def test_costs_do_not_depend_on_how_weights_are_stored(opset: int, tmp_path: Path) -> None:
    for batch in ("n", 3):
        for nhwc in (False, True):
            path = save(foreign(opset, batch=batch, nhwc=nhwc), tmp_path / "m.onnx")
            assert graph_cost(path) == (MACS, PARAMS)
    assert tuple(layer.name for layer in graph_layers(path) if layer.macs) == LAYERS


def test_channels_last_files_take_images_of_either_layout(tmp_path: Path) -> None:
    first, last = (save(foreign(17, nhwc=nhwc), tmp_path / f"{nhwc}.onnx") for nhwc in (False, True))
    x = floats(5)
    assert open_session(last).layout == "NHWC"
    assert open_session(first).layout == "NCHW"
    expected = predict(first, x)
    for given in (x, np.moveaxis(x, 1, 3)):
        assert np.abs(predict(last, given) - expected).max() <= 1e-5
    with pytest.raises(DataError, match=r"takes images \[8, 8, 3\], these are \[3, 9, 9\]"):
        predict(last, floats(2, size=9))


def test_pixels_of_either_layout_are_normalised_alike() -> None:
    rng = np.random.default_rng(0)
    pixels, how = rng.integers(0, 256, (2, 3, 5, 4), dtype=np.uint8), Preprocess(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    moved = np.moveaxis(pixels, 1, 3)
    assert np.array_equal(np.moveaxis(normalise(pixels, how), 1, 3), normalise(moved, how))
    with pytest.raises(DataError, match="3 means"):
        normalise(pixels[:, :1], how)


def test_a_batch_that_is_fixed_further_in_is_run_one_by_one(tmp_path: Path) -> None:
    plain, inner = save(convnet(), tmp_path / "a.onnx"), save(odd.inner_batch(), tmp_path / "b.onnx")
    x = floats(7)
    assert np.abs(predict(plain, x) - predict(inner, x)).max() <= 1e-5
    times = latency([inner], batches=(1, 4), rounds=2)[inner]
    assert [record.batch for record in times] == [1]


def test_what_was_not_timed_is_said(tmp_path: Path) -> None:
    one, three = save(convnet(batch=1), tmp_path / "a.onnx"), save(convnet(batch=3), tmp_path / "b.onnx")
    first, second = compare([one, three], inputs=None, labels=None, baseline=one, batches=(1, 2))
    assert [record.batch for record in first.latencies] == [1]
    assert first.notes == ("Not timed at batch 2: the file fixes it to 1.",)
    assert [record.batch for record in second.latencies] == [3], "at its own size, where none of the others will do"
    assert second.notes == ("Not timed at batch 1, 2: the file fixes it to 3.",)


def test_logits_without_meaning_are_said(tmp_path: Path) -> None:
    path, x = save(odd.filled(), tmp_path / "m.onnx"), floats(6)
    found = compare([path], inputs=x, labels=np.zeros(6, np.int64), baseline=path, batches=(1,))[0]
    assert "every image the same logits" in found.notes[0]
    assert (found.macs, found.latencies[0].batch, found.bytes) == (CONVNET_MACS, 1, path.stat().st_size)
    logits = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    assert says_nothing(logits) == ""
    assert "every class the same" in says_nothing(np.broadcast_to(logits[:, :1], (6, 4)))
    assert "not finite" in says_nothing(np.where(logits > 1, np.nan, logits).astype(np.float32))


def test_the_first_output_of_floating_point_numbers_holds_the_logits(tmp_path: Path) -> None:
    heads, plain = save(odd.two_heads(), tmp_path / "a.onnx"), save(convnet(), tmp_path / "b.onnx")
    assert open_session(heads).output == "y"
    assert np.abs(predict(heads, floats(3)) - predict(plain, floats(3))).max() <= 1e-5


def test_logits_with_further_dimensions_of_one(tmp_path: Path) -> None:
    path, plain = save(odd.squared(), tmp_path / "a.onnx"), save(convnet(), tmp_path / "b.onnx")
    assert np.abs(predict(path, floats(3)) - predict(plain, floats(3))).max() <= 1e-5


def test_an_open_image_size_is_taken_from_the_images(tmp_path: Path) -> None:
    path = save(odd.open_size(), tmp_path / "m.onnx")
    assert graph_cost(path, (3, 8, 8)) == (CONVNET_MACS, CONVNET_PARAMS)
    found = compare([path], inputs=floats(3), labels=None, baseline=path, batches=(2,))[0]
    assert (found.macs, [record.batch for record in found.latencies]) == (CONVNET_MACS, [2])
    with pytest.raises(ModelError, match=r"open \(\[n, 3, h, w\]\)|open \(\[1, 3, h, w\]\)"):
        graph_cost(path)


def test_layers_in_functions_are_counted_and_those_in_sub_graphs_refused(tmp_path: Path) -> None:
    assert graph_cost(save(odd.with_function(), tmp_path / "f.onnx")) == (CONVNET_MACS, CONVNET_PARAMS)
    assert graph_cost(save(odd.branching(layer_inside=False), tmp_path / "b.onnx")) == (CONVNET_MACS, CONVNET_PARAMS)
    with pytest.raises(ModelError, match=r"layer 'd' lies inside a sub-graph \(If\)"):
        graph_cost(save(odd.branching(layer_inside=True), tmp_path / "c.onnx"))


def test_half_precision_is_measured(tmp_path: Path) -> None:
    path, plain = save(odd.half(), tmp_path / "h.onnx"), save(convnet(), tmp_path / "f.onnx")
    assert graph_cost(path) == (CONVNET_MACS, CONVNET_PARAMS)
    assert np.abs(predict(path, floats(4)) - predict(plain, floats(4))).max() <= 0.05
