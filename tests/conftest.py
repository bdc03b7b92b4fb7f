"""Fixtures shared by every room."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gleanet.core.errors import BadInput, DataError
from gleanet.web import OrtWeb, find_ort
from tests.onnxruntime_cpp import lay_out

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets named by GLEANET_DATA; tests that need it skip where it is absent."""
    folder = os.environ.get("GLEANET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GLEANET_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def shared_weights(shared_data: Path) -> Path:
    """The folder of public checkpoints beside the data; tests that need it skip where it is absent."""
    folder = shared_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip("no weights folder beside GLEANET_DATA")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser, where this machine has one; one a process, since Playwright cannot be started twice in it."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def ort_web() -> OrtWeb:
    """The package onnxruntime-web, where this machine has it."""
    try:
        return find_ort()
    except BadInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def ort_cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime's true C++ headers and library, in ``include`` and ``lib``, where a compiler is here and they can be had."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("onnxruntime")
    try:
        lay_out(folder)
    except (DataError, FileNotFoundError) as error:
        pytest.skip(f"ONNX Runtime's C++ headers or its library are not to be had: {error}")
    return folder
