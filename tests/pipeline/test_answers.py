"""What a run keeps for its report: the answers that its accuracies were counted from, and how its file is called."""

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from gleanet.core.answers import read_answers
from gleanet.core.records import Preprocess
from gleanet.core.settings import QuantizeSettings, Quantizing
from gleanet.data import ImageSet, load
from gleanet.data.thumbnail import png
from gleanet.measure import predict
from gleanet.pipeline.answers import keep_answers
from gleanet.pipeline.files import quantize_file
from tests.tiny_onnx import convnet, save

METADATA = {
    "gleanet.preprocess": json.dumps(asdict(Preprocess())),
    "gleanet.classes": json.dumps([str(digit) for digit in range(10)]),
}


def test_quantize_keeps_what_both_files_answered(tmp_path: Path) -> None:
    source = save(convnet(size=16, classes=10, metadata=METADATA), tmp_path / "m.onnx")
    settings = QuantizeSettings(str(source), "digits", quantizing=Quantizing(method="u8s8", max_drop=100.0))
    run = quantize_file(settings, out=tmp_path / "run")
    found, test = read_answers(tmp_path / "run"), load("digits").test
    assert found is not None
    for after, file in ((False, source), (True, tmp_path / "run" / "model.int8.onnx")):
        right = predict(file, test.images).argmax(axis=1) == test.labels
        assert found.hits(after).tolist() == right.tolist()
        accuracy = run.rows[int(after)].measured.accuracy
        assert accuracy is not None
        assert accuracy.correct == right.sum()
    assert found.changed
    for image in found.changed:
        assert np.array_equal(np.asarray(Image.open(BytesIO(image.png))).transpose(2, 0, 1), test.images[image.index])
        assert image.label == test.labels[image.index]
    told = run.interface
    assert told is not None
    assert (told.file, told.input, told.output, told.dtype, told.shape) == ("model.int8.onnx", "x", "y", "float32", (None, 3, 16, 16))
    assert told.preprocess == Preprocess()
    assert told.classes == tuple("0123456789")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Whose answer changed" in page
    assert "session.run([&#34;y&#34;]" in page


def test_without_data_there_are_no_answers(tmp_path: Path) -> None:
    source = save(convnet(), tmp_path / "m.onnx")
    quantize_file(QuantizeSettings(str(source), None, random_data=True, quantizing=Quantizing(method="u8s8")), out=tmp_path / "run")
    assert read_answers(tmp_path / "run") is None


def test_pictures_of_large_images_are_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    test = ImageSet(rng.integers(0, 256, (40, 3, 200, 300), dtype=np.uint8), np.zeros(40, dtype=np.int64), ("a", "b"), "large")
    keep_answers(tmp_path, ("base.onnx", "model.onnx"), (np.zeros(40, dtype=np.int64), np.ones(40, dtype=np.int64)), test)
    found = read_answers(tmp_path)
    assert found is not None
    assert len(found.changed) == 24
    assert Image.open(BytesIO(found.changed[0].png)).size == (64, 43)
    assert (tmp_path / "answers.json").stat().st_size < 500_000
    assert Image.open(BytesIO(png(test.images[0]))).size == (300, 200)
