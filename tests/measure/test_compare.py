"""A comparison agrees with its parts, and the baseline is the zero point."""

from pathlib import Path

import numpy as np
import pytest

from gleanet.core.errors import DataError
from gleanet.core.stats import paired_change, wilson
from gleanet.measure import compare, graph_cost, predict
from tests.tiny_onnx import convnet, floats, save


def test_comparison(tmp_path: Path) -> None:
    a, b = save(convnet(), tmp_path / "a.onnx"), save(convnet(seed=1), tmp_path / "b.onnx")
    x, y = floats(60), np.random.default_rng(5).integers(0, 4, 60)
    first, second = compare([b, a], inputs=x, labels=y, baseline=a, batches=(1, 2))
    guess = {path: predict(path, x).argmax(1) for path in (a, b)}
    assert (first.file, second.file) == (str(b), str(a))
    assert first.accuracy == wilson(int((guess[b] == y).sum()), 60)
    assert first.change == paired_change(guess[b] == y, guess[a] == y)
    assert first.agreement == np.mean(guess[a] == guess[b])
    assert (second.change, second.agreement, second.speedup) == (None, None, {"1": 1.0, "2": 1.0})
    assert (first.macs, first.params) == graph_cost(b)
    assert first.bytes == b.stat().st_size
    assert first.runtime.startswith("onnxruntime ")
    for i, batch in enumerate(("1", "2")):
        assert first.speedup[batch] == pytest.approx(second.latencies[i].p50_ms / first.latencies[i].p50_ms)


def test_without_labels_or_images_the_rest_is_measured(tmp_path: Path) -> None:
    a, b = save(convnet(), tmp_path / "a.onnx"), save(convnet(seed=1), tmp_path / "b.onnx")
    (only,) = compare([b], inputs=floats(9), labels=None, baseline=a, batches=(1,))
    assert (only.accuracy, only.change) == (None, None)
    assert only.agreement is not None
    (bare,) = compare([b], inputs=None, labels=None, baseline=b, batches=(1,))
    assert (bare.accuracy, bare.agreement) == (None, None)
    assert bare.speedup == {"1": 1.0}


def test_counts_must_match(tmp_path: Path) -> None:
    a = save(convnet(), tmp_path / "a.onnx")
    with pytest.raises(DataError, match="5 images but 4 labels"):
        compare([a], inputs=floats(5), labels=np.zeros(4, np.int64), baseline=a)
