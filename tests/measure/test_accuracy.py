"""Logits do not depend on how the images were cut into batches, whatever the file's input looks like."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gleanet.core.errors import DataError, ModelError
from gleanet.core.lazy import Lazy
from gleanet.measure import compare, predict, read_metadata
from gleanet.measure.accuracy import answers
from gleanet.measure.runtimes import Candidate
from tests.tiny_onnx import convnet, floats, save

PREPROCESS = '{"layout": "NCHW", "color": "RGB", "range": [0, 1], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}'


def reference(x: np.ndarray, **kwargs: object) -> np.ndarray:
    """The network of ``convnet`` in plain numpy, float64."""
    weights = {t.name: np.frombuffer(t.raw_data, np.float32).reshape(t.dims).astype(np.float64) for t in convnet().graph.initializer}

    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        w, padded = weights[f"{name}.weight"], np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        return np.asarray(np.einsum("nchwij,ocij->nohw", views, w) + weights[f"{name}.bias"].reshape(1, -1, 1, 1))

    a = np.maximum(conv(x.astype(np.float64), "a"), 0)
    b = np.maximum(conv(a, "b") + a, 0)
    c = np.maximum(conv(b, "c", 2), 0)
    return np.asarray(c.mean(axis=(2, 3)) @ weights["d.weight"].T + weights["d.bias"])


def test_logits_equal_a_numpy_network(tmp_path: Path) -> None:
    logits = predict(save(convnet(), tmp_path / "m.onnx"), floats(7))
    assert logits.dtype == np.float32
    assert np.abs(logits - reference(floats(7))).max() < 1e-5


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("pixels", [False, True])
def test_ragged_batches_equal_single_images(tmp_path: Path, batch: int | str, pixels: bool) -> None:
    path = save(convnet(batch=batch, pixels=pixels), tmp_path / "m.onnx")
    x = np.random.default_rng(1).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8) if pixels else floats(11)
    together = predict(path, x, batch_size=5)
    single = np.concatenate([predict(path, x[i : i + 1]) for i in range(11)])
    assert together.shape == (11, 4)
    assert np.abs(together - single).max() < 1e-5
    assert np.abs(together - reference(x / 255 if pixels else x)).max() < 1e-5


def test_pixels_are_normalised_as_the_metadata_says(tmp_path: Path) -> None:
    path = save(convnet(metadata={"gleanet.preprocess": PREPROCESS, "gleanet.classes": '["a", "b"]'}), tmp_path / "m.onnx")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    mean, std = np.array([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1), np.array([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1)
    assert np.abs(predict(path, pixels) - reference((pixels / 255 - mean) / std)).max() < 1e-5
    assert read_metadata(path).classes == ("a", "b")


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(convnet(), tmp_path / "m.onnx")
    with pytest.raises(DataError, match=r"takes images \[3, 8, 8\], these are \[3, 9, 9\]"):
        predict(path, floats(2, size=9))
    with pytest.raises(DataError, match="no images"):
        predict(path, floats(0))
    with pytest.raises(DataError, match="does not say how to normalise"):
        predict(path, np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(DataError, match="takes uint8 pixels"):
        predict(save(convnet(pixels=True), tmp_path / "p.onnx"), floats(2))


@pytest.mark.parametrize(
    "metadata", [{"gleanet.classes": "{}"}, {"gleanet.classes": "[1]"}, {"gleanet.classes": "?"}, {"gleanet.preprocess": "[]"}]
)
def test_broken_metadata_is_named(tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=next(iter(metadata))):
        read_metadata(save(convnet(metadata=metadata), tmp_path / "m.onnx"))


def test_no_metadata_is_fine(tmp_path: Path) -> None:
    found = read_metadata(save(convnet(), tmp_path / "m.onnx"))
    assert (found.preprocess, found.classes) == (None, ())


def _with_argmax(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("ArgMax", ["z"], ["y"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, ["n"]))
    return model


@pytest.mark.parametrize("batch", ["n", 4])
def test_a_file_may_give_the_class_itself(tmp_path: Path, batch: int | str) -> None:
    path, scores = save(_with_argmax(convnet(batch=batch)), tmp_path / "c.onnx"), save(convnet(), tmp_path / "m.onnx")
    found = answers([Candidate(path)], floats(11), batch_size=3)[Candidate(path)].classes
    assert found.dtype == np.int64
    assert found.shape == (11,)
    assert np.array_equal(found, reference(floats(11)).argmax(axis=1))
    with pytest.raises(ModelError, match=r"gives the class, not its score: gleanet export .* --output logits"):
        predict(path, floats(11))
    labels = np.arange(11) % 4
    first, second = compare([scores, path], inputs=floats(11), labels=labels, baseline=scores, batches=(4,))
    assert first.accuracy == second.accuracy
    assert second.agreement == 1.0


@pytest.mark.parametrize("metadata", [None, {"gleanet.preprocess": PREPROCESS.replace("NCHW", "NHWC")}])
def test_images_are_turned_for_a_file_that_takes_channels_last(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    model = convnet(metadata=metadata)
    model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]))
    model.graph.node[1].input[0] = "t"
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 3]))
    path = save(model, tmp_path / "m.onnx")
    expected = reference(floats(7))
    assert np.abs(predict(path, floats(7)) - expected).max() < 1e-5
    assert np.abs(predict(path, floats(7).transpose(0, 2, 3, 1)) - expected).max() < 1e-5
    if metadata:
        pixels = np.random.default_rng(1).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
        mean, std = np.array([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1), np.array([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1)
        for given in (pixels, pixels.transpose(0, 2, 3, 1)):
            assert np.abs(predict(path, given) - reference((pixels / 255 - mean) / std)).max() < 1e-5


def test_files_side_by_side_read_every_image_once(tmp_path: Path) -> None:
    """Streamed images are decoded when they are asked for, which takes longer than a small network."""
    images, asked = floats(11), list[int]()

    def decode(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return np.asarray(images[rows])

    lazy = Lazy(decode, np.arange(11), images.shape[1:], images.dtype)
    files = [
        Candidate(save(model, tmp_path / f"{name}.onnx"))
        for name, model in {"free": convnet(), "fixed": convnet(batch=4), "class": _with_argmax(convnet())}.items()
    ]
    found = answers(files, lazy, batch_size=6)
    assert asked == list(range(11))
    for one in files:
        assert np.array_equal(found[one].classes, reference(images).argmax(axis=1)), one
