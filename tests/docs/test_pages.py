"""The pages that tell people what to do are done, as they stand."""

import json
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, follow

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    printed = follow(DOCS / "tutorial.md", tmp_path)
    run = json.loads((tmp_path / "runs/shapes/run.json").read_text())
    assert run["status"] == "done"
    given, *_, quantized = run["rows"]
    accuracy = given["measured"]["accuracy"]
    assert accuracy["correct"] / accuracy["n"] > 0.9, "the network of the tutorial should have learned something"
    assert quantized["role"] == "quantized"
    assert quantized["measured"]["macs"] <= 0.5 * given["measured"]["macs"]
    assert "circle/000.png: circle" in printed[-2]
    assert "triangle/000.png: triangle" in printed[-2]
    assert (tmp_path / "small.gleanet").is_file()


def test_the_tutorial_lists_the_files_that_a_run_leaves() -> None:
    text = (DOCS / "tutorial.md").read_text()
    assert all(f"`{name}`" in text for name in ("model.int8.onnx", "model.onnx", "base.onnx", "model.gleanet", "report.html", "run.json"))
    assert {block.file for block in blocks(DOCS / "tutorial.md")} >= {"make_shapes.py", "mynet.py", "train.py", "classify.py"}
