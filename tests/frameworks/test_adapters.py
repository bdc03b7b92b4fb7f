"""Real frameworks in environments of their own, through the command: two of them in CI, all of them in `make test-frameworks`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = 7200  # all environments from nothing, and every compiler


def frameworks(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``gleanet frameworks ...`` with time for downloads."""
    command = [sys.executable, "-m", "gleanet", "frameworks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def rows_of(folder: Path, *names: str) -> list[dict[str, Any]]:
    """What a short run of these frameworks says of each."""
    done = frameworks("run", *names, "--steps", "2", "--rounds", "1", "--out", folder, "--json")
    assert done.stdout, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["frameworks"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jax", "theano"])
def test_frameworks_of_their_own_environment(tmp_path: Path, name: str) -> None:
    """Set up where that is not done yet, and run: a modern one, and one of the paper under an old interpreter."""
    made = frameworks("setup", name)
    if made.returncode:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    (row,) = rows_of(tmp_path / "run", name)
    assert (row["status"], row["reason"]) == ("ok", "")
    assert row["max_relative_gradient_error"] < 2e-5
    assert row["check"]["ties"] == {"jax": "first", "theano": "all"}[name]
    assert row["version"] == {"jax": "0.10.2", "theano": "1.0.5"}[name]
    assert len(row["rounds"]) == 1


@pytest.mark.slow
@pytest.mark.skipif("GLEANET_ALL_FRAMEWORKS" not in os.environ, reason="6.5 GB of packages: make test-frameworks")
def test_every_framework_that_can_be_set_up_here(tmp_path: Path) -> None:
    frameworks("setup", "--all")
    ready = [row for row in rows_of(tmp_path / "run") if row["status"] != "not installed"]
    assert [f"{row['title']}: {row['reason']}" for row in ready if row["status"] != "ok"] == []
    assert len(ready) >= 12
    for row in ready:
        if row["trains"] and row["check"]["dtype"] == "float32":
            drift = row["check"]["loss_drift_float64"] or row["check"]["loss_drift"]
            assert drift < 1e-5, f"{row['title']}: the loss after ten steps is not that of its convention"
