"""Training in several processes by command: one voice, one folder; a dead process ends the others, and the run goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import torch.distributed as dist

from gleanet.cli.app import main
from gleanet.core.store import RunFolder
from tests.cli.test_resume import listen_to_ctrl_c, wait_for

TRAIN = ["train", "resnet8", "--data", "digits", "--epochs", "6", "--lr", "0.05"]
Process = subprocess.Popen[str]


@pytest.fixture
def one_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Be one of two processes that torchrun has started; the function says which. The store is a real one, torchrun is not there."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))  # type: ignore[attr-defined]
    fixed = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in fixed.items():
        monkeypatch.setenv(name, value)

    def be(rank: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))

    yield be
    del store


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shrink", "resnet8", "--data", "digits"], "run gleanet shrink without torchrun"),
        (["prune", "resnet8", "--data", "digits", "--epochs", "1"], "prune with --in-training"),
        (["train", "resnet8", "--epochs", "x"], "see gleanet train --help"),
        (["train", "resnet8", "--data", "digits", "--device", "cuda"], "torch finds 0 CUDA GPUs here: use --device cpu"),
    ],
)
def test_what_several_processes_refuse_is_said_once(
    arguments: list[str], words: str, one_of_two: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in arguments and dist.is_nccl_available():
        pytest.skip("a machine with GPUs")
    out = ["--out", str(tmp_path / "run")] if "--epochs" not in arguments else []
    for rank in (1, 0):
        one_of_two(rank)
        assert main([*arguments, *out]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("gleanet: ") == printed.err.count(words) == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_asked_for_before_anything_is_done(
    one_of_two: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_of_two(0)
    monkeypatch.setattr("gleanet.pipeline.team.find_spec", lambda name: None)
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'gleanet[distributed]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_torchrun_fabric_is_not_imported() -> None:
    code = (
        "import sys; from gleanet.pipeline.train import train; from gleanet.pipeline.team import assembled; "
        "print(assembled('auto').size, [name for name in sys.modules if name.startswith('lightning')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1 []\n"


def start(arguments: list[str], processes: int = 2) -> Process:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "gleanet"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*torchrun, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def finish(process: Process) -> str:
    """What it printed as errors, once it has ended well."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


def of_rank(torchrun: Process, rank: int) -> psutil.Process:
    return next(child for child in psutil.Process(torchrun.pid).children() if child.environ().get("RANK") == str(rank))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The network of the training in two processes that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start([*TRAIN, "--out", str(folder)]))
    return (folder / "model.gleanet").read_bytes()


def said(errors: str) -> list[str]:
    """Our own lines; torchrun reports in its own words that it has ended."""
    return [line for line in errors.splitlines() if line.startswith("gleanet: ")]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on(whole: bytes, tmp_path: Path, rank: int) -> None:
    """In two processes to the same bytes, in one to the end."""
    folder = tmp_path / "run"
    process = start([*TRAIN, "--out", str(folder)])
    wait_for(folder / "train.state", process)
    of_rank(process, rank).kill()
    began = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - began < 60
    resume = f"torchrun --nproc-per-node 2 -m gleanet train --resume {folder}"
    assert said(errors) == [f"gleanet: another process of this training has died or cannot be reached: resume with {resume}"]
    assert "gloo" not in errors
    assert RunFolder(folder).read().status in ("interrupted", "running" if rank == 0 else "interrupted")
    shutil.copytree(folder, tmp_path / "alone")
    finish(start(["train", "--resume", str(folder)]))
    assert (folder / "model.gleanet").read_bytes() == whole
    assert main(["train", "--resume", str(tmp_path / "alone")]) == 0
    assert RunFolder(tmp_path / "alone").read().status == "done"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["all", "torchrun", "second"])
def test_ctrl_c_stops_all_processes_at_one_step(whole: bytes, tmp_path: Path, to: str) -> None:
    """However it reaches them; torchrun passes it on, so that it comes twice."""
    folder = tmp_path / "run"
    process = start([*TRAIN, "--out", str(folder)])
    wait_for(folder / "train.state", process)
    if to == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid if to == "torchrun" else of_rank(process, 1).pid, signal.SIGTERM if to == "torchrun" else signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said(errors) == [f"gleanet: interrupted: resume with torchrun --nproc-per-node 2 -m gleanet train --resume {folder}"]
    assert RunFolder(folder).read().status == "interrupted"
    finish(start(["train", "--resume", str(folder)]))
    assert (folder / "model.gleanet").read_bytes() == whole
    assert "nothing to resume" in finish(start(["train", "--resume", str(folder)]))


@pytest.mark.slow
def test_pruning_while_training_makes_the_plan_of_one_process(trained: Path, tmp_path: Path) -> None:
    prune = [
        "prune",
        str(trained / "model.gleanet"),
        "--data",
        "digits",
        "--in-training",
        "--epochs",
        "1",
        "--lr",
        "0.02",
        "--calibration",
        "256",
    ]
    finish(start([*prune, "--out", str(tmp_path / "two")]))
    assert main([*prune, "--out", str(tmp_path / "one")]) == 0
    plans = [json.loads((tmp_path / run / "plan.json").read_bytes()) for run in ("one", "two")]
    assert plans[0] == plans[1]
