"""OpenVINO computes what the file says, in the precision that the file says, and refuses in one line. Skipped where it is not installed."""

import platform
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from gleanet.core.errors import ModelError
from gleanet.core.stats import sqnr_db
from gleanet.measure import Candidate, compare, latency, open_session, predict
from gleanet.measure.runtimes import load
from tests.measure.test_runtime import with_external
from tests.tiny_onnx import convnet, floats, model_of, save

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
X = floats(64)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"x": X}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def int8(folder: Path) -> Path:
    """The network of ``convnet`` as ONNX Runtime's own quantizer writes it."""
    source, target = save(convnet(channels=16), folder / "float.onnx"), folder / "int8.onnx"
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    return target


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("pixels", [False, True])
def test_float_logits_are_those_of_onnx_runtime(tmp_path: Path, batch: int | str, pixels: bool) -> None:
    """To float32 precision: on a CPU with bfloat16, OpenVINO left to itself is a hundred times further away."""
    path = save(convnet(batch=batch, pixels=pixels), tmp_path / "m.onnx")
    x = np.random.default_rng(1).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8) if pixels else floats(11)
    logits = predict(path, x, runtime="openvino", batch_size=5)
    assert logits.shape == (11, 4)
    assert np.abs(logits - predict(path, x)).max() < 1e-5


def test_a_later_call_leaves_earlier_logits_alone(tmp_path: Path) -> None:
    session = open_session(save(convnet(), tmp_path / "m.onnx"), runtime="openvino")
    first = session.run(floats(3))
    kept = first.copy()
    session.run(floats(3, seed=1))
    assert np.array_equal(first, kept)
    assert np.array_equal(session.run(floats(3)), kept)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantized_file_runs_in_8_bits_and_means_the_same(tmp_path: Path) -> None:
    path = int8(tmp_path)
    theirs = predict(path, X)
    noise = sqnr_db(predict(tmp_path / "float.onnx", X), theirs)
    assert sqnr_db(theirs, predict(path, X, runtime="openvino")) > noise, "rounding apart, it is the same integer network"
    counts = {name: load("openvino").node_counts(tmp_path / f"{name}.onnx") for name in ("float", "int8")}
    assert counts["float"]["Convolution f32"] == 3
    assert not any(kind.endswith(("u8", "i8")) for kind in counts["float"])
    if platform.machine() in ("x86_64", "AMD64"):
        assert sum(n for kind, n in counts["int8"].items() if kind in ("Convolution u8", "Convolution i8")) == 3


def test_the_graph_that_onnx_runtime_runs(tmp_path: Path) -> None:
    counts = load("onnxruntime").node_counts(save(convnet(residual=False), tmp_path / "m.onnx"))
    assert counts["Gemm"] == 1
    assert sum(n for kind, n in counts.items() if "Conv" in kind) == 3
    assert "Relu" not in counts, "they are part of the convolutions"


def test_what_it_cannot_run_is_said_in_one_line(tmp_path: Path) -> None:
    model = convnet()
    model.graph.node[1].op_type = "Unheard"
    two = model_of([helper.make_node("Identity", ["x"], ["y"])], {}, (1, 2), (1, 2))
    two.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    two.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "z"], ["y"]))
    whole = model_of([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], {}, (1, 2), (1, 2), kind=TensorProto.INT64)
    for file, words in ((model, r"^OpenVINO \d\S* cannot run .*Unheard"), (two, "2 inputs"), (whole, "int64 input")):
        with pytest.raises(ModelError, match=words) as caught:
            open_session(save(file, tmp_path / "m.onnx"), runtime="openvino").run(floats(1))  # 2024.4 finds some only here
        assert "\n" not in str(caught.value)
        assert "src/" not in str(caught.value)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "images",
    [floats(3), floats(4, size=9), np.zeros((4, 3, 8), np.float32), floats(4).astype(np.float64), np.zeros((4, 3, 8, 8), np.uint8)],
)
def test_images_of_another_shape_or_type_are_refused(tmp_path: Path, images: np.ndarray, runtime: str) -> None:
    session = open_session(save(convnet(batch=4), tmp_path / "m.onnx"), runtime=runtime)
    with pytest.raises(ModelError, match=r"does not run on input .*: it takes float32 \[4, 3, 8, 8\]$"):
        session.run(images)


def test_a_shape_that_only_the_graph_refuses(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(model_of(nodes, {"w": np.ones((5, 2), np.float32)}, ("n", "k"), ("n", 2)), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: ") as caught:
        open_session(path, runtime="openvino").run(np.zeros((1, 4), np.float32))
    assert "\n" not in str(caught.value)
    assert "src/" not in str(caught.value)


def test_external_data_outside_the_folder_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "inside.bin").write_bytes(b"\0" * 864)
    path = with_external(tmp_path / "model", "../inside.bin")
    for use in (lambda: open_session(path, runtime="openvino"), lambda: load("openvino").node_counts(path)):
        with pytest.raises(ModelError, match="must be a relative path inside"):
            use()


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    path = with_external(tmp_path, "inside.bin")
    assert np.abs(predict(path, X, runtime="openvino") - predict(path, X)).max() < 1e-5


def test_runtimes_take_turns_in_one_timing(tmp_path: Path) -> None:
    path = save(convnet(), tmp_path / "m.onnx")
    pairs = [Candidate(path), Candidate(path, "openvino")]
    found = latency(pairs, batches=(1, 3), rounds=4)
    assert list(found) == pairs
    assert all([(r.batch, r.repeats) for r in records] == [(1, 4), (3, 4)] for records in found.values())


def test_a_comparison_across_runtimes(tmp_path: Path) -> None:
    path, other = save(convnet(), tmp_path / "m.onnx"), save(convnet(seed=1), tmp_path / "o.onnx")
    y = np.random.default_rng(5).integers(0, 4, 64)
    pairs = [Candidate(path), Candidate(path, "openvino"), Candidate(other, "openvino")]
    ours, theirs, third = compare(pairs, inputs=X, labels=y, baseline=path, batches=(1,))
    assert (ours.runtime.split()[0], theirs.runtime.split()[0]) == ("onnxruntime", "openvino")
    assert (ours.change, theirs.agreement) == (None, 1.0)
    assert theirs.change is not None
    assert (theirs.change.delta, theirs.accuracy) == (0, ours.accuracy)
    assert theirs.speedup["1"] == pytest.approx(ours.latencies[0].p50_ms / theirs.latencies[0].p50_ms)
    assert third.agreement == np.mean(predict(other, X).argmax(1) == predict(path, X).argmax(1))
