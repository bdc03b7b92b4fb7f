"""The same sweep on a real Ray cluster of two nodes that loses a worker and a node, and here: the same table, the same files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.cli.conftest import Gleanet
from tests.cli.test_resume import listen_to_ctrl_c

pytest.importorskip("ray")

SWEEP = """
command = "train"
seeds = 2
baseline = { activation = "relu" }
retries = 3
[options]
model = "resnet8"
data = "digits"
epochs = 2
lr = 0.1
[grid]
activation = ["relu", "mish"]
"""
TIMES = ("seconds", "started", "id", "machine")


@dataclass(frozen=True)
class Nodes:
    """The cluster's address, its temporary folder, and how to ``remove`` its second node and ``add`` another."""

    address: str
    scratch: Path
    tell: Callable[[str], None]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    short = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets lie below, and a socket's path is at most 107 bytes
    scratch = tmp_path_factory.mktemp("scratch")
    variables = {**os.environ, "RAY_TMPDIR": str(short), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "tests.sweep.nodes"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    assert process.stdin is not None
    assert process.stdout is not None
    told, said = process.stdin, process.stdout

    def tell(what: str) -> None:
        told.write(f"{what}\n")
        told.flush()
        assert said.readline() == "done\n"

    try:
        yield Nodes(said.readline().strip(), scratch, tell)
    finally:
        told.close()
        process.wait(60)
        said.close()
        shutil.rmtree(short, ignore_errors=True)


def cells_at_work(scratch: Path) -> list[Any]:
    """Processes of cells whose run has begun, on either node."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        with suppress(psutil.Error):
            if "gleanet.sweep.child" in words and str(process.cwd()).startswith(str(scratch)):
                found += [process] if run_of(process).is_file() else []
    return found


def run_of(process: Any) -> Path:
    """The record of a cell's process."""
    folder = next(word.partition("=")[2] for word in process.cmdline() if word.startswith(("--out=", "--resume=")))
    return Path(process.cwd(), folder, "run.json")


def wait_until(true: Callable[[], bool], sweep: "subprocess.Popen[str]") -> None:
    for _ in range(3000):
        if true():
            return
        assert sweep.poll() is None, "the sweep ended before anything could be killed"
        time.sleep(0.05)
    raise AssertionError("it did not come to that in time")


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def results(folder: Path) -> dict[str, Any]:
    """Every record without times, every network as it is."""
    records = {str(path.relative_to(folder)): without_times(json.loads(path.read_bytes())) for path in folder.rglob("*.json")}
    del records["run.json"]  # names its folder
    return records | {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.gleanet")}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_and_a_node_gives_the_whole_table(gleanet: Gleanet, nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP)
    command = [sys.executable, "-m", "gleanet", "sweep", str(file), "--ray", nodes.address, "--out", str(tmp_path / "ray"), "--json"]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(cells_at_work(nodes.scratch)) == 2, sweep)
    cell = cells_at_work(nodes.scratch)[0]
    killed = run_of(cell)
    started = json.loads(killed.read_bytes())["started"]
    cell.parent().kill()  # the worker; nobody tells the cell
    cell.wait(15)
    wait_until(lambda: len(cells_at_work(nodes.scratch)) == 2, sweep)
    nodes.tell("remove")
    try:
        out, errors = sweep.communicate(timeout=300)
    finally:
        nodes.tell("add")
    assert sweep.returncode == 0, errors
    assert errors.count("lost: ") == 2, errors
    assert "Traceback" not in errors
    done = gleanet("sweep", file, "--out", tmp_path / "here", "--json")
    assert done.returncode == 0, done.stderr
    here, there = json.loads(done.stdout)["sweep"], json.loads(out)["sweep"]
    assert [row["mean"]["n"] for row in there["combinations"]] == [2, 2]
    assert without_times(there) == without_times(here)
    assert results(tmp_path / "ray") == results(tmp_path / "here")
    assert len(results(tmp_path / "ray")) == 9
    assert list((tmp_path / "ray" / "cells").glob("*.log")) == []
    assert not list(nodes.scratch.glob("gleanet-sweeps-*/*"))
    resumed = tmp_path / "ray" / "cells" / killed.parent.name / "run.json"
    assert json.loads(resumed.read_bytes())["started"] == started  # it went on, since both nodes are on this machine


@pytest.mark.slow
def test_what_the_cluster_does_not_have_is_said_before_anything_is_made(gleanet: Gleanet, nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP + "[resources]\ncpus = 2\n")
    done = gleanet("sweep", file, "--ray", nodes.address, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "gleanet: a cell needs 2 CPUs and 0 GPUs, and no node of the Ray cluster has them: 1 CPUs and 0 GPUs, 1 CPUs and 0 GPUs"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_has_the_cells_save_their_state_and_leaves_none_behind(nodes: Nodes, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP.replace("epochs = 2", "epochs = 500"))  # no cell is done before it is stopped
    command = [sys.executable, "-m", "gleanet", "sweep", str(file), "--ray", nodes.address, "--out", str(tmp_path / "stopped")]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c)
    wait_until(lambda: len(cells_at_work(nodes.scratch)) == 2, sweep)
    cells = cells_at_work(nodes.scratch)
    records = [run_of(cell) for cell in cells]
    wait_until(lambda: all((record.parent / "train.state").is_file() for record in records), sweep)
    sweep.send_signal(signal.SIGINT)
    out, errors = sweep.communicate(timeout=120)
    assert (sweep.returncode, out) == (130, "")
    assert errors.splitlines()[-1] == (
        f"gleanet: interrupted: resume with gleanet sweep --resume {tmp_path / 'stopped'} --ray {nodes.address}"
    )
    assert "Traceback" not in errors
    assert not any(cell.is_running() for cell in cells)
    assert [json.loads(record.read_bytes())["status"] for record in records] == ["interrupted"] * 2
    assert json.loads((tmp_path / "stopped" / "run.json").read_bytes())["status"] == "interrupted"
