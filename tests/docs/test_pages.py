"""The pages that tell people what to do are done, as they stand."""

import json
import re
import subprocess
from pathlib import Path

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
def test_the_page_of_cpp_makes_its_file(followed: tuple[Path, list[str]]) -> None:
    follow(DOCS / "howto/cpp.md", followed[0])
    assert (followed[0] / "camera.onnx").is_file()


@pytest.mark.slow
def test_the_program_of_the_page_of_cpp_compiles_and_says_the_class(followed: tuple[Path, list[str]], ort_cpp: Path) -> None:
    folder, page = followed[0], (DOCS / "howto/cpp.md").read_text()
    follow(DOCS / "howto/cpp.md", folder)
    (source,) = re.findall(r'```cpp title="classify.cpp"\n(.*?)```', page, re.DOTALL)
    (folder / "classify.cpp").write_text(source)
    (folder / "onnxruntime").symlink_to(ort_cpp)
    build, run = (line.strip() for line in page.splitlines() if line.startswith(("    g++ ", "    ./classify ")))
    subprocess.run(build.replace("g++", "g++ -Wall -Wextra -Werror", 1), shell=True, cwd=folder, check=True, timeout=300)
    for index, name in enumerate(("circle", "square", "triangle")):
        Image.open(folder / f"shapes/{name}/000.png").save(folder / "picture.ppm")
        done = subprocess.run(run, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f'class {index} of ["circle", "square", "triangle"]\n'
    (folder / "picture.ppm").write_bytes(b"P6 4 4 255 too short")
    failed = subprocess.run(run, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", "truncated\n")


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
