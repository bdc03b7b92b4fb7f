"""The pages that tell people what to do are done, as they stand."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest
from PIL import Image

from tests.docs.blocks import blocks, follow

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of somebody who has followed the tutorial, and what it printed."""
    folder = tmp_path_factory.mktemp("reader")
    return folder, follow(DOCS / "tutorial.md", folder)


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(followed: tuple[Path, list[str]]) -> None:
    folder, printed = followed
    run = json.loads((folder / "runs/shapes/run.json").read_text())
    assert run["status"] == "done"
    given, *_, quantized = run["rows"]
    accuracy = given["measured"]["accuracy"]
    assert accuracy["correct"] / accuracy["n"] > 0.9, "the network of the tutorial should have learned something"
    assert quantized["role"] == "quantized"
    assert quantized["measured"]["macs"] <= 0.5 * given["measured"]["macs"]
    assert "circle/000.png: circle" in printed[-2]
    assert "triangle/000.png: triangle" in printed[-2]
    assert (folder / "small.gleanet").is_file()


@pytest.mark.slow
def test_what_the_page_of_the_raspberry_pi_says_works_up_to_the_board(followed: tuple[Path, list[str]]) -> None:
    *_, answer = follow(DOCS / "howto/raspberry-pi.md", followed[0])
    assert answer.strip() == "square"


@pytest.mark.slow
def test_the_page_of_cpp_makes_its_file_and_compiles_where_the_headers_are(followed: tuple[Path, list[str]]) -> None:
    folder = followed[0]
    follow(DOCS / "howto/cpp.md", folder)
    assert (folder / "camera.onnx").is_file()
    headers = os.environ.get("ONNXRUNTIME_INCLUDE")
    if headers is None or shutil.which("g++") is None:
        pytest.skip("ONNXRUNTIME_INCLUDE names no folder with ONNX Runtime's C++ headers")
    (source,) = re.findall(r'```cpp title="classify.cpp"\n(.*?)```', (DOCS / "howto/cpp.md").read_text(), re.DOTALL)
    (folder / "classify.cpp").write_text(source)
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
    command = ["g++", "-std=c++17", "classify.cpp", "-I", headers, str(library), f"-Wl,-rpath,{library.parent}", "-o", "classify"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    Image.open(folder / "shapes/square/000.png").save(folder / "picture.ppm")
    done = subprocess.run(["./classify", "camera.onnx", "picture.ppm"], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("class 1 of "), "circle, square, triangle"


@pytest.mark.slow
def test_the_training_loop_works_as_it_stands(tmp_path: Path) -> None:
    (printed,) = follow(DOCS / "howto/training-loop.md", tmp_path)
    before, after = map(int, printed.split(" -> "))
    assert after <= 0.5 * before
    assert (tmp_path / "small.onnx").is_file()


def test_the_tutorial_lists_the_files_that_a_run_leaves() -> None:
    text = (DOCS / "tutorial.md").read_text()
    assert all(f"`{name}`" in text for name in ("model.int8.onnx", "model.onnx", "base.onnx", "model.gleanet", "report.html", "run.json"))
    assert {block.file for block in blocks(DOCS / "tutorial.md")} >= {"make_shapes.py", "mynet.py", "train.py", "classify.py"}
