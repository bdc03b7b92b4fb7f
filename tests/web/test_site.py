"""What the page is told of the files, which files it takes, and what an export leaves."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from gleanet.core.errors import BadInput, ModelError, StoreError
from gleanet.core.records import Preprocess
from gleanet.data import load
from gleanet.export import reform_file
from gleanet.web import OrtWeb, export_site, make_site, web_model
from gleanet.web.samples import draw_samples
from gleanet.web.site import PAGE
from tests.data.tiny import photographs
from tests.tiny_onnx import convnet, save
from tests.web.making import CLASSES, PREPROCESS, make_run, metadata, write_record


def record(run: Path, ort: OrtWeb, **options: Any) -> dict[str, Any]:
    content = make_site(run, ort, **options).files["site.json"]
    assert isinstance(content, bytes)
    found: dict[str, Any] = json.loads(content)
    return found


def test_the_page_knows_the_files_and_the_samples(run_folder: Path, fake_ort: OrtWeb) -> None:
    site = make_site(run_folder, fake_ort)
    told = record(run_folder, fake_ort)
    assert set(told["files"]) == set(site.files) >= {*PAGE, "models/float.onnx", "models/model.int8.onnx", "ort/ort.js"}
    assert [model["bytes"] for model in told["models"]] == [(run_folder / n).stat().st_size for n in ("base.onnx", "model.int8.onnx")]
    assert told["classes"] == list(CLASSES)
    assert told["runtime"] == "onnxruntime-web 9.9.9"
    for model in told["models"]:
        assert (model["dtype"], model["layout"], model["batch"], model["height"], model["width"]) == ("float32", "NCHW", 1, 16, 16)
        assert model["preprocess"]["mean"] == list(PREPROCESS.mean)
    test = load("digits").test
    assert len(told["samples"]) == 24
    for sample in told["samples"]:
        content = site.files[sample["href"]]
        assert isinstance(content, bytes)
        pixels = np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)
        assert np.array_equal(pixels, test.images[sample["index"]])
        assert sample["label"] == test.classes[test.labels[sample["index"]]]


def test_samples_of_a_streamed_folder_have_the_size_that_the_file_takes(tmp_path: Path, fake_ort: OrtWeb) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        photographs(tmp_path / "data" / split, ("a", "b"), 3, seed=seed)
    site = make_site(make_run(tmp_path / "run", data=str(tmp_path / "data")), fake_ort)
    test = load(str(tmp_path / "data"), image_size=16).test
    shown = {name: content for name, content in site.files.items() if name.startswith("samples/")}
    assert len(shown) == len(test) == 6
    for row, content in enumerate(shown.values()):
        assert isinstance(content, bytes)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1), test.images[row])


def test_samples_are_drawn_by_seed_without_repeating() -> None:
    test = load("digits").test
    rows = [sample.index for sample in draw_samples(test, 7)]
    assert rows == [sample.index for sample in draw_samples(test, 7)]
    assert rows != [sample.index for sample in draw_samples(test, 8)]
    assert len(set(rows)) == 24
    assert [sample.index for sample in draw_samples(test.subset(range(5)), 7)] == list(range(5))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"input": "uint8"}, {"dtype": "uint8", "preprocess": None}),
        ({"layout": "NHWC"}, {"layout": "NHWC", "height": 16, "width": 16, "channels": 3}),
        ({"input": "uint8", "layout": "NHWC"}, {"dtype": "uint8", "layout": "NHWC", "height": 16}),
        ({"output": "softmax"}, {"gives": "softmax"}),
        ({"output": "argmax"}, {"gives": "argmax"}),
        ({"batch": 4}, {"batch": 4}),
    ],
)
def test_every_form_of_a_file_is_read(run_folder: Path, tmp_path: Path, form: dict[str, Any], expected: dict[str, Any]) -> None:
    usual = {"gives": "logits", "dtype": "float32", "layout": "NCHW", "batch": 1, "classes": CLASSES}
    for name in ("base.onnx", "model.int8.onnx"):
        reform_file(run_folder / name, tmp_path / "other.onnx", **form)
        model = web_model(tmp_path / "other.onnx")
        assert {key: getattr(model, key) for key in usual | expected} == usual | expected


def test_a_file_that_leaves_its_size_open_takes_that_of_the_samples(tmp_path: Path) -> None:
    model = convnet(size=16, metadata=metadata())
    for dim in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[dim].dim_param = "side"
    path = save(model, tmp_path / "open.onnx")
    assert (web_model(path, (20, 30)).height, web_model(path, (20, 30)).width) == (20, 30)
    assert (web_model(path).height, web_model(path).width) == (224, 224)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "does not say how pixels become its input"),
        (replace(PREPROCESS, mean=(0.1, 0.2)), "means"),
        (replace(PREPROCESS, std=(1.0, 0.0, 1.0)), "deviations"),
        (replace(PREPROCESS, color="CMYK"), "CMYK"),
        (replace(PREPROCESS, layout="CHW"), "'CHW'"),
    ],
)
def test_what_the_page_cannot_feed_is_refused(tmp_path: Path, told: Preprocess | None, words: str) -> None:
    path = save(convnet(size=16, metadata=metadata(preprocess=told)), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=words):
        web_model(path)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(convnet(size=16, metadata=metadata()), str(path), save_as_external_data=True, location="split.bin", size_threshold=0)
    with pytest.raises(ModelError, match="another file"):
        web_model(path)


def test_a_run_without_what_is_needed_is_one_line(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    write_record(tmp_path / "run")
    with pytest.raises(BadInput, match=r"has no model\.int8\.onnx"):
        make_site(tmp_path / "run", fake_ort)
    shutil.copy(run_folder / "model.int8.onnx", tmp_path / "run")
    with pytest.raises(BadInput, match=r"neither base\.onnx nor model\.onnx: .*--float"):
        make_site(tmp_path / "run", fake_ort)
    with pytest.raises(BadInput, match="is not a file"):
        make_site(tmp_path / "run", fake_ort, float_file=tmp_path / "nowhere.onnx")
    other = save(convnet(size=16, classes=4, metadata=metadata(tuple("abcd"))), tmp_path / "other.onnx")
    with pytest.raises(BadInput, match="the same classes"):
        make_site(tmp_path / "run", fake_ort, float_file=other)
    given = record(tmp_path / "run", fake_ort, float_file=run_folder / "base.onnx")
    assert given["models"][0]["bytes"] == (run_folder / "base.onnx").stat().st_size


def test_a_link_out_of_the_run_is_not_served(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    write_record(tmp_path / "run")
    (tmp_path / "run" / "model.int8.onnx").symlink_to(run_folder / "model.int8.onnx")
    with pytest.raises(BadInput, match="is a link to"):
        make_site(tmp_path / "run", fake_ort)


def test_a_quantize_run_is_compared_with_what_it_quantized(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    write_record(tmp_path / "run", command="quantize", model=str(run_folder / "base.onnx"))
    shutil.copy(run_folder / "model.int8.onnx", tmp_path / "run")
    assert make_site(tmp_path / "run", fake_ort).files["models/float.onnx"] == run_folder / "base.onnx"


@pytest.mark.parametrize("data", [None, "no-such-set"])
def test_without_its_data_a_run_has_no_samples_and_a_note(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path, data: str | None) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    write_record(tmp_path / "run", data=data)
    site = make_site(tmp_path / "run", fake_ort)
    assert record(tmp_path / "run", fake_ort)["samples"] == []
    assert len(site.notes) == 1
    assert "drop images" in site.notes[0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_the_whole_site_and_replaces_its_own(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    site = make_site(run_folder, fake_ort)
    expected = {name: data if isinstance(data, bytes) else data.read_bytes() for name, data in site.files.items()}
    export_site(site, tmp_path / "new" / "site")
    assert content(tmp_path / "new" / "site") == expected
    export_site(make_site(run_folder, fake_ort), tmp_path / "new" / "site")
    assert content(tmp_path / "new" / "site") == expected
    (tmp_path / "empty").mkdir()
    export_site(site, tmp_path / "empty")
    assert content(tmp_path / "empty") == expected
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["site"]
    assert not [name for name in expected if name.startswith("/") or ".." in name]
    page = b"".join(data for name, data in expected.items() if name in PAGE)
    assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in page
    assert b'"/' not in page.replace(b'"/>', b"")


def test_an_export_destroys_nothing_of_others(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    site = make_site(run_folder, fake_ort)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    export_site(site, tmp_path / "ours")
    (tmp_path / "ours" / "models" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    before = content(tmp_path)
    for name, words in (("mine", "thesis.txt"), ("ours", "models/thesis.txt"), ("file", "is a file")):
        with pytest.raises(BadInput, match=words):
            export_site(site, tmp_path / name)
    assert content(tmp_path) == before
    (tmp_path / "ours" / "models" / "thesis.txt").unlink()
    (tmp_path / "ours" / "site.json").write_text('{"files": ["index.html"]}')
    with pytest.raises(BadInput, match="did not write"):
        export_site(site, tmp_path / "ours")


def test_an_export_that_fails_leaves_what_was_there(run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    site = make_site(run_folder, fake_ort)
    export_site(site, tmp_path / "site")
    before = content(tmp_path)
    broken = replace(site, files={**site.files, "models/model.int8.onnx": tmp_path / "gone.onnx"})
    with pytest.raises(StoreError, match="cannot write"):
        export_site(broken, tmp_path / "site")
    with pytest.raises(StoreError, match="cannot write"):
        export_site(broken, tmp_path / "other")
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
