"""The model card: what a hub reads of it, what it tells people, and its code, which is run."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gleanet.core.records import Run
from gleanet.export import export_onnx
from gleanet.nn import architecture_of, build, set_architecture
from gleanet.report import model_card, write_card
from tests.report.example import example_run

CLASSES = tuple(f"digit {number}" for number in range(10))


def front(card: str) -> Any:
    yaml = pytest.importorskip("yaml")
    opening, middle, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(middle)


def test_the_hub_reads_task_tags_data_and_accuracy() -> None:
    run = replace(example_run(), data={**example_run().data, "name": "cifar10"})
    told = front(model_card(run))
    assert told["pipeline_tag"] == "image-classification"
    assert {"onnx", "pruning", "quantization", "gleanet"} <= set(told["tags"])
    assert told["datasets"] == ["uoft-cs/cifar10"]
    (result,) = told["model-index"][0]["results"]
    last = run.rows[-1].measured.accuracy
    assert last is not None
    assert result["dataset"]["name"] == run.data["title"]
    assert result["metrics"][0]["value"] == pytest.approx(last.value, abs=1e-4)


def test_no_figure_is_claimed_where_nothing_was_measured() -> None:
    bare = Run("a", "quantize", "x.onnx", "done", "2026-01-01T00:00:00", 1.0, {}, {}, {})
    card = model_card(bare)
    assert "model-index" not in front(card)
    assert "accuracy was not measured" in card


def test_names_from_files_break_neither_the_yaml_nor_the_table() -> None:
    nasty = 'a"b: [c]\n---\n| <script>'
    run = replace(
        example_run(), model=f"/home/someone/{nasty.replace('/', '')}", data={**example_run().data, "title": nasty, "name": nasty}
    )
    card = model_card(run)
    assert front(card)["model-index"][0]["results"][0]["dataset"]["type"] == nasty
    assert "<script>" not in card.split("---\n", 2)[2]
    assert "/home/someone" not in card


def test_the_trained_network_alone_has_a_card_too() -> None:
    run = replace(
        example_run(), command="train", rows=(), trials=(), results={"accuracy": {"value": 0.9, "low": 0.88, "high": 0.92, "n": 1000}}
    )
    card = model_card(run, ["model.gleanet"])
    assert front(card)["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.9
    assert "90.0 % (88.0 to 92.0)" in card
    assert "gleanet.load" in card
    assert front(card)["library_name"] == "pytorch"


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_the_code_of_a_card_works(kind: str, tmp_path: Path) -> None:
    net = build("resnet8", num_classes=10, seed=0).eval()
    set_architecture(net, replace(architecture_of(net), classes=CLASSES, input_shape=(3, 16, 24)))
    export_onnx(net, torch.zeros(1, 3, 16, 24), tmp_path / "model.int8.onnx", input=kind)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    run = example_run()
    run = replace(run, settings={**run.settings, "input": kind}, data={**run.data, "image_size": [16, 24]})
    path = write_card(run, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    preprocess = architecture_of(net).preprocess
    image = (pixels / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
    with torch.no_grad():
        answer = int(net(torch.from_numpy(image.transpose(2, 0, 1)[None]).float()).argmax())
    assert done.stdout.strip() == CLASSES[answer]
