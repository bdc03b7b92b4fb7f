"""The examples of ``--help`` are done, as they stand, where that takes seconds; ``test_help.py`` parses them all."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gleanet as gn
from gleanet.cli.app import main
from gleanet.core.store import RunFolder
from gleanet.data import to_input
from gleanet.nn import architecture_of, set_architecture
from tests.cli.test_help import EXAMPLES
from tests.report.example import example_run

NOT_HERE = {  # beginnings of examples -> why they are only parsed
    "gleanet demo": "minutes: tests/packaging runs it from the wheel",
    "gleanet serve runs/demo": "goes on until Ctrl-C, or needs the browser's runtime: tests/web",
    "gleanet serve --setup": "downloads: tests/web/test_ortweb.py",
    "gleanet activations compare": "minutes of training: tests/cli/test_activations.py",
    "gleanet activations search": "minutes of training: tests/cli/test_activations.py",
    "gleanet papers reproduce": "minutes of training: tests/papers/test_reproduce.py",
    "gleanet frameworks setup": "downloads a gigabyte: tests/frameworks",
    "gleanet frameworks run": "needs an environment of its own: tests/frameworks",
    "gleanet frameworks report": "needs a comparison: tests/frameworks",
    "torchrun": "several processes: tests/cli/test_torchrun.py",
}
LONG_SWEEPS = ("gleanet sweep examples/activations.toml", "gleanet sweep examples/activations.toml --ray auto")
LONG = ("gleanet shrink", "gleanet train", "gleanet prune", "gleanet quantize", "gleanet measure")
# tests/cli/test_sweep.py, and test_sweep_cluster.py on Ray, run whole sweeps
LINES = [line for _, line in EXAMPLES if not line.startswith(tuple(NOT_HERE)) and line not in LONG_SWEEPS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name: an untrained network in runs/base, its files in runs/demo, plans."""
    here = tmp_path_factory.mktemp("examples")
    data = gn.load_data("digits")
    net = gn.build("resnet8", num_classes=10, seed=0).eval()
    shape = (3, *data.test.images.shape[2:])
    set_architecture(net, replace(architecture_of(net), classes=data.classes, input_shape=shape))
    for run in ("base", "demo", "one", "other"):
        (here / "runs" / run).mkdir(parents=True)
    gn.save(net, here / "runs/base/model.gleanet")
    images = to_input(data.train.images[:64], architecture_of(net).preprocess)
    for name in ("runs/demo/base.onnx", "runs/demo/model.onnx", "other.onnx"):
        gn.export_onnx(net, torch.zeros(1, *shape), here / name)
    labelled = [(images, data.train.labels[:64])]
    gn.quantize(
        here / "runs/demo/model.onnx", calibration=[images], evaluate=labelled, method="u8s8", max_drop=100, batches=(1,), memory=False
    )
    for run, kept in (("demo", 0.5), ("one", 0.5), ("other", 0.7)):
        gn.plan(net, torch.zeros(1, *shape), flops=kept).save(here / f"runs/{run}/plan.json")
    for run in ("demo", "one", "other"):
        RunFolder(here / "runs" / run).write(example_run())
    shutil.copytree(Path(__file__).parents[2] / "examples", here / "examples")
    return here


def done(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    code = main(shlex.split(line)[1:])
    shown = capfd.readouterr()
    assert code in (0, 3), shown.err  # 3: an untrained network may be below any bar
    assert shown.out.strip()
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(LONG)])
def test_an_example_works(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    done(line, folder, monkeypatch, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(LONG)])
def test_an_example_of_work_works(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    done(line, folder, monkeypatch, capfd)


def test_what_is_not_done_here_is_there() -> None:
    assert {line for _, line in EXAMPLES} >= set(LONG_SWEEPS)
    assert all(any(line.startswith(beginning) for _, line in EXAMPLES) for beginning in NOT_HERE)


def test_the_demo_refuses_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    assert main(["demo"]) == 2
    shown = capfd.readouterr()
    assert shown.err.startswith("gleanet: runs/demo already holds a run")
    assert shown.err.count("\n") == 1
