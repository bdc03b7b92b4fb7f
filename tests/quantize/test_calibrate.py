"""What is streamed equals what all activations, held at once, give."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

from gleanet.core.errors import DataError, QuantizationError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.quantize.calibrate import Statistics, calibrate, min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.observe import CHUNK, CHUNK_BYTES, activation_bytes, images_per_run
from gleanet.quantize.prepare import prepare
from gleanet.quantize.thresholds import CALIBRATORS, PERCENTAGE
from tests.quantize import reference
from tests.tiny_onnx import convnet, floats, model_of, save

FILE = Path("m.onnx")


def activations(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every float activation of every image."""
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    names = [o for node in model.graph.node for o in node.output]
    own = {o.name for o in model.graph.output}
    everything.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(everything.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(names, {"x": x}), strict=True)) | {"x": x}
    return {name: array for name, array in found.items() if array.dtype == np.float32}


def brute_force(model: onnx.ModelProto, x: np.ndarray) -> dict[str, tuple[float, float]]:
    return {name: (float(v.min()), float(v.max())) for name, v in activations(model, x).items()}


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


def assert_equal(a: Statistics, b: Statistics) -> None:
    """Bit for bit, tensors and channels."""
    assert a.seen == b.seen
    assert a.histograms.keys() == b.histograms.keys()
    for name in a.histograms:
        for one, other in zip((a.histograms[name], *a.channels[name]), (b.histograms[name], *b.channels[name]), strict=True):
            assert (one.low, one.high, one.width, one.first, one.zeros) == (other.low, other.high, other.width, other.first, other.zeros)
            np.testing.assert_array_equal(one.counts, other.counts, err_msg=name)


def assert_naive(ranges: dict[str, tuple[float, float]], values: np.ndarray, width: float) -> None:
    """Within a bin of what naive searches find on stored values. The squared error has a flat minimum: within 1 % of the least, and of how
    far a few values stray from an even spread in each bin."""
    expected = {
        "min-max": (min(values.min(), 0), max(values.max(), 0)),
        "percentile": reference.percentile(values, PERCENTAGE),
        "entropy": reference.entropy(values, width),
    }
    for calibrator, limits in expected.items():
        np.testing.assert_allclose(ranges[calibrator], limits, atol=width, rtol=0, err_msg=calibrator)
    exact = values.astype(np.float64)
    least = reference.least_error(exact, np.linspace(0.6, 1, 21))
    assert reference.mean_error(exact, *ranges["mse"]) <= (1.01 + values.size**-0.5) * least


def test_every_calibrator_on_every_tensor_and_channel_does_what_it_does_on_stored_activations() -> None:
    model, x = prepare(convnet(channels=3, classes=2), FILE), floats(30)
    (found,) = calibrate([model], np.split(x, [5, 6]), file=FILE, per_channel=True)
    stored = activations(model, x)
    tensors = {name: found.ranges(name) for name in CALIBRATORS}
    channels = {name: found.channel_ranges(name) for name in CALIBRATORS}
    assert found.histograms.keys() == found.channels.keys() < stored.keys()
    for name, histogram in found.histograms.items():
        assert histogram.counts.sum() == stored[name].size
        assert_naive({calibrator: ranges[name] for calibrator, ranges in tensors.items()}, stored[name], histogram.width)
        for index, one in enumerate(found.channels[name]):
            values = stored[name][:, index]
            assert one.counts.sum() == values.size
            assert_naive({calibrator: tuple(ranges[name][index]) for calibrator, ranges in channels.items()}, values, one.width)


@pytest.mark.parametrize("sizes", [[7, 1, 60, 32], [1] * 100, [99, 1]])
def test_statistics_do_not_depend_on_how_the_stream_is_cut(sizes: list[int]) -> None:
    model, x = prepare(convnet(), FILE), floats(100)

    def reused() -> Iterator[np.ndarray]:
        """As loaders do that fill one array again and again."""
        buffer = np.empty_like(x)
        for part in np.split(x, np.cumsum(sizes)[:-1]):
            buffer[: len(part)] = part
            yield buffer[: len(part)]

    (whole,) = calibrate([model], [x], file=FILE, per_channel=True)
    (cut,) = calibrate([model], reused(), file=FILE, per_channel=True)
    assert_equal(cut, whole)


def test_copies_that_fill_up_a_fixed_batch_are_not_counted() -> None:
    x = floats(11)
    x[-1] *= 3
    (free,) = calibrate([prepare(convnet(), FILE)], [x], file=FILE)
    (fixed,) = calibrate([prepare(convnet(batch=4), FILE)], [x], file=FILE)
    for name, histogram in fixed.histograms.items():
        assert histogram.counts.sum() == free.histograms[name].counts.sum()
        assert histogram.zeros == free.histograms[name].zeros


def test_several_models_in_one_pass_give_what_each_gives_alone() -> None:
    models = [prepare(convnet(seed=seed), FILE) for seed in (0, 1)]
    together = calibrate(models, iter([floats(20)]), file=FILE, per_channel=True)
    for model, found in zip(models, together, strict=True):
        assert_equal(found, calibrate([model], [floats(20)], file=FILE, per_channel=True)[0])


@pytest.mark.parametrize("name", ["u8s8", "s8s8-channel", "u8u8", "u8s8-head"])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_quantized_file_needs_no_range_of_a_tensor_without_a_histogram(name: str, pixels: bool) -> None:
    model = convnet(pixels=pixels)
    prepared = prepare(model, FILE)
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), dtype=np.uint8) if pixels else floats(9)
    (found,) = calibrate([prepared], [x], file=FILE)
    absent = found.seen.keys() - found.histograms.keys()
    assert absent == {"a", "b.add", "c"}  # only a ReLU reads these
    ranges = found.ranges("mse")
    wild = ranges | dict.fromkeys(absent, (-1e6, 1e6))
    assert insert(prepared, wild, METHODS[name], model) == insert(prepared, ranges, METHODS[name], model)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray) -> None:
        self.parts = iter(np.split(x, 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self.parts, None)
        return None if part is None else {"x": part}


def test_min_max_equals_that_of_onnxruntime(tmp_path: Path) -> None:
    model, x = prepare(convnet(), FILE), floats(20)
    theirs = create_calibrator(
        save(model, tmp_path / "m.onnx"), augmented_model_path=str(tmp_path / "a.onnx"), calibrate_method=CalibrationMethod.MinMax
    )
    theirs.collect_data(Reader(x))
    data = theirs.compute_data()
    expected = {name: (data[name].range_value[0].item(), data[name].range_value[1].item()) for name in data.keys()}  # noqa: SIM118
    assert_same(calibrate([model], [x], file=FILE)[0].seen, expected)


def test_records_list_every_calibrator_and_extremes_alone_know_but_one() -> None:
    model = prepare(convnet(), FILE)
    (found,) = calibrate([model], [floats(20)], file=FILE)
    records = found.records()
    assert [record.tensor for record in records] == list(found.histograms)
    for record in records:
        assert (record.low, record.high) == found.seen[record.tensor]
        assert record.ranges == {name: found.ranges(name)[record.tensor] for name in CALIBRATORS}
    (extremes,) = calibrate([model], [floats(20)], file=FILE, histograms=False)
    assert_same(extremes.seen, found.seen)
    assert extremes.ranges("min-max").keys() == found.ranges("min-max").keys()
    assert {name for record in extremes.records() for name in record.ranges} == {"min-max"}
    with pytest.raises(SettingsError, match="mse needs histograms"):
        extremes.ranges("mse")
    with pytest.raises(SettingsError, match="calibrate per channel"):
        found.channel_ranges("min-max")


def test_integers_subgraphs_and_unread_outputs() -> None:
    """A branch that reads a tensor of the main graph, a shape in int64, a MaxPool whose indices nobody reads."""
    branches = {
        kind: helper.make_graph(
            [helper.make_node(operator, ["pool"], [kind])], kind, [], [helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)]
        )
        for kind, operator in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pool", "indices"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["large"]),
        helper.make_node("If", ["large"], ["either"], then_branch=branches["then"], else_branch=branches["else"]),
        helper.make_node("Shape", ["x"], ["shape"], end=1),
        helper.make_node("Concat", ["shape", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["either", "flat"], ["y"]),
    ]
    given = model_of(nodes, {"limit": np.array(1, dtype=np.float32), "rest": np.array([-1])}, ("n", 3, 8, 8), ("n", 48))
    model = onnx.shape_inference.infer_shapes(given)
    x = abs(floats(10))
    (found,) = calibrate([model], [x], file=FILE)
    pool = x.reshape(10, 3, 4, 2, 4, 2).max(axis=(3, 5))
    assert found.seen == {
        "x": (x.min(), x.max()),
        "pool": (pool.min(), pool.max()),
        "most": (x.max(), x.max()),
        "either": (-pool.max(), -pool.min()),
        "y": (-pool.max(), -pool.min()),
    }


def test_so_few_images_run_at_once_that_their_activations_stay_small() -> None:
    for size, channels, batch in ((8, 8, "n"), (256, 24, "n"), (100, 8, 3)):
        model = prepare(convnet(size=size, channels=channels, batch=batch), FILE)
        stored = activations(model, floats(3, size=size))
        assert activation_bytes(model, (3, size, size)) == sum(v.nbytes for name, v in stored.items() if name != "x") // 3
    small, large = prepare(convnet(), FILE), prepare(convnet(size=256, channels=24), FILE)
    assert images_per_run([small], (3, 8, 8)) == CHUNK
    count = images_per_run([small, large], (3, 256, 256))
    assert 1 <= count < CHUNK
    assert count * activation_bytes(large, (3, 256, 256)) <= CHUNK_BYTES


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet

rng = np.random.default_rng(0)
stream = (rng.standard_normal((100, 3, 32, 32), dtype=np.float32) for _ in range(int(sys.argv[1]) // 100))
model = prepare(convnet(size=32, batch=int(sys.argv[2]) or "n"), Path("m.onnx"))
calibrate([model], stream, file=Path("m.onnx"), per_channel=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
@pytest.mark.parametrize("batch", [0, 64])
def test_memory_does_not_grow_with_the_number_of_images(batch: int) -> None:
    """Peak resident memory of real processes; the activations of 5,000 images would take about a gigabyte."""
    root = Path(__file__).parents[2]
    few, many = (
        int(subprocess.run([sys.executable, "-c", MEMORY, n, str(batch)], cwd=root, check=True, capture_output=True, text=True).stdout)
        for n in ("500", "5000")
    )
    assert many <= 1.1 * few
