"""ONNX files as people have them: data beside the file, other forms and names, statistics of pixels on either scale."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from gleanet.cli.app import main
from gleanet.core.records import Preprocess
from gleanet.data import as_input, load
from gleanet.measure import Candidate
from gleanet.measure.accuracy import answers
from gleanet.pipeline.files import _likely
from tests.tiny_onnx import convnet, save

RAW = Preprocess(range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3)


def outside(folder: Path) -> Path:
    """A classifier of digits with all its weights in a file beside it, as torch.onnx.export leaves them."""
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    onnx.save(convnet(size=16, classes=10), str(path), save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    return path


def test_external_data_goes_through_quantize_and_counts_in_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = outside(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    few = ["--calibration", "32", "--selection", "64", "--method", "u8s8", "--max-drop", "100", "--out", "run"]
    assert main(["quantize", "model/m.onnx", "--data", "digits", *few]) == 0
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in onnx.load("run/model.int8.onnx").graph.initializer)
    assert "is a guess" in capsys.readouterr().out
    assert main(["measure", "model/m.onnx", "--data", "digits"]) == 0
    assert "is a guess" in capsys.readouterr().out
    assert main(["measure", "model/m.onnx", "--random-data", "--json"]) == 0
    size = json.loads(capsys.readouterr().out)["measurements"][0]["bytes"]
    assert size == path.stat().st_size + Path(f"{path}.data").stat().st_size


def test_forms_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(save(convnet(), tmp_path / "MODEL.ONNX"))]) == 0
    (tmp_path / "m.ort").write_bytes(b"\x18\0\0\0ORTM" + bytes(64))
    onnx.save(convnet(), str(tmp_path / "m.onnxtxt"), format="onnxtxt")
    onnx.save(convnet(), str(tmp_path / "m.onnxjson"), format="json")
    for name, words in (("m.ort", "made from"), ("m.onnxtxt", "written as text"), ("m.onnxjson", "written as text")):
        for command in (["inspect"], ["measure", "--random-data"], ["quantize", "--random-data"], ["export", "--batch", "1"]):
            capsys.readouterr()
            assert main([command[0], str(tmp_path / name), *command[1:]]) == 2
            assert words in capsys.readouterr().err


def test_means_of_pixels_from_0_to_255(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = save(convnet(), tmp_path / "m.onnx"), tmp_path / "out.onnx"
    arguments = ["export", str(path), "--out", str(out)]
    assert main([*arguments, "--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"]) == 0
    assert "pixels from 0 to 255" in capsys.readouterr().err
    entry = next(entry for entry in onnx.load(out).metadata_props if entry.key == "gleanet.preprocess")
    assert json.loads(entry.value)["range"] == [0.0, 255.0]
    assert main([*arguments, "--mean", "0.5,0.5,0.5", "--std", "58,57,57"]) == 2


def test_an_encoding_without_a_minus_sign_loses_no_table() -> None:
    code = "from gleanet.cli.terminal import print_text, stand_ins; stand_ins(); print_text('\\u22121.5 \\u00d7')"
    done = subprocess.run([sys.executable, "-X", "utf8=0", "-c", code], env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "-1.5 x\n", done.stderr


@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_file_that_the_runtime_has_optimized_is_refused(level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(save(convnet(channels=16), tmp_path / "m.onnx")), options, providers=["CPUExecutionProvider"])
    code = main(["quantize", str(tmp_path / "optimized.onnx"), "--random-data", "--method", "u8s8", "--out", str(tmp_path / "run")])
    assert code == 2
    assert "give the file from before" in capsys.readouterr().err


def test_the_likely_normalisation_is_found_on_labelled_images(tmp_path: Path) -> None:
    """Labels are what an untrained file gives for numbers from 0 to 255: with them every image is right, otherwise not."""
    model = convnet(size=16, classes=10)
    path = save(model, tmp_path / "m.onnx")
    data = load("digits").train
    large = as_input(data, RAW)
    wanted = answers([Candidate(path)], large)[Candidate(path)].classes
    assert _likely(path, replace(data, labels=wanted)) == RAW
