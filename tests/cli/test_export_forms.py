"""``gleanet export`` in all its forms, and the commands that take its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import gleanet as gn
from gleanet.measure import predict
from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.tiny_onnx import convnet, save

Shrunk = tuple[Path, dict[str, Any]]


@pytest.mark.slow
def test_the_chosen_file_as_a_camera_wants_it(gleanet: Gleanet, shrunk: Shrunk, tmp_path: Path) -> None:
    source, camera = shrunk[0] / "model.int8.onnx", tmp_path / "camera.onnx"
    told = ["--input", "uint8", "--layout", "NHWC", "--output", "argmax", "--batch", "1"]
    done = gleanet("export", source, *told, "--data", "digits", "--out", camera, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": str(camera), "bytes": camera.stat().st_size, "max_abs_diff": 0.0, "input": "uint8"}
    test = gn.load_data("digits").test
    session = ort.InferenceSession(str(camera))
    found = [session.run(None, {"input": image.transpose(1, 2, 0)[None]})[0] for image in test.pixels]
    expected = predict(source, test.images).argmax(axis=1)
    assert np.array_equal(np.concatenate(found), expected)
    measured = gleanet("measure", source, camera, "--data", "digits", "--json")
    assert measured.returncode == 0, measured.stderr
    first, second = json.loads(measured.stdout)["measurements"]
    assert (first["accuracy"], first["macs"], first["params"]) == (second["accuracy"], second["macs"], second["params"])
    assert second["agreement"] == 1.0
    assert first["accuracy"]["correct"] == int((expected == test.labels).sum())


@pytest.mark.slow
def test_a_checkpoint_in_all_forms_at_once(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    told = ["--output", "softmax", "--batch", "8", "--layout", "NHWC", "--input", "uint8"]
    done = gleanet("export", trained / "model.gleanet", *told, "--data", "digits", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of torch's" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [8, 16, 16, 3]
    gleanet("export", trained / "model.gleanet", "--out", tmp_path / "plain.onnx")
    images = gn.load_data("digits").test.images[:20]
    logits = predict(tmp_path / "plain.onnx", images)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.abs(predict(tmp_path / "model.onnx", images) - powers / powers.sum(axis=1, keepdims=True)).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("told", [["--output", "softmax"], ["--input", "uint8", "--layout", "NHWC"]])
def test_a_reformed_float_file_can_be_quantized(gleanet: Gleanet, shrunk: Shrunk, tmp_path: Path, told: list[str]) -> None:
    formed = tmp_path / "formed.onnx"
    assert gleanet("export", shrunk[0] / "model.onnx", *told, "--out", formed).returncode == 0
    done = gleanet("quantize", formed, "--data", "digits", "--method", "u8s8-head", "--max-drop", "5", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows[1]["measured"]["agreement"] >= 0.97
    assert rows[0]["measured"]["params"] == json.loads((shrunk[0] / "run.json").read_text())["rows"][-2]["measured"]["params"]


def test_a_form_does_not_replace_its_source_and_needs_a_name(gleanet: Gleanet, tmp_path: Path) -> None:
    source = save(convnet(), tmp_path / "net.onnx")
    before = source.read_bytes()
    told = ["--input", "uint8", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.2", "--batch", "2"]
    done = gleanet("export", source, *told)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.uint8.batch-2.onnx"]
    assert source.read_bytes() == before


BAD: dict[str, tuple[list[str], list[str]]] = {
    "no form": (["{m}"], ["nothing to do", "--input"]),
    "unknown normalisation": (["{m}", "--input", "uint8"], ["--mean", "gleanet.preprocess"]),
    "mean alone": (["{m}", "--mean", "0.5"], ["--std is missing"]),
    "mean in words": (["{m}", "--mean", "half", "--std", "1"], ["--mean", "half"]),
    "two means": (["{m}", "--input", "uint8", "--mean", "0.5,0.5", "--std", "1,1"], ["3 channels"]),
    "no batch": (["{m}", "--batch", "0"], ["--batch", "'0'"]),
    "unknown output": (["{m}", "--output", "class"], ["--output", "argmax"]),
    "weights": (["{m}", "--output", "argmax", "--weights", "w.pt"], ["--weights"]),
    "images of another size": (["{m}", "--output", "argmax", "--data", "digits"], ["[3, 8, 8]", "[3, 16, 16]"]),
    "no such file": (["none.onnx", "--output", "argmax"], ["none.onnx"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_forms_give_one_line_and_leave_nothing(gleanet: Gleanet, tmp_path: Path, case: str) -> None:
    model = save(convnet(), tmp_path / "m.onnx")
    arguments, words = BAD[case]
    done = gleanet("export", *(word.format(m=model) for word in arguments), cwd=tmp_path)
    assert_one_line(done, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_that_gives_the_class_is_not_quantized_but_told_what_to_do(gleanet: Gleanet, tmp_path: Path) -> None:
    model = save(convnet(), tmp_path / "m.onnx")
    assert gleanet("export", model, "--output", "argmax", "--out", tmp_path / "c.onnx").returncode == 0
    done = gleanet("quantize", tmp_path / "c.onnx", "--random-data", "--out", tmp_path / "run")
    assert_one_line(done, "gives the class", "--output logits")
