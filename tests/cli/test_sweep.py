"""``gleanet sweep`` as a user types it; on a cluster: ``test_sweep_cluster.py``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from gleanet.core.store import RunFolder
from tests.cli.conftest import Gleanet
from tests.cli.parsing import parsed
from tests.cli.test_bad_input import assert_one_line
from tests.cli.test_resume import listen_to_ctrl_c, wait_for

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
# What the fixture ``trained`` has done, so that its network is what comes out.
AS_TRAINED = """
command = "train"
retries = 0
[options]
model = "resnet8"
data = "digits"
epochs = 4
[grid]
lr = [0.1]
"""


def written(folder: Path, text: str) -> Path:
    (folder / "sweep.toml").write_text(text)
    return folder / "sweep.toml"


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_cell_of_an_example_is_a_command_line_of_the_product(gleanet: Gleanet, tmp_path: Path, example: Path) -> None:
    """The networks that an example starts from are said in its comments; here any file will do."""
    (tmp_path / "runs" / "base").mkdir(parents=True)
    for name in ("model.gleanet", "model.onnx"):
        (tmp_path / "runs" / "base" / name).write_bytes(b"any")
    done = gleanet("sweep", example, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) >= 4
    assert len({cell["name"] for cell in cells}) == len(cells)
    for cell in cells:
        assert parsed(["gleanet", *cell["words"]]) == f"gleanet {cell['words'][0]}"
    shown = gleanet("sweep", example, "--dry-run", cwd=tmp_path)
    assert f"{len(cells)} cells: " in shown.stdout
    assert all(cell["name"] in shown.stdout for cell in cells)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["base"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 4", "epochs = -1", "sweep.toml: 0.1, seed 0: --epochs is -1.0: it must be 0 or more"),
        ("lr = [0.1]", 'lr = ["fast"]', "fast, seed 0: Invalid value for '--lr'"),
        ('data = "digits"', "", "data is missing: give it in [options] or in [grid]"),
        ('model = "resnet8"', "", "model is missing"),
        ("retries = 0", "retires = 0", "unknown key 'retires': did you mean 'retries'?"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(gleanet: Gleanet, tmp_path: Path, old: str, new: str, says: str) -> None:
    done = gleanet("sweep", written(tmp_path, AS_TRAINED.replace(old, new)), "--out", tmp_path / "out")
    assert_one_line(done, says)
    assert not (tmp_path / "out").exists()


def test_without_ray_installed_the_line_says_how_to_install_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['ray'] = None; from gleanet.cli.app import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", hidden, "sweep", str(written(tmp_path, AS_TRAINED)), "--ray", "auto", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert_one_line(done, "pip install 'gleanet[distributed]'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("auto", "no Ray cluster answers"),
        ("127.0.0.1:1", "Connection refused"),
        ("nonsense", "no HOST:PORT"),
        ("ray://x:1", "no HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(gleanet: Gleanet, tmp_path: Path, address: str, says: str) -> None:
    pytest.importorskip("ray")
    done = gleanet("sweep", written(tmp_path, AS_TRAINED), "--ray", address, "--out", tmp_path / "out", RAY_TMPDIR=str(tmp_path))
    assert_one_line(done, f"--ray {address}: no Ray cluster answers", says, "start one with `ray start --head`")
    assert not (tmp_path / "out").exists()


def test_a_cell_that_fails_is_in_the_table_with_its_error(gleanet: Gleanet, tmp_path: Path) -> None:
    text = AS_TRAINED.replace('data = "digits"\n', "").replace("[grid]", '[grid]\ndata = ["nowhere", "digits"]')
    done = gleanet("sweep", written(tmp_path, text.replace("epochs = 4", "epochs = 0.1")), "--out", tmp_path / "out", "--json")
    assert done.returncode == 1, done.stderr
    bad, good = json.loads(done.stdout)["sweep"]["combinations"]
    assert bad["mean"] is None
    assert "no data set 'nowhere'" in bad["failed"][0][1]
    assert "\n" not in bad["failed"][0][1]
    (cell,) = [path for path in (tmp_path / "out" / "cells").iterdir() if path.is_dir()]
    accuracy = RunFolder(cell).read().results["accuracy"]
    assert (good["mean"]["mean"], good["mean"]["low"], good["failed"]) == (accuracy["value"], accuracy["low"], [])
    shown = gleanet("runs", "show", tmp_path / "out")
    assert "nowhere, 0.1, seed 0 failed: no data set 'nowhere'" in shown.stdout


def begun(folder: Path, file: Path) -> "tuple[subprocess.Popen[str], Any]":
    """A sweep whose first cell trains already, and that cell's process."""
    command = [sys.executable, "-m", "gleanet", "sweep", str(file), "--out", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ), preexec_fn=listen_to_ctrl_c
    )
    wait_for(folder / "run.json", process)
    (cell,) = json.loads((folder / "sweep.json").read_bytes())["cells"]
    wait_for(folder / "cells" / cell["name"] / "train.state", process)
    return process, psutil.Process(process.pid).children()[0]


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_inside_its_cell(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    """No process is left behind that would work on in its folder."""
    process, cell = begun(tmp_path / "out", written(tmp_path, AS_TRAINED))
    process.kill()
    process.communicate(timeout=60)
    cell.wait(30)
    finish(gleanet, trained, tmp_path / "out")


@pytest.mark.slow
def test_ctrl_c_stops_the_cell_too_and_says_how_to_go_on(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    process, cell = begun(tmp_path / "out", written(tmp_path, AS_TRAINED))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == f"gleanet: interrupted: resume with gleanet sweep --resume {tmp_path / 'out'}"
    assert not cell.is_running()
    (folder,) = [path for path in (tmp_path / "out" / "cells").iterdir() if path.is_dir()]
    assert RunFolder(folder).read().status == "interrupted"
    finish(gleanet, trained, tmp_path / "out")


def finish(gleanet: Gleanet, trained: Path, folder: Path) -> None:
    """Go on twice: the first time it trains to its end, the second time there is nothing to do."""
    (state,) = (folder / "cells").glob("*/train.state")
    cell, started = state.parent, RunFolder(state.parent).read().started
    done = gleanet("sweep", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert RunFolder(cell).read().started == started
    assert (cell / "model.gleanet").read_bytes() == (trained / "model.gleanet").read_bytes()
    made = (cell / "model.gleanet").stat().st_mtime_ns
    again = gleanet("sweep", "--resume", folder)
    assert again.returncode == 0, again.stderr
    assert "1 done already" in again.stderr
    assert (cell / "model.gleanet").stat().st_mtime_ns == made
