"""``gleanet serve`` as people call it; what starts a server is a real process."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gleanet.cli.app import main
from gleanet.web import OrtWeb
from tests.web.conftest import Serving
from tests.web.making import write_record

Gleanet = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    errors: str


@pytest.fixture
def gleanet(capsys: pytest.CaptureFixture[str]) -> Gleanet:
    """The command line in this process, which has torch already."""

    def run(*arguments: object) -> Done:
        code = main(["serve", *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return run


def assert_one_line(done: Done, *words: str) -> None:
    lines = [line for line in done.errors.splitlines() if not line.startswith("Download ")]
    assert (done.code, done.out, len(lines)) == (2, "", 1), done
    assert lines[0].startswith("gleanet: ")
    for word in words:
        assert word in lines[0]


def test_it_serves_this_machine_says_so_and_stops_cleanly(serving: Serving, run_folder: Path, fake_ort: OrtWeb) -> None:
    with serving(run_folder, "--ort-web", fake_ort.folder) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=30)
        connection.request("GET", "/")
        assert b"<title>gleanet" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "For this machine only" in errors
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors


def test_another_host_is_warned_of(serving: Serving, run_folder: Path, fake_ort: OrtWeb) -> None:
    with serving(run_folder, "--ort-web", fake_ort.folder, "--host", "0.0.0.0") as (url, process):
        assert url.startswith("http://0.0.0.0:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.startswith("Warning: anyone who can reach this machine")


def test_what_users_get_wrong_is_one_line(gleanet: Gleanet, run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    assert_one_line(gleanet(), "RUN is missing")
    assert_one_line(gleanet("no-such-run", "--ort-web", fake_ort.folder), "no run 'no-such-run'")
    write_record(tmp_path / "bare")
    assert_one_line(gleanet(tmp_path / "bare", "--ort-web", fake_ort.folder), "no model.int8.onnx")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(gleanet(run_folder, "--ort-web", fake_ort.folder, "--port", port), f"port {port} of 127.0.0.1 is in use")


def test_setup_without_a_network_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "GLEANET_CACHE": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    command = [sys.executable, "-m", "gleanet", "serve", "--setup"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    words = ("cannot download https://registry.npmjs.org/onnxruntime-web/", f"at {tmp_path}/onnxruntime-web-", "--ort-web")
    assert_one_line(Done(done.returncode, done.stdout, done.stderr), *words)


def test_export_writes_the_folder_and_says_what(gleanet: Gleanet, run_folder: Path, fake_ort: OrtWeb, tmp_path: Path) -> None:
    done = gleanet(run_folder, "--ort-web", fake_ort.folder, "--export-site", tmp_path / "site", "--json")
    assert done.code == 0, done
    files = json.loads(done.out)["files"]
    assert files == sorted(path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file())
    (tmp_path / "site" / "other.txt").write_text("mine")
    assert_one_line(gleanet(run_folder, "--ort-web", fake_ort.folder, "--export-site", tmp_path / "site"), "other.txt")
