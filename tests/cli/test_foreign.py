"""The commands on ONNX files that were not made here: odd, old, and broken ones."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from gleanet.cli.app import main
from tests import odd
from tests.cli.broken import BROKEN
from tests.cli.conftest import Gleanet
from tests.foreign import LAYERS, MACS, foreign
from tests.measure.test_runtime import with_external
from tests.tiny_onnx import convnet, save

COMMANDS = (["measure", "--random-data"], ["quantize", "--random-data", "--method", "u8s8", "--out", "run"], ["inspect"])
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def one_line(code: int, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    __tracebackhide__ = True
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("gleanet: ")]
    assert code == 2, captured.err
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert "[ONNXRuntimeError]" not in lines[0]
    assert captured.out == ""
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = BROKEN[name]
    Path("m.onnx").write_bytes(content)
    one_line(main([command[0], "m.onnx", *command[1:]]), capsys, words, "m.onnx")
    assert not list(tmp_path.rglob("*.int8.onnx"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("location", ["../inside.bin", "/etc/hostname", "sub/../../inside.bin", "link.bin", "gone.bin"])
def test_external_data_stays_inside_its_folder(
    location: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    path = with_external(tmp_path / "model", location)
    (tmp_path / "inside.bin").write_bytes((tmp_path / "model" / "inside.bin").read_bytes())
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "inside.bin")
    one_line(main([command[0], str(path), *command[1:]]), capsys, "external data")


def test_external_data_inside_the_folder_is_quantized_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_external(tmp_path, "inside.bin")
    assert main(["quantize", str(path), "--random-data", "--method", "u8s8", "--out", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"][0]["verdict"] == "chosen"
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in onnx.load("run/model.int8.onnx").graph.initializer)


def test_inspect_says_what_a_foreign_file_is(gleanet: Gleanet, tmp_path: Path) -> None:
    path = save(foreign(9, nhwc=True), tmp_path / "m.onnx")
    shown = gleanet("inspect", path)
    assert shown.returncode == 0, shown.stderr
    told = ("opset 9", "by elsewhere", "[n, 8, 8, 3], NHWC, any batch", f"{MACS:,} MACs", "4 of 4 layers 8-bit", "raised to 13")
    for words in (*told, *LAYERS):
        assert words in shown.stdout
    found = json.loads(gleanet("inspect", path, "--json").stdout)
    assert found["structure"]["macs"] == MACS
    assert tuple(found["quantization"]["integer"]) == LAYERS


@pytest.mark.slow
def test_inspect_takes_checkpoints_and_quantized_files(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    checkpoint = json.loads(gleanet("inspect", trained / "model.gleanet", "--json").stdout)
    assert checkpoint["structure"]["bytes"] == (trained / "model.gleanet").stat().st_size
    assert checkpoint["structure"]["file"] == str(trained / "model.gleanet")
    assert len(checkpoint["quantization"]["integer"]) == sum(layer["macs"] > 0 for layer in checkpoint["structure"]["layers"])
    source = save(convnet(), tmp_path / "m.onnx")
    assert gleanet("quantize", source, "--random-data", "--method", "u8s8-channel-head", "--out", tmp_path / "run").returncode == 0
    small = json.loads(gleanet("inspect", tmp_path / "run" / "model.int8.onnx", "--json").stdout)
    assert small["structure"]["quantized"] == "QDQ pairs: 3 of 4 layers, uint8 activations, int8 weights per channel"
    assert small["quantization"] is None


def test_a_channels_last_file_with_a_fixed_batch_is_quantized_and_measured_on_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = convnet(batch=1, size=16, classes=10)
    turn = onnx.helper.make_node("Transpose", ["nhwc"], ["x"], name="turn", perm=[0, 3, 1, 2])
    model.graph.node.insert(0, turn)
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("nhwc", onnx.TensorProto.FLOAT, (1, 16, 16, 3)))
    path = save(model, tmp_path / "m.onnx")
    few = ["--calibration", "32", "--selection", "64", "--method", "u8s8"]
    assert main(["quantize", str(path), "--data", "digits", *few, "--max-drop", "100", "--out", "run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["trials"][0]["sqnr_db"] >= 20
    assert [latency["batch"] for latency in record["rows"][1]["measured"]["latencies"]] == [1]
    assert "Not timed at batch 64: the file fixes it to 1." in record["notes"]
    assert main(["measure", str(path), "run/model.int8.onnx", "--data", "digits"]) == 0
    assert "m.onnx: Not timed at batch 64" in capsys.readouterr().out


def test_weights_without_meaning_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    model = odd.filled()
    for i in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[i].dim_value = 16
    model.graph.output[0].type.tensor_type.shape.ClearField("dim")
    grown = np.zeros((10, 16), np.float32), np.zeros(10, np.float32)
    for name, array in zip(("d.weight", "d.bias"), grown, strict=True):
        next(t for t in model.graph.initializer if t.name == name).CopyFrom(onnx.numpy_helper.from_array(array, name))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", 10)))
    assert main(["measure", str(save(model, tmp_path / "m.onnx")), "--data", "digits"]) == 0
    assert "every image the same logits" in capsys.readouterr().out


@pytest.mark.slow
def test_a_light_model_goes_through_all_commands(gleanet: Gleanet, tmp_path: Path) -> None:
    path = LIGHT / "light_squeezenet.onnx"
    measured = json.loads(gleanet("measure", path, "--random-data", "--json").stdout)["measurements"][0]
    assert (measured["macs"], [latency["batch"] for latency in measured["latencies"]]) == (349_151_936, [1])
    done = gleanet("quantize", path, "--random-data", "--method", "u8s8,u8s8-channel", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert {trial["verdict"] for trial in record["trials"]} <= {"chosen", "slower"}
    assert not any("inf dB" in trial["reason"] for trial in record["trials"])
    assert [row["measured"]["macs"] for row in record["rows"]] == [349_151_936] * 2
