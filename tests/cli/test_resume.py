"""A run that is killed or interrupted, at any moment and as often as you like, goes on and ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gleanet.core.store import RunFolder
from gleanet.pipeline import export
from tests.cli.conftest import Gleanet

IN_A_ROW = 3  # kills of one run, then it may finish


@dataclass(frozen=True)
class Job:
    """A command, what it leaves (the same bytes every time), and how long it takes once it has its folder, s."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]
    seconds: float

    def start(self, folder: Path) -> "subprocess.Popen[str]":
        """The command as it was given; where there is a run to resume, ``--resume``."""
        known = (folder / "run.json").exists()
        arguments = [self.arguments[0], "--resume", str(folder)] if known else [*self.arguments, "--out", str(folder)]
        command = [sys.executable, "-m", "gleanet", *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ), preexec_fn=listen_to_ctrl_c
        )


COMMANDS = {
    "train": ("train", "resnet8", "--data", "digits", "--epochs", "5", "--lr", "0.1"),
    "shrink": (
        "shrink", "{base}", "--data", "digits", "--flops", "0.5", "--criterion", "residual", "--allocation", "global", "--calibration",
        "256", "--epochs", "2", "--lr", "0.02", "--fair-baseline", "--method", "u8s8",
    ),
    "prune": ("prune", "{base}", "--data", "digits", "--flops", "0.5", "--epochs", "3", "--lr", "0.02", "--calibration", "256"),
    "prune in training": ("prune", "{base}", "--data", "digits", "--flops", "0.5", "--in-training", "--epochs", "4", "--lr", "0.02"),
    # one method that is the fastest whatever the clock says, and some that take time
    "quantize": ("quantize", "{onnx}", "--data", "digits", "--method", "u8s8-channel,dynamic-u8u8,u16s8-channel,weights4", "--sensitivity"),
}  # fmt: skip
FILES = {
    "train": ("model.gleanet",),
    "shrink": ("model.gleanet", "base.onnx", "model.onnx", "steps/one-shot.onnx", "steps/base-tuned.onnx", "model.int8.onnx"),
    "prune": ("model.gleanet", "plan.json"),
    "prune in training": ("model.gleanet", "plan.json"),
    "quantize": ("model.int8.onnx",),
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Job]:
    """The uninterrupted run of a command, made when it is first asked for."""
    known: dict[str, Job] = {}

    def make(name: str) -> Job:
        if name not in known:
            arguments = COMMANDS[name]
            if "{base}" in arguments:
                base = request.getfixturevalue("trained") / "model.gleanet"
                arguments = tuple(str(base) if word == "{base}" else word for word in arguments)
            if "{onnx}" in arguments:
                file = export(str(request.getfixturevalue("trained") / "model.gleanet"), tmp_path_factory.mktemp("onnx") / "m.onnx").path
                arguments = tuple(str(file) if word == "{onnx}" else word for word in arguments)
            folder = tmp_path_factory.mktemp("whole") / "run"
            process = Job(arguments, {}, 0.0).start(folder)
            wait_for(folder / "run.json", process)
            began = time.monotonic()
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            known[name] = Job(arguments, {file: (folder / file).read_bytes() for file in FILES[name]}, time.monotonic() - began)
        return known[name]

    return make


def listen_to_ctrl_c() -> None:
    """A shell that runs the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(12_000):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.01)


def kill_again_and_again(job: Job, folder: Path, chance: random.Random) -> int:
    """Start or resume the run and kill it at random moments, at most ``IN_A_ROW`` times; then let it finish. Returns its hits."""
    hits = 0
    for _ in range(IN_A_ROW):
        process = job.start(folder)
        wait_for(folder / "run.json", process)
        starting = 0.0 if hits == 0 else 2.0  # of a resumed process nothing shows that it is at work already
        try:
            process.wait(timeout=chance.uniform(0, starting + 0.9 * job.seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            hits += 1
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        if process.returncode == 0:
            break
        if (folder / "run.json").exists():
            assert RunFolder(folder).read().status in ("running", "done")
    if process.returncode != 0:
        process = job.start(folder)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return hits


def assert_as_uninterrupted(job: Job, folder: Path) -> None:
    assert RunFolder(folder).read().status == "done"
    assert {file: (folder / file).read_bytes() for file in job.files} == job.files
    assert not [path for path in folder.rglob("*") if path.suffix in (".part", ".state") or path.name == "trials"]


def test_a_training_that_is_killed_ends_with_the_same_bytes(job: Callable[[str], Job], tmp_path: Path) -> None:
    hits, chance = 0, random.Random(0)
    for chain in range(5):
        hits += kill_again_and_again(job("train"), tmp_path / f"run-{chain}", chance)
        assert_as_uninterrupted(job("train"), tmp_path / f"run-{chain}")
        if hits:
            break
    assert hits


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("train", 7), ("shrink", 8), ("prune", 5), ("prune in training", 6), ("quantize", 5)])
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(job: Callable[[str], Job], tmp_path: Path, name: str, kills: int) -> None:
    hits, chance = 0, random.Random(name)
    for chain in range(kills):
        hits += kill_again_and_again(job(name), tmp_path / f"run-{chain}", chance)
        assert_as_uninterrupted(job(name), tmp_path / f"run-{chain}")
        if hits >= kills:
            break
    assert hits >= kills


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("train", "train.state"),
        pytest.param("shrink", "steps/plan.json", marks=pytest.mark.slow),
        pytest.param("shrink", "steps/recover.state", marks=pytest.mark.slow),
        pytest.param("shrink", "model.onnx", marks=pytest.mark.slow),
        pytest.param("prune", "prune.state", marks=pytest.mark.slow),
        pytest.param("prune in training", "prune.state", marks=pytest.mark.slow),
        pytest.param("quantize", "trials/u8s8-channel.json", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_at_the_next_step_and_says_how_to_go_on(
    gleanet: Gleanet, job: Callable[[str], Job], tmp_path: Path, name: str, moment: str
) -> None:
    """``moment``: the file that shows which stage it is in."""
    folder = tmp_path / "run"
    process = job(name).start(folder)
    wait_for(folder / moment, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    lines = [line for line in errors.splitlines() if line.startswith("gleanet: ")]
    command = job(name).arguments[0]
    assert lines == [f"gleanet: interrupted: resume with gleanet {command} --resume {folder}"]
    assert "Traceback" not in errors
    assert RunFolder(folder).read().status == "interrupted"
    done = gleanet(command, "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert_as_uninterrupted(job(name), folder)


def test_a_run_that_is_done_is_not_done_again(gleanet: Gleanet, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"}
    done = gleanet("train", "--resume", trained)
    assert done.returncode == 0, done.stderr
    assert "nothing to resume" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"} == before


def test_ctrl_c_before_there_is_anything_leaves_nothing(tmp_path: Path) -> None:
    """While data and network are still being found; the folder goes."""
    process = Job(("train", "resnet8", "--data", "digits", "--epochs", "5"), {}, 0.0).start(tmp_path / "run")
    wait_for(tmp_path / "run" / "run.json", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert not (tmp_path / "run").exists() or RunFolder(tmp_path / "run").read().status == "interrupted"


def test_checkpoints_come_by_time_too() -> None:
    """At most half a minute of a long epoch is lost."""
    from gleanet.train import loop

    assert loop.SAVE_EVERY_S <= 30


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_sighup_stop_like_ctrl_c(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = Job((*COMMANDS["train"][:-4], "--epochs", "200", "--lr", "0.1"), {}, 0.0).start(tmp_path / "run")
    wait_for(tmp_path / "run" / "train.state", process)
    process.send_signal(number)
    process.send_signal(number)  # a closed terminal and its shell send one each
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert RunFolder(tmp_path / "run").read().status == "interrupted"
