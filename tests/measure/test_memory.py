"""Peak memory follows what must be held: the weights and the images in work. It is that of the file, whatever this process holds."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from gleanet.core.errors import ModelError
from gleanet.measure import compare, peak_memory
from gleanet.measure.runtimes import RUNTIMES
from tests.tiny_onnx import convnet, model_of, save

MB = 10**6
INSTALLED = [name for name in RUNTIMES if find_spec(name)]


def linear(width: int) -> onnx.ModelProto:
    """One matrix of ``width`` x ``width`` float32."""
    weight = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    return model_of(nodes, {"w": weight}, ("n", width, 1, 1), ("n", width))


@pytest.mark.parametrize("runtime", INSTALLED)
def test_weights_are_in_it(tmp_path: Path, runtime: str) -> None:
    """At least once; a runtime may keep the file, its own copy and one in the order its kernels like at the same time."""
    small, large = (peak_memory(save(linear(width), tmp_path / "m.onnx"), runtime=runtime) for width in (8, 3000))
    weights = 4 * 3000**2
    assert 0 < small < 120 * MB
    assert 0.9 * weights < large - small < 5 * weights


@pytest.mark.parametrize("runtime", INSTALLED)
def test_activations_are_in_it(tmp_path: Path, runtime: str) -> None:
    path = save(convnet(size=64, channels=16), tmp_path / "m.onnx")
    one, many = (peak_memory(path, batch=batch, runtime=runtime) for batch in (1, 128))
    tensor = 4 * 16 * 64 * 64 * 127  # what one layer of the further images takes; input and output of a layer are held at once
    assert 1.5 * tensor < many - one < 8 * tensor


def test_what_this_process_holds_is_not_in_it(tmp_path: Path) -> None:
    path = save(convnet(), tmp_path / "m.onnx")
    before = peak_memory(path)
    ballast = np.ones(200 * MB, np.uint8)
    assert abs(peak_memory(path) - before) < ballast.nbytes / 10


def test_a_file_beside_the_model_is_not_taken_for_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    save(convnet(), tmp_path / "m.onnx")
    assert peak_memory("m.onnx") > 0


def test_a_network_that_cannot_be_held_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = save(convnet(), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"cannot measure the memory of .*m\.onnx in onnxruntime at batch 1000000000000: ") as caught:
        peak_memory(path, batch=10**12)
    assert "\n" not in str(caught.value)


def test_a_comparison_fills_it_at_the_largest_batch(tmp_path: Path) -> None:
    path = save(convnet(size=64, channels=16), tmp_path / "m.onnx")
    (found,) = compare([path], inputs=None, labels=None, baseline=path, batches=(1, 64))
    assert found.memory == pytest.approx(peak_memory(path, batch=64), abs=5 * MB)
