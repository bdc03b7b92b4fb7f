"""A comparison that is killed or interrupted, at any moment and as often as you like, goes on and ends with the same record."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from gleanet.core.framework_entries import Entry, entries_of
from gleanet.core.store import RunFolder
from gleanet.frameworks.catalogue import ADAPTERS
from gleanet.frameworks.runner import compare
from tests.cli.test_resume import listen_to_ctrl_c
from tests.frameworks.conftest import Row
from tests.processes import none_left, wait_for

pytestmark = pytest.mark.slow

ROUNDS = 2
ARGUMENTS = ("pytorch:eager", "onnxruntime", "--data", "digits", "--steps", "2", "--rounds", str(ROUNDS))
LARGE = 40_000  # files of compiled code: tidying them up takes a moment, in which it can be killed
Seen = Callable[[Path, "subprocess.Popen[str]"], object]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The command as it was given; where there is a run to resume, ``--resume``. In a group of its own, like a job of a terminal."""
    words = ["--resume", str(folder)] if (folder / "run.json").exists() else ["--out", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "gleanet", "frameworks", "run", *(arguments or ARGUMENTS), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        preexec_fn=listen_to_ctrl_c,
        process_group=0,
    )


def finish(folder: Path, *arguments: str) -> None:
    process = start(folder, *arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def has_folder(folder: Path, process: "subprocess.Popen[str]") -> bool:
    return folder.exists()


def in_a(task: str, done: int = 0) -> Seen:
    """Whether an adapter of the command is at this task, and so many rows have been through one already."""

    def seen(folder: Path, process: "subprocess.Popen[str]") -> bool:
        if sum(entry.status == "ok" if task == "check" else bool(entry.rounds) for entry in entries(folder)) < done:
            return False
        try:
            words = [word for child in psutil.Process(process.pid).children() for word in child.cmdline()]
        except psutil.NoSuchProcess:
            return False
        return any(json.loads(Path(word).read_text())["task"] == task for word in words if word.endswith("job.json"))

    return seen


def tidying(folder: Path, process: "subprocess.Popen[str]") -> bool:
    return all(len(entry.rounds) == ROUNDS for entry in entries_of(RunFolder(folder).read()))


def kill(folder: Path, moment: Seen, delay: float) -> None:
    """Start the run or go on with it, kill it so long after it is seen to be there, and see that nothing is left of it but the record."""
    before = entries(folder)
    process = start(folder)
    wait_for(lambda: moment(folder, process), process)
    time.sleep(delay)
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    assert none_left(str(folder)), "what it has started lives on"
    for entry in before:
        assert_kept(entry, folder)


def entries(folder: Path) -> tuple[Entry, ...]:
    return entries_of(RunFolder(folder).read()) if (folder / "run.json").exists() else ()


def assert_kept(before: Entry, folder: Path) -> None:
    """What was checked is not checked again, and what was measured stays."""
    (after,) = [entry for entry in entries(folder) if (entry.name, entry.mode) == (before.name, before.mode)]
    if before.status == "ok":
        assert (after.check, after.cold_s) == (before.check, before.cold_s)
    assert after.rounds[: len(before.rounds)] == before.rounds


def what_never_changes(folder: Path) -> dict[str, Any]:
    """All of a record but times, memory and places; and the files of its folder."""
    run = RunFolder(folder).read()
    rows = [
        (
            e.name,
            e.title,
            e.mode,
            e.status,
            e.reason,
            e.version,
            e.python,
            e.check,
            e.max_relative_gradient_error,
            e.lines,
            e.tokens,
            e.bytes,
        )
        for e in entries_of(run)
    ]
    return {
        "status": run.status,
        "settings": run.settings,
        "data": run.data,
        "rows": rows,
        "rounds": [len(entry.rounds) for entry in entries_of(run)],
        "attributes": run.results["attributes"],
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted run says."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder)
    found = what_never_changes(folder)
    assert found["status"] == "done"
    assert [row[3] for row in found["rows"]] == ["ok", "ok"]
    assert found["rounds"] == [ROUNDS, ROUNDS]
    assert not [file for file in found["files"] if file.endswith(("cache", ".npz", ".onnx", ".part"))]
    return found


def test_killed_in_every_part_it_ends_with_the_same_record(tmp_path: Path, whole: dict[str, Any]) -> None:
    """While it starts, in the checks, in the rounds, and while it tidies up; one run after the other until it may finish."""
    folder, chance = tmp_path / "run", random.Random(0)
    kill(folder, has_folder, chance.uniform(0, 0.5))
    for moment in (in_a("check"), in_a("check", done=1), in_a("time"), in_a("time", done=2)):
        kill(folder, moment, chance.uniform(0, 1))
    filled = folder / "work" / "onnxruntime-default" / "cache" / "compiled"
    filled.mkdir(parents=True)
    for index in range(LARGE):
        (filled / str(index)).touch()
    kill(folder, tidying, chance.uniform(0, 0.05))
    assert RunFolder(folder).read().status == "running"
    finish(folder)
    assert what_never_changes(folder) == whole
    assert none_left(str(folder))
    before = entries(folder)
    finish(folder)
    assert entries(folder) == before, "a run that is done has nothing left to do"
    assert what_never_changes(folder) == whole


def test_killed_at_random_moments_it_ends_with_the_same_record(tmp_path: Path, whole: dict[str, Any]) -> None:
    folder, chance, hits = tmp_path / "run", random.Random(1), 0
    for _ in range(4):
        process = start(folder)
        wait_for((folder / "run.json").exists, process)
        try:
            process.wait(timeout=chance.uniform(0, 12))
        except subprocess.TimeoutExpired:
            process.kill()
            hits += 1
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        assert none_left(str(folder))
    assert hits
    finish(folder)
    assert what_never_changes(folder) == whole


@pytest.mark.parametrize("moment", ["check", "time"])
def test_ctrl_c_at_the_terminal_ends_all_of_it_and_says_how_to_go_on(tmp_path: Path, moment: str) -> None:
    folder, arguments = tmp_path / "run", ("onnxruntime", "--data", "digits", "--steps", "2", "--rounds", "3")
    process = start(folder, *arguments)
    wait_for(lambda: in_a(moment)(folder, process), process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    lines = [line for line in errors.splitlines() if line.startswith("gleanet: ")]
    assert lines == [f"gleanet: interrupted: resume with gleanet frameworks run --resume {folder}"]
    assert "Traceback" not in errors
    assert RunFolder(folder).read().status == "interrupted"
    assert none_left(str(folder))
    (before,) = entries(folder)
    assert (before.status, before.reason) == ("waiting" if moment == "check" else "ok", "")
    finish(folder, *arguments)
    (after,) = entries(folder)
    assert (RunFolder(folder).read().status, after.status, len(after.rounds)) == ("done", "ok", 3)
    assert_kept(before, folder)


def test_ctrl_c_before_there_is_anything_leaves_nothing(tmp_path: Path) -> None:
    """Or what can be gone on with."""
    process = start(tmp_path / "run")
    wait_for((tmp_path / "run").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert none_left(str(tmp_path))
    assert not (tmp_path / "run").exists() or RunFolder(tmp_path / "run").read().status == "interrupted"


STARTER = """
import sys
from pathlib import Path
from gleanet.frameworks.catalogue import Framework
from gleanet.frameworks.runner import CompareSettings, compare
mine = Framework("mine", "Mine", "torch", (), (), sys.argv[1], modes=("eager",), here=True)
compare(CompareSettings(steps=1, rounds=0, data="digits"), out=Path(sys.argv[2]), known=[mine])
"""


def test_a_kill_in_the_second_process_of_a_check_does_not_lose_the_first(row: Row, tmp_path: Path) -> None:
    """A framework that is right in float64 alone is asked twice."""
    note, folder = tmp_path / "asked", tmp_path / "run"
    real = (ADAPTERS / "pytorch_cnn.py").read_text(encoding="utf-8")
    coarse = real.replace(
        "    def gradients(x, y):\n",
        '    def gradients(x, y):\n        x = x + harness.np.asarray(1e-3 * (job.dtype == "float32"), job.dtype)\n',
        1,
    )
    assert coarse != real
    script = (
        f"import os, signal, sys; sys.path.insert(0, {str(ADAPTERS)!r}); import harness\n"
        f"asked = open({str(note)!r}, 'a+'); asked.write(harness._JOB['dtype'] + '\\n'); asked.seek(0); asked = asked.read().split()\n"
        "if asked == ['float32', 'float64']:\n    os.kill(os.getppid(), signal.SIGKILL)\n"
    )
    mine = row(script + coarse, package="torch", modes=("eager",))
    process = subprocess.run([sys.executable, "-c", STARTER, str(mine.script), str(folder)], check=False, timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert none_left(str(folder))
    (half,) = entries(folder)
    assert half.status == "waiting"
    assert half.check is not None
    assert (half.check.dtype, half.max_relative_gradient_error) == ("float32", None)
    (found,) = entries_of(compare(resume=str(folder), known=[mine]))
    assert note.read_text().split() == ["float32", "float64", "float64"]
    assert found.check is not None
    assert (found.status, found.check.dtype, found.check.gradient_error_float32) == ("ok", "float64", half.check.gradient_error)
    assert (found.tokens, found.cold_s, found.version) == (half.tokens, half.cold_s, half.version)
