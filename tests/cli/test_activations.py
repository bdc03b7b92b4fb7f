"""``gleanet activations``: the table, its page, a comparison and a search, as a user types them."""

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gleanet.core.stats import mean_interval
from tests.cli.conftest import Gleanet

COMPARE = ("activations", "compare", "resnet8", "--data", "digits", "--activations", "relu,beamish(alpha=1,beta=2),beamish-learnable")
SHORT = ("--seeds", "2", "--epochs", "1", "--lr", "0.1", "--train-images", "300")


def test_the_table_lists_every_function_and_its_numbers(gleanet: Gleanet, tmp_path: Path) -> None:
    done = gleanet("activations", "--plot", tmp_path / "plots.html")
    assert done.returncode == 0, done.stderr
    for word in ("mish", "0.88363", "-0.30884 at -1.19243", "1.4142", "D. Misra, BMVC 2020"):
        assert word in done.stdout
    page = (tmp_path / "plots.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")  # it needs nothing from the network
    assert page.count("<svg") > 11
    shapes = json.loads(gleanet("activations", "--json", "--functions", "mish,beamish(alpha=1,beta=1),relu").stdout)
    assert [shape["name"] for shape in shapes] == ["mish", "beamish(alpha=1,beta=1)", "relu"]
    assert shapes[0]["y"] == pytest.approx(shapes[1]["y"], abs=1e-12)
    assert shapes[0]["area"] == pytest.approx(shapes[1]["area"])
    assert shapes[2]["minimum"] is None
    assert shapes[2]["gain"] == pytest.approx(math.sqrt(2), rel=1e-6)


@pytest.fixture(scope="module")
def compared(gleanet: Gleanet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "compared"
    done = gleanet(*COMPARE, *SHORT, "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.slow
def test_a_comparison_has_means_paired_differences_times_and_a_report(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, run = compared
    rows = run["results"]["comparison"]
    assert [row["activation"] for row in rows] == ["relu", "beamish(alpha=1,beta=2)", "beamish-learnable"]
    cells = {path.stem: json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")}
    assert len(cells) == 6
    base = [cells[f"relu-{seed}"]["correct"] / cells[f"relu-{seed}"]["n"] for seed in (0, 1)]
    for row in rows:
        slug = row["activation"].replace("(alpha=1,beta=2)", "-alpha-1-beta-2")
        own = [cells[f"{slug}-{seed}"]["correct"] / cells[f"{slug}-{seed}"]["n"] for seed in (0, 1)]
        assert row["accuracies"] == own
        assert row["mean"]["mean"] == pytest.approx(sum(own) / 2)
        if row["activation"] == "relu":
            assert row["difference"] is None
        else:
            expected = mean_interval([a - b for a, b in zip(own, base, strict=True)])
            assert (row["difference"]["low"], row["difference"]["high"]) == pytest.approx((expected.low, expected.high))
        assert [latency["batch"] for latency in row["latencies"]] == [1, 64]
        assert row["seconds"] > 0
    assert len(run["curves"]) == 3
    assert run["data"]["trained on"] == 300
    report = (folder / "report.html").read_text()
    assert "Training loss" in report
    assert "beamish-learnable" in report
    assert not list(folder.rglob("*.state"))


@pytest.mark.slow
def test_the_same_seed_draws_the_same_weights_up_to_the_gain(compared: tuple[Path, dict[str, Any]]) -> None:
    from gleanet.nn import build
    from gleanet.nn.activations import activation
    from gleanet.nn.family import gain

    nets = {name: build("resnet8", activation=name, seed=1) for name in ("relu", "beamish(alpha=1,beta=2)")}
    scaled = [net.get_parameter("conv1.weight") / gain(activation(name)()) for name, net in nets.items()]
    assert float((scaled[0] - scaled[1]).detach().abs().max()) < 1e-6


@pytest.mark.slow
def test_finished_cells_are_never_run_again(gleanet: Gleanet, tmp_path: Path) -> None:
    """A run is killed after its first cell; resumed, it leaves that cell's files alone and finishes the rest."""
    folder = tmp_path / "killed"
    arguments = [sys.executable, "-m", "gleanet", *COMPARE, *SHORT, "--out", str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if list((folder / "cells").glob("*.json")):
                break
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = {path.name: path.read_bytes() for path in (folder / "cells").glob("*.json")}
    stamps = {name: (folder / "cells" / name).stat().st_mtime_ns for name in first}
    assert 1 <= len(first) < 6
    done = gleanet("activations", "compare", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "cells").glob("*.json"))) == 6
    for name, content in first.items():
        assert (folder / "cells" / name).read_bytes() == content
        assert (folder / "cells" / name).stat().st_mtime_ns == stamps[name]


@pytest.mark.slow
def test_a_diverging_activation_is_counted_and_does_not_end_the_run(gleanet: Gleanet, tmp_path: Path) -> None:
    done = gleanet(
        *("activations", "compare", "squeezenet1_1_cifar", "--data", "digits", "--activations", "relu,silu", "--seeds", "1"),
        *("--epochs", "0.2", "--lr", "1000", "--train-images", "600", "--batch-size", "32", "--out", tmp_path / "run", "--json"),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["results"]["comparison"]
    assert sum(row["failed"] for row in rows) >= 1
    assert any("diverged" in note for note in json.loads(done.stdout)["notes"])


@pytest.mark.slow
def test_a_search_looks_at_training_images_alone(gleanet: Gleanet, tmp_path: Path) -> None:
    done = gleanet(
        *("activations", "search", "resnet8", "--data", "digits", "--trials", "4", "--seeds", "2", "--epochs", "1", "--lr", "0.1"),
        *("--train-images", "300", "--validation", "0.2", "--out", tmp_path / "run", "--json"),
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["data"]["trained on"] == 240
    assert run["data"]["validated on"] == 60
    cells = [json.loads(path.read_text()) for path in (tmp_path / "run" / "cells").glob("*.json")]
    assert {cell["n"] for cell in cells} == {60}
    assert len(cells) == 4 + 2
    rows = run["results"]["comparison"]
    assert rows[0]["activation"] == run["results"]["best"]
    assert len(rows[0]["accuracies"]) == 2
    assert "beamish(alpha=1,beta=1)" in {row["activation"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "resnet8", "--data", "digits"), "--activations is missing"),
        (("compare", "resnet8", "--data", "digits", "--activations", "relu,tish"), "unknown activation 'tish'"),
        (("compare", "resnet8", "--data", "digits", "--activations", "relu", "--baseline", "mish"), "--baseline mish is not among"),
        (("compare", "resnet8", "--data", "digits", "--activations", "relu", "--seeds", "0"), "--seeds is 0"),
        (("search", "resnet8", "--data", "digits", "--spread", "0.5"), "--spread is 0.5"),
        (("search", "resnet8", "--data", "digits", "--validation", "1"), "--validation is 1"),
        (("--functions", "mish(beta=2)"), "does not take 'beta'"),
    ],
)
def test_bad_input_is_one_line(gleanet: Gleanet, arguments: tuple[str, ...], message: str) -> None:
    done = gleanet("activations", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
