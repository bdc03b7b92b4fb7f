"""Adapters that crash, hang, or answer nothing: each a reason in one line, and nothing left running."""

import json
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from gleanet.frameworks.environments import state
from gleanet.frameworks.process import AdapterError, Limits, run_adapter
from tests.frameworks.conftest import Row

JOB = {"dtype": "float32"}


def reason(row: Row, tmp_path: Path, script: str, seconds: float = 30.0) -> str:
    mine = row(script)
    with pytest.raises(AdapterError) as caught:
        run_adapter(mine, state(mine), JOB, Limits(1, seconds), tmp_path / "work")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "work/log.txt") in str(caught.value)
    return str(caught.value)


def test_a_crash_gives_its_last_line(row: Row, tmp_path: Path) -> None:
    assert reason(row, tmp_path, "raise RuntimeError('no such operator')").startswith("RuntimeError: no such operator; see")


def test_a_signal_is_named(row: Row, tmp_path: Path) -> None:
    script = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    assert reason(row, tmp_path, script).startswith("its process was ended by SIGSEGV")


def test_no_answer_is_said_and_an_old_answer_is_not_taken(row: Row, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/answer.json").write_text('{"old": true}', encoding="utf-8")
    assert reason(row, tmp_path, "print('done')").startswith("it ended without an answer")


def test_at_the_limit_it_ends_with_all_that_it_started(row: Row, tmp_path: Path) -> None:
    note = tmp_path / "child.pid"
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    assert reason(row, tmp_path, script, seconds=3.0).startswith("killed at the limit of 3 s")
    child = int(note.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child lives on")


def test_it_gets_its_threads_its_variables_and_its_cores(row: Row, tmp_path: Path) -> None:
    script = (
        "import json, os, sys\n"
        "job = json.load(open(sys.argv[1]))\n"
        "names = ('OMP_NUM_THREADS', 'MINE', 'PYTHONPATH')\n"
        "json.dump({'job': job, 'environ': {name: os.environ.get(name) for name in names}}, open(job['answer'], 'w'))\n"
    )
    mine = row(script, variables={"MINE": "{dtype} {cache}"})
    answer = run_adapter(mine, state(mine), {**JOB, "task": "check"}, Limits(1), tmp_path / "work")
    assert answer["job"]["task"] == "check"
    assert len(answer["job"]["cores"]) == 1
    assert answer["environ"] == {"OMP_NUM_THREADS": "1", "MINE": f"float32 {tmp_path / 'work/cache'}", "PYTHONPATH": None}
    assert json.loads((tmp_path / "work/job.json").read_text())["threads"] == 1
