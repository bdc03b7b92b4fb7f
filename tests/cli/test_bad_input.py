"""What users get wrong: one line on standard error, exit code 1 or 2, no traceback, nothing half-written."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gleanet.nn import build
from gleanet.prune import plan
from tests.cli.conftest import Gleanet


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    __tracebackhide__ = True
    lines = [line for line in done.stderr.splitlines() if line.startswith("gleanet: ")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of broken things."""
    folder = tmp_path_factory.mktemp("bad")
    with open(folder / "bomb.th", "wb") as file:
        pickle.dump({"state_dict": Bomb()}, file)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(16, 3, 5, 5)}}, folder / "other.pt")
    (folder / "cut.gleanet").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    (folder / "text.onnx").write_text("not a graph")
    (folder / "empty").mkdir()
    (folder / "truncated").mkdir()
    for split in ("train", "test"):
        (folder / "truncated" / f"{split}.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    (folder / "unknown.toml").write_text("flop = 0.5\n")
    (folder / "broken.toml").write_text("flops = \n")
    plan(build("resnet20"), torch.zeros(1, 3, 16, 16), flops=0.5).save(folder / "plan.json")
    plan(build("resnet8"), torch.zeros(1, 3, 40, 40), flops=0.5).save(folder / "wide.json")
    return folder


CASES: dict[str, Any] = {  # arguments, words of the message, and the exit code where it is not 2
    "no such data": (["train", "resnet8", "--data", "nowhere"], ["nowhere"]),
    "folder without data": (["train", "resnet8", "--data", "{bad}/empty"], ["empty"]),
    "truncated parquet": (["train", "resnet8", "--data", "{bad}/truncated"], ["parquet"]),
    "unknown network": (["train", "resnet9", "--data", "digits"], ["resnet9", "resnet20"]),
    "no model": (["shrink", "--data", "digits"], ["MODEL"]),
    "no data": (["shrink", "resnet8"], ["--data"]),
    "missing weights": (["shrink", "resnet8", "--weights", "{bad}/none.pt", "--data", "digits"], ["none.pt"]),
    "weights of another network": (
        ["shrink", "resnet20", "--weights", "{bad}/other.pt", "--data", "digits"],
        ["conv1.weight", "[16, 3, 5, 5]"],
    ),
    "pickle with code": (["shrink", "resnet20", "--weights", "{bad}/bomb.th", "--data", "digits"], ["bomb.th"]),
    "truncated checkpoint": (["prune", "{bad}/cut.gleanet", "--data", "digits"], ["cut.gleanet"]),
    "budget out of range": (["shrink", "resnet8", "--data", "digits", "--flops", "1.5"], ["--flops", "1.5"]),
    "budget that cannot be met": (["shrink", "resnet8", "--data", "digits", "--flops", "0.01"], ["cannot be reached", "least"]),
    "two budgets": (["shrink", "resnet8", "--data", "digits", "--flops", "0.5", "--latency", "0.5"], ["flops and latency", "choose one"]),
    "parameters out of range": (["prune", "resnet8", "--data", "digits", "--params", "1.5"], ["--params", "1.5"]),
    "bytes that cannot be met": (["prune", "resnet8", "--data", "digits", "--bytes", "9000"], ["cannot be reached", "bytes)"]),
    "latency that cannot be met": (["prune", "resnet8", "--data", "digits", "--latency", "0.01"], ["cannot be reached", "ms)"]),
    "another budget in training": (
        ["prune", "resnet8", "--data", "digits", "--in-training", "--epochs", "1", "--latency", "0.5"],
        ["--in-training", "--flops"],
    ),
    "unknown criterion": (["prune", "resnet8", "--data", "digits", "--criterion", "best"], ["best", "l2"]),
    "unknown allocation": (["prune", "resnet8", "--data", "digits", "--allocation", "some"], ["some", "uniform"]),
    "missing plan": (["prune", "resnet8", "--data", "digits", "--plan", "{bad}/none.json"], ["none.json"]),
    "no plan in it": (["prune", "resnet8", "--data", "digits", "--plan", "{bad}/unknown.toml"], ["unknown.toml", "Plan"], 1),
    "plan of another network": (
        ["prune", "resnet8", "--data", "digits", "--plan", "{bad}/plan.json"],
        ["another network", "layer1.1.conv1"],
    ),
    "plan for other images": (["prune", "resnet8", "--data", "digits", "--plan", "{bad}/wide.json"], ["wide.json", "[3, 40, 40]"]),
    "plan and criterion": (["prune", "resnet8", "--data", "digits", "--plan", "{bad}/plan.json", "--criterion", "l1"], ["--criterion"]),
    "missing plan to show": (["plans", "show", "{bad}/none.json"], ["none.json"]),
    "plans of different networks": (["plans", "diff", "{bad}/plan.json", "{bad}/wide.json"], ["different networks", "layer"]),
    "no float": (["shrink", "resnet8", "--data", "digits", "--flops", "half"], ["--flops", "number"]),
    "unknown option": (["shrink", "resnet8", "--flop", "0.5"], ["--flop"]),
    "unknown command": (["shrnk"], ["shrnk"]),
    "baseline without training": (["shrink", "resnet8", "--data", "digits", "--fair-baseline"], ["--fair-baseline", "--epochs"]),
    "not onnx": (["quantize", "{bad}/text.onnx", "--data", "digits"], ["text.onnx"]),
    "missing onnx": (["measure", "{bad}/none.onnx", "--data", "digits"], ["none.onnx"]),
    "measure without data": (["measure", "{bad}/text.onnx"], ["--data", "--random-data"]),
    "missing run": (["shrink", "--resume", "{bad}/none"], ["none"]),
    "unknown key in a file": (["shrink", "resnet8", "--data", "digits", "--config", "{bad}/unknown.toml"], ["flop", "flops"]),
    "broken settings file": (["shrink", "resnet8", "--data", "digits", "--config", "{bad}/broken.toml"], ["broken.toml"]),
    "missing run to show": (["runs", "show", "none"], ["none"]),
    "negative seed": (["train", "resnet8", "--data", "digits", "--seed", "-1"], ["--seed", "-1"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gives_one_line_and_leaves_nothing(gleanet: Gleanet, bad: Path, tmp_path: Path, case: str) -> None:
    arguments, words, *code = CASES[case]
    done = gleanet(*(word.format(bad=bad) for word in arguments), cwd=tmp_path)
    assert_one_line(done, *words, code=code[0] if code else 2)
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["runs"])


def test_a_gpu_that_is_not_there(gleanet: Gleanet, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert_one_line(gleanet("train", "resnet8", "--data", "digits", "--device", "cuda", cwd=tmp_path), "cuda", "doctor")


def test_data_with_other_classes(gleanet: Gleanet, trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog", "eel"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(2):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    done = gleanet("shrink", trained / "model.gleanet", "--data", tmp_path / "pets", cwd=tmp_path)
    assert_one_line(done, "10 classes", "3")


def test_a_folder_that_holds_a_run_is_not_touched(gleanet: Gleanet, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    done = gleanet("shrink", trained / "model.gleanet", "--data", "digits", "--out", trained)
    assert_one_line(done, "already holds a run", "--resume")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file() and path.name != ".lock"} == {
        path: when for path, when in before.items() if path.name != ".lock"
    }


def test_a_full_disk_leaves_no_torn_file(trained: Path, tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the same failure of write(2), without filling anything."""
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "from gleanet.cli.app import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["prune", trained / "model.gleanet", "--data", "digits", "--one-shot", "--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert_one_line(done, "cannot write", code=1)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in {".gleanet", ".part"}]
