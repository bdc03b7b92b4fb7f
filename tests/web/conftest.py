"""A run to show, and the command that serves it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gleanet.web import OrtWeb, find_ort
from tests.web.making import make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def fake_ort(tmp_path_factory: pytest.TempPathFactory) -> OrtWeb:
    """A folder that looks like the package, for what does not run it."""
    folder = tmp_path_factory.mktemp("npm") / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.9.9"}')
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / "dist" / name).write_text(name)
    return find_ort(folder)


Serving = Callable[..., Any]


@pytest.fixture(scope="session")
def serving() -> Serving:
    """``with serving(RUN, ...) as (url, process)``: the real command, stopped by Ctrl-C at the end."""

    @contextmanager
    def start(*arguments: object, **environment: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
        command = [sys.executable, "-m", "gleanet", "serve", *map(str, arguments), "--no-open"]
        variables = {**os.environ, **environment}
        with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield process.stdout.readline().strip(), process
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:  # it would be waited for without end
                    process.kill()
                    raise

    return start
