"""Folders that are taken, full, shut or from the future: the real command says it in one line, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.core.test_store import another_process_in

TRAIN = ["train", "resnet8", "--data", "digits", "--epochs", "0.3", "--lr", "0.1"]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own; skips where this process may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def copy_of(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


@pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
def test_a_second_process_names_the_first_and_stops(gleanet: Gleanet, tmp_path: Path) -> None:
    with another_process_in(tmp_path / "run") as pid:
        done = gleanet(*TRAIN, "--out", tmp_path / "run")
    assert_one_line(done, f"process {pid} on {os.uname().nodename}", "--out")
    assert content(tmp_path / "run") == {}


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(gleanet: Gleanet, mounted: Path, tmp_path: Path) -> None:
    """Room for the record, not for the state of the training; then the run goes on from a copy on a disk that has room."""
    (mounted / "ballast").write_bytes(bytes(600_000))
    done = gleanet(*TRAIN, "--out", mounted / "run")
    assert_one_line(done, "cannot write", "No space left on device", code=1)
    assert list(content(mounted / "run")) == ["run.json"]
    moved = copy_of(mounted / "run", tmp_path / "moved")
    for arguments in (["train", "--resume", moved], [*TRAIN, "--out", tmp_path / "whole"]):
        done = gleanet(*arguments)
        assert done.returncode == 0, done.stderr
    assert (moved / "model.gleanet").read_bytes() == (tmp_path / "whole" / "model.gleanet").read_bytes()


def test_a_folder_that_can_only_be_read_is_one_line(gleanet: Gleanet, trained: Path, mounted: Path) -> None:
    run = copy_of(trained, mounted / "run")
    before = content(run)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for arguments in ([*TRAIN, "--out", mounted / "new"], ["train", "--resume", run]):
        assert_one_line(gleanet(*arguments), "Read-only file system", "--out", code=1)
    assert content(run) == before
    assert gleanet("runs", "show", run).returncode == 0
    assert "base" in gleanet("runs", "list", "--root", mounted).stdout


@pytest.mark.parametrize(("command", "code"), [(["train", "--resume"], 1), (["runs", "show"], 1), ([*TRAIN, "--out"], 2)])
def test_a_run_of_a_newer_version_stays_as_it_is(gleanet: Gleanet, trained: Path, tmp_path: Path, command: list[str], code: int) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(record | {"format_version": 99, "rows": "not rows any more"}))
    before = content(run)
    done = gleanet(*command, run)
    assert_one_line(done, "already holds a run" if code == 2 else "newer gleanet (format 99", code=code)
    assert content(run) == before


@pytest.mark.slow
def test_a_clock_that_has_gone_back_is_no_obstacle(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    """A run that says it started in the year 9999, its files with it."""
    run = copy_of(trained, tmp_path / "run")
    record = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(record | {"started": "9999-12-31T23:59:59+00:00", "status": "interrupted"}))
    for path in run.iterdir():
        os.utime(path, (2**34, 2**34))
    done = gleanet("train", "--resume", run, "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["started"] == "9999-12-31T23:59:59+00:00"
    assert again["seconds"] >= record["seconds"]
    assert (run / "model.gleanet").read_bytes() == (trained / "model.gleanet").read_bytes()


def test_a_resumed_run_that_fails_keeps_its_results(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = json.loads((run / "run.json").read_bytes())
    record["status"], record["settings"]["data"] = "interrupted", str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(record))
    assert_one_line(gleanet("train", "--resume", run), "gone")
    after = json.loads((run / "run.json").read_bytes())
    assert after["status"] == "failed"
    assert after["curves"] == record["curves"] != []
    assert after["results"] == record["results"] | {"folder": str(run)}  # not where it was copied from
    assert (run / "model.gleanet").read_bytes() == (trained / "model.gleanet").read_bytes()
