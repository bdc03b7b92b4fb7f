"""The real command, in real processes, on real digits."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests import forked

Gleanet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def gleanet(tmp_path_factory: pytest.TempPathFactory) -> Gleanet:
    """Run ``gleanet`` with these arguments in an empty folder; the result has returncode, stdout and stderr."""
    folder = tmp_path_factory.mktemp("cwd")

    def run(*arguments: object, cwd: Path = folder, **environment: object) -> subprocess.CompletedProcess[str]:
        variables = {"COLUMNS": "200"} | {name: str(value) for name, value in environment.items()}
        return forked.run([str(argument) for argument in arguments], cwd, variables)

    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs that many tests only read: one for all processes of the suite, which make each of them once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(gleanet: Gleanet, folder: Path, *arguments: object) -> str:
    """What the command prints that makes the run ``folder``, by whichever process comes first."""
    printed = folder.with_suffix(".out")
    with FileLock(folder.with_suffix(".lock")):
        if not printed.is_file():
            done = gleanet(*arguments, "--out", folder)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout, "utf-8")
    return printed.read_text("utf-8")


@pytest.fixture(scope="session")
def trained(gleanet: Gleanet, runs: Path) -> Path:
    """The run folder of a resnet8 that has seen digits for a little while."""
    made_once(gleanet, runs / "base", "train", "resnet8", "--data", "digits", "--epochs", "4", "--lr", "0.1")
    return runs / "base"


@pytest.fixture(scope="session")
def shrunk(gleanet: Gleanet, trained: Path, runs: Path) -> tuple[Path, dict[str, Any]]:
    """The run folder of the main job on that network, and its record."""
    job = ["shrink", trained / "model.gleanet", "--data", "digits", "--epochs", "1", "--lr", "0.02", "--fair-baseline", "--json"]
    return runs / "shrunk", json.loads(made_once(gleanet, runs / "shrunk", *job))
