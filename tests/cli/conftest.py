"""The real command, in real processes, on real digits."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
def trained(gleanet: Gleanet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a resnet8 that has seen digits for a little while."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    done = gleanet("train", "resnet8", "--data", "digits", "--epochs", "4", "--lr", "0.1", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def shrunk(gleanet: Gleanet, trained: Path) -> tuple[Path, dict[str, Any]]:
    """The run folder of the main job on that network, and its record."""
    folder = trained.parent / "shrunk"
    done = gleanet(
        "shrink",
        trained / "model.gleanet",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--lr",
        "0.02",
        "--fair-baseline",
        "--out",
        folder,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)
