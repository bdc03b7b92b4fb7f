"""``gleanet measure`` in several runtimes: a row for each file and runtime."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.tiny_onnx import convnet, save

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@needs_openvino
def test_every_file_is_measured_in_every_runtime(gleanet: Gleanet, tmp_path: Path) -> None:
    files = [save(convnet(seed=seed), tmp_path / f"{seed}.onnx") for seed in (0, 1)]
    done = gleanet("measure", *files, "--random-data", "--runtime", "openvino,onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["measurements"]
    assert [(m["file"], m["runtime"].split()[0]) for m in found] == [
        (str(file), runtime) for file in files for runtime in ("openvino", "onnxruntime")
    ]
    assert found[0]["speedup"] == {"1": 1.0, "64": 1.0}, "the first file in the first runtime is the baseline"
    assert all(m["memory"] > 0 for m in found)


@needs_openvino
def test_the_table_tells_the_rows_apart(gleanet: Gleanet, tmp_path: Path) -> None:
    done = gleanet("measure", save(convnet(), tmp_path / "m.onnx"), "--random-data", "--runtime", "all", COLUMNS="300")
    assert done.returncode == 0, done.stderr
    for words in ("m.onnx, onnxruntime ", "m.onnx, openvino ", "Peak memory"):
        assert words in done.stdout


def test_a_runtime_that_cannot_be_used_is_one_line(gleanet: Gleanet, tmp_path: Path) -> None:
    path = save(convnet(), tmp_path / "m.onnx")
    assert_one_line(gleanet("measure", path, "--random-data", "--runtime", "tflite"), "tflite", "onnxruntime, openvino")
    if find_spec("openvino") is None:
        assert_one_line(gleanet("measure", path, "--random-data", "--runtime", "openvino"), "pip install 'gleanet[openvino]'")
