"""Several processes that train one network give what one process gives: two real ones, started by torchrun, that talk through gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gleanet.cli.app import main
from gleanet.train.team import ALONE
from tests.train.together import NORMS, PRUNING, everything

PROCESSES = 2
ROUNDING = 1e-9  # in float64 nothing but rounding may differ
COMMAND = ["train", "resnet8", "--data", "digits", "--epochs", "0.5", "--lr", "0.05"]  # five steps
FLOAT32 = 2e-3  # of the loss, in float32, over these steps: a ReLU at zero falls on the other side now and then, and the steps grow that
Found = dict[str, Any]


def torchrun(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES), "-m", module, *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=variables)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Found], Path, str]:
    """What each process found, the run of the command, and all that was printed."""
    folder = tmp_path_factory.mktemp("together")
    done = torchrun("tests.train.together", str(folder), *COMMAND, "--out", str(folder / "run"))
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    return ranks, folder / "run", done.stdout + done.stderr


@pytest.fixture(scope="module")
def ranks(together: tuple[list[Found], Path, str]) -> list[Found]:
    return together[0]


@pytest.fixture(scope="module")
def alone() -> Found:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = everything(ALONE)
    torch.set_num_threads(before)
    return found


def largest_difference(one: Found, other: Found) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def equal(one: Found, other: Found) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_train_to_the_network_of_one(ranks: list[Found], alone: Found) -> None:
    """With a teacher, label smoothing, augmentation, and a last batch of one image, of which one process has nothing."""
    first, second = (rank["train"] for rank in ranks)
    assert equal(first["weights"], second["weights"])
    assert largest_difference(first["weights"], alone["train"]["weights"]) < ROUNDING
    assert first["plain"]  # the modules are as they were


def test_and_to_its_learning_curve(ranks: list[Found], alone: Found) -> None:
    assert ranks[0]["train"]["points"] == ranks[1]["train"]["points"]
    for ours, theirs in zip(ranks[0]["train"]["points"], alone["train"]["points"], strict=True):
        assert ours == (theirs[0], pytest.approx(theirs[1], rel=ROUNDING), theirs[2])


def test_the_range_test_sees_the_same_losses(ranks: list[Found], alone: Found) -> None:
    """And so chooses the same rate. Its last rates are so high that rounding grows with each step."""
    (rates, losses), (expected_rates, expected) = ranks[0]["range test"], alone["range test"]
    assert ranks[0]["range test"] == ranks[1]["range test"]
    assert rates == expected_rates
    assert losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_sees_the_batch_of_all(ranks: list[Found], alone: Found, name: str) -> None:
    """Output, all gradients and the running statistics are those of torch's own batch norm on the whole batch."""
    whole, parts = alone["norms"][name], [rank["norms"][name] for rank in ranks]
    tolerance = {"float32": 1e-5, "bfloat16": 0.05}.get(name, ROUNDING)
    for key, expected in whole.items():
        if key in ("y", "dx"):
            found = torch.empty_like(expected)
            for rank, part in enumerate(parts):
                found[rank::PROCESSES] = part[key]
        else:
            found = sum(part[key] for part in parts) if key.startswith("d") else parts[0][key]
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PRUNING)
def test_pruning_while_training_ranks_alike_in_all_processes(ranks: list[Found], alone: Found, name: str) -> None:
    """And as in one process, at every step; so do the images that the default form keeps."""
    first, second = (rank[name] for rank in ranks)
    assert first["kept"] == second["kept"] == alone[name]["kept"]
    assert equal(first["weights"], second["weights"])
    assert largest_difference(first["weights"], alone[name]["weights"]) < ROUNDING


def test_a_network_with_unused_parameters_is_one_line(ranks: list[Found]) -> None:
    for rank in ranks:
        assert "take no part in its output" in rank["unused"]
        assert "\n" not in rank["unused"]


def test_what_the_first_makes_all_have(ranks: list[Found]) -> None:
    assert [rank["shared"] for rank in ranks] == ["made by 0"] * PROCESSES
    assert [rank["any"] for rank in ranks] == [(True, False)] * PROCESSES


def test_the_command_gives_the_run_of_one_process(together: tuple[list[Found], Path, str], tmp_path: Path) -> None:
    """One run folder, one voice, the losses of one process."""
    _, run, printed = together
    assert main([*COMMAND, "--out", str(tmp_path / "alone")]) == 0
    found, expected = (json.loads((folder / "run.json").read_bytes()) for folder in (run, tmp_path / "alone"))
    assert {path.name for path in run.iterdir()} - {".lock"} == {"README.md", "model.gleanet", "report.html", "run.json"}
    assert (found["results"]["processes"], expected["results"]["processes"]) == (PROCESSES, 1)
    assert printed.count("train resnet8 on") == printed.count("accuracy:") == 1
    for ours, theirs in zip(found["curves"][0]["points"], expected["curves"][0]["points"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=FLOAT32)


@pytest.mark.slow
def test_a_process_that_falls_silent_is_given_up() -> None:
    done = torchrun("tests.train.silent")
    assert "another process of this training has died or cannot be reached" in done.stdout
    assert "gloo" not in done.stdout + done.stderr
