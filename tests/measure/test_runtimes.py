"""Runtimes by name: those that are there are found, and those that are not are named with what to do."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gleanet.core.errors import SettingsError
from gleanet.measure.runtimes import RUNTIMES, load, select
from tests.tiny_onnx import convnet, save


def test_unknown_names_list_the_known_ones() -> None:
    for names in ("tflite", "onnxruntime,tflite", ""):
        with pytest.raises(SettingsError, match=r"unknown runtime '(tflite)?': choose onnxruntime, openvino"):
            select(names)


def test_a_runtime_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry None in ``sys.modules`` is how Python is told that a package is not there."""
    monkeypatch.delitem(sys.modules, RUNTIMES["openvino"], raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError) as caught:
        select("onnxruntime,openvino")
    assert str(caught.value) == "openvino is not installed: pip install 'gleanet[openvino]'"


def test_all_are_those_that_are_installed() -> None:
    assert select("all") == tuple(name for name in RUNTIMES if find_spec(name))
    for name in select("all"):
        assert load(name).runtime_name().split()[0] == name


def test_a_list_keeps_its_order_and_names_nothing_twice() -> None:
    assert select(" onnxruntime,onnxruntime") == ("onnxruntime",)
    if find_spec("openvino"):
        assert select("openvino, onnxruntime,openvino") == ("openvino", "onnxruntime")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_reports_that_it_is_used(tmp_path: Path, runtime: str) -> None:
    """Left to themselves, both call home while we time, and put an identifier of the user into the home folder."""
    if find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    (tmp_path / "home").mkdir()
    path = save(convnet(), tmp_path / "m.onnx")
    code = f"import sys; from gleanet.measure import open_session; open_session({str(path)!r}, runtime={runtime!r}); print(*sys.modules)"
    settings = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {**settings, "HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, timeout=60, check=True)
    assert "openvino_telemetry" not in done.stdout.split()
    assert not list((tmp_path / "home").iterdir())
