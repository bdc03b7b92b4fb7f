"""What cells start from lies in the sweep's folder, and changes for nobody."""

from pathlib import Path

import pytest

from gleanet.core.errors import BadInput
from gleanet.sweep.inputs import contents, copy, settled
from tests.sweep.commands import TRAIN, sweep_of


def test_files_are_copied_by_content(tmp_path: Path) -> None:
    """Two files of one name are two; an ONNX file brings its external data along."""
    for folder, data in (("a", b"one"), ("b", b"other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.onnx").write_bytes(data)
    (tmp_path / "a" / "m.onnx.data").write_bytes(b"weights")
    text = f"""
        command = "quantize"
        options = {{ data = "digits" }}
        grid = {{ model = ["{tmp_path}/a/m.onnx", "{tmp_path}/b/m.onnx"] }}
    """
    settings, found = settled(sweep_of(tmp_path, text))
    copy(found, tmp_path / "sweep")
    names = [str(choice.options["model"]) for choice in settings.grid["model"]]
    assert [(tmp_path / "sweep" / name).read_bytes() for name in names] == [b"one", b"other"]
    assert (tmp_path / "sweep" / f"{names[0]}.data").read_bytes() == b"weights"
    assert contents(tmp_path / "sweep") == {names[0]: b"one", f"{names[0]}.data": b"weights", names[1]: b"other"}
    (tmp_path / "a" / "m.onnx").write_bytes(b"changed")
    assert settled(sweep_of(tmp_path, text))[0] != settings


def test_names_stay_names_and_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "root" / "known").mkdir(parents=True)
    (tmp_path / "known").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path / "root"))
    for given, meant in (("digits", "digits"), ("known", "known"), ("cifar10", "cifar10"), ("pictures", str(tmp_path / "pictures"))):
        text = TRAIN.replace('data = "digits"', f'data = "{given}"').replace('"resnet8"', '"own.nets:make"')
        options = settled(sweep_of(tmp_path / "file", text))[0].options
        assert (options["data"], options["model"]) == (meant, "own.nets:make")


@pytest.mark.parametrize("line", ['model = "runs/gone/model.gleanet"', 'model = "gone.onnx"', 'model = "resnet8"\nweights = "gone"'])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadInput, match=r"gone.*: there is no such file"):
        settled(sweep_of(tmp_path, TRAIN.replace('model = "resnet8"', line)))
