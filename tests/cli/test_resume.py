"""A run that is killed or interrupted goes on and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Gleanet

SETTINGS = ["train", "resnet8", "--data", "digits", "--epochs", "5", "--lr", "0.1"]


@pytest.fixture(scope="module")
def uninterrupted(gleanet: Gleanet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert gleanet(*SETTINGS, "--out", folder).returncode == 0
    return (folder / "model.gleanet").read_bytes()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_resumed_equals_uninterrupted(gleanet: Gleanet, uninterrupted: bytes, tmp_path: Path, how: signal.Signals, code: int) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "gleanet", *SETTINGS, "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    for _ in range(1200):  # the state is first written after the first epoch
        if (folder / "train.state").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert not (folder / "model.gleanet").exists()
    if how == signal.SIGINT:
        assert f"--resume {folder}" in errors
    done = gleanet("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "model.gleanet").read_bytes() == uninterrupted
    assert not (folder / "train.state").exists()
