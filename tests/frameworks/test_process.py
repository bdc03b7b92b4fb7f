"""Adapters that crash, hang, or answer nothing: each a reason in one line, and nothing left running."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gleanet.frameworks.catalogue import ADAPTERS
from gleanet.frameworks.environments import state
from gleanet.frameworks.process import AdapterError, Limits, run_adapter
from tests.frameworks.conftest import Row
from tests.processes import gone, wait_for

JOB = {"dtype": "float32"}
STARTER = """
import sys
from pathlib import Path
from gleanet.frameworks.catalogue import Framework
from gleanet.frameworks.environments import State
from gleanet.frameworks.process import Limits, run_adapter
mine = Framework("mine", "Mine", "numpy", (), (), sys.argv[1])
run_adapter(mine, State("here", Path(sys.executable)), {"dtype": "float32"}, Limits(1, 600.0), Path(sys.argv[2]))
"""
BEGINNING = f"import ctypes, os, subprocess, sys, time\nsys.path.insert(0, {str(ADAPTERS)!r})\n"


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
    assert gone(int(note.read_text()))


@pytest.mark.parametrize(
    ("before", "waiting"),
    [
        pytest.param("", "time.sleep(600)", id="in Python"),
        pytest.param("", "ctypes.PyDLL(None).sleep(600)", id="in native code that lets no thread run"),
        pytest.param("import fcntl\ndel fcntl.F_SETSIG\n", "time.sleep(600)", id="as where the kernel does not do it"),
    ],
)
def test_where_we_are_killed_it_ends_with_all_that_it_started(row: Row, tmp_path: Path, before: str, waiting: str) -> None:
    note = tmp_path / "pids"
    script = (
        f"{BEGINNING}{before}import harness\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r} + '.part', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.replace({str(note)!r} + '.part', {str(note)!r})\n"
        f"{waiting}\n"
    )
    kill_starter(row(script).script, note, tmp_path)
    assert all(gone(int(pid)) for pid in note.read_text().split())


def test_where_we_are_killed_while_it_starts_it_ends_too(row: Row, tmp_path: Path) -> None:
    """Before it has read its job and could know of us."""
    note, go = tmp_path / "pid", tmp_path / "go"
    script = (
        f"{BEGINNING}open({str(note)!r} + '.part', 'w').write(str(os.getpid()))\n"
        f"os.replace({str(note)!r} + '.part', {str(note)!r})\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
        "import harness\n"
        "time.sleep(600)\n"
    )
    kill_starter(row(script).script, note, tmp_path)
    assert not gone(int(note.read_text()), tries=1)
    go.touch()
    assert gone(int(note.read_text()))


def kill_starter(script: Path, note: Path, tmp_path: Path) -> None:
    """Start a process that runs the adapter, and kill that process as soon as the adapter has written its note."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(script), str(tmp_path / "work")])
    wait_for(note.exists, starter)
    starter.kill()
    starter.wait()


def test_whoever_reads_its_standard_input_finds_the_end(row: Row, tmp_path: Path) -> None:
    script = f"{BEGINNING}import harness\nsubprocess.run(['cat'])\nraise RuntimeError('read to the end')\n"
    assert reason(row, tmp_path, script).startswith("RuntimeError: read to the end")


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
