"""The real commands on a folder in ImageNet layout, images of many sizes: everything streams, and the run says so."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Gleanet
from tests.data.tiny import photographs

pytestmark = pytest.mark.slow
CUT = "cut to 64x64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "little"
    photographs(root / "train", ("n01", "n02", "n03"), 30, sides=(40, 200))
    photographs(root / "val", ("n01", "n02", "n03"), 8, sides=(40, 200), seed=1)
    return root


@pytest.fixture(scope="module")
def trained(gleanet: Gleanet, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "base"
    arguments = ("--image-size", 64, "--epochs", 2, "--batch-size", 16, "--lr", 0.02)
    done = gleanet("train", "resnet18", "--data", folder, *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "so the images are streamed and cut to 64x64" in done.stderr
    assert f"little (JPEG q90, {CUT})" in done.stdout
    return out


def record(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def test_the_run_remembers_the_size_and_its_report_shows_it(trained: Path) -> None:
    found = record(trained)
    assert found["settings"]["image_size"] == 64  # type: ignore[index]
    assert found["data"]["title"].endswith(f"{CUT})")  # type: ignore[index]
    assert CUT in (trained / "report.html").read_text(encoding="utf-8")


def test_a_killed_training_goes_on_in_the_middle_of_an_epoch_and_ends_with_the_same_bytes(
    gleanet: Gleanet, folder: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("resnet18", "--data", str(folder), "--image-size", "64", "--epochs", "2", "--batch-size", "16", "--lr", "0.02")
    command = [sys.executable, "-m", "gleanet", "train", *arguments, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        deadline = time.monotonic() + 120
        while not (out / "run.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130), errors
    assert b"Traceback" not in errors
    done = gleanet("train", "--resume", out, GLEANET_WORKERS="3")
    assert done.returncode == 0, done.stderr
    assert (out / "model.gleanet").read_bytes() == (trained / "model.gleanet").read_bytes()


def test_shrink_measure_quantize_prune_and_export_take_the_size_from_the_network(
    gleanet: Gleanet, folder: Path, trained: Path, tmp_path: Path
) -> None:
    net, small = trained / "model.gleanet", tmp_path / "small"
    budget = ("--flops", 0.5, "--criterion", "l2", "--allocation", "uniform")
    done = gleanet("shrink", net, "--data", folder, *budget, "--calibration", 48, "--method", "u8s8", "--out", small)
    assert done.returncode == 0, done.stderr
    assert CUT in done.stdout
    assert CUT in (small / "report.html").read_text(encoding="utf-8")
    done = gleanet("measure", net, small / "model.int8.onnx", "--data", folder, "--json")
    assert done.returncode == 0, done.stderr
    whole, tiny = json.loads(done.stdout)["measurements"]
    assert whole["accuracy"]["n"] == tiny["accuracy"]["n"] == 24
    assert whole["accuracy"]["correct"] / 24 == record(trained)["results"]["accuracy"]["value"]  # type: ignore[index]
    done = gleanet("quantize", small / "model.onnx", "--data", folder, "--method", "u8s8", "--max-drop", 100, "--out", tmp_path / "q")
    assert done.returncode == 0, done.stderr
    done = gleanet("prune", net, "--data", folder, *budget, "--one-shot", "--calibration", 48, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert record(tmp_path / "p")["data"]["title"].endswith(f"{CUT})")  # type: ignore[index]
    done = gleanet("export", small / "model.onnx", "--data", folder, "--input", "uint8", "--out", tmp_path / "pixels.onnx")
    assert done.returncode == 0, done.stderr
    done = gleanet("measure", tmp_path / "pixels.onnx", "--data", folder, "--json")
    assert json.loads(done.stdout)["measurements"][0]["accuracy"]["n"] == 24


def test_a_broken_file_and_a_size_that_cannot_be_are_refused_in_one_line(gleanet: Gleanet, tmp_path: Path) -> None:
    photographs(tmp_path / "data" / "train", ("a", "b"), 10)
    photographs(tmp_path / "data" / "val", ("a", "b"), 2)
    bad = tmp_path / "data" / "train" / "b" / "0004.JPEG"
    bad.write_bytes(bad.read_bytes()[:300])
    train = ("train", "resnet8", "--epochs", 1, "--batch-size", 4, "--lr", 0.01, "--out")
    done = gleanet(*train, tmp_path / "run", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert f"gleanet: {bad} cannot be decoded" in done.stderr
    done = gleanet(*train, tmp_path / "other", "--data", "digits", "--image-size", 64)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--image-size is 64, the images of digits are 16x16" in done.stderr
    done = gleanet(*train, tmp_path / "other", "--data", "digits", "--image-size", 0)
    assert "--image-size is 0: it must be 1 to 4096 pixels" in done.stderr
    assert not (tmp_path / "run" / "model.gleanet").exists()
    assert not (tmp_path / "other").exists()
