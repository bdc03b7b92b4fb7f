"""What TensorBoard and MLflow are told is what the run's record says, read back with their own readers."""

import importlib
import math
import socket
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gleanet.cli.app import main
from gleanet.core.errors import SettingsError
from gleanet.core.progress import SILENT
from gleanet.core.records import CurvePoint, Preprocess
from gleanet.pipeline.logs import EXPERIMENT, figures, flat, logged
from gleanet.train import Recipe, fit
from tests.report.example import example_run
from tests.train.tiny import images, net

POINTS = (CurvePoint(0.5, 10, 0.1, 2.0), CurvePoint(1.0, 20, 0.05, 1.0, accuracy=0.75))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder is a store that needs no database
    return tracking.MlflowClient(tracking_uri=f"file:{tmp_path / 'store'}")


def test_tensorboard_has_the_curve_and_the_final_figures(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = example_run()
    with logged([f"tensorboard:{tmp_path}"], SILENT) as listening:
        for point in POINTS:
            listening.point("Train", point)
        listening.finished(run)
    found = reader.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("Train/loss")] == [(10, 2.0), (20, 1.0)]
    assert [(event.step, event.value) for event in found.Scalars("Train/accuracy")] == [(20, 0.75)]
    for name, value in figures(run).items():
        (event,) = found.Scalars(name)
        assert math.isclose(event.value, value, rel_tol=1e-6)
    assert "card/text_summary" in found.Tags()["tensors"]


def test_mlflow_has_curve_settings_figures_and_status(client: Any, tmp_path: Path) -> None:
    run = example_run()
    with logged([f"mlflow:file:{tmp_path / 'store'}"], SILENT) as listening:
        for point in POINTS:
            listening.point("Train mynet:net", point)
        listening.finished(run)
    (told,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert told.info.status == "FINISHED"
    history = client.get_metric_history(told.info.run_id, "Train mynet_net/loss")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.0), (20, 1.0)]
    assert told.data.params == {name: value[:500] for name, value in flat(run.settings).items()}
    assert {name: told.data.metrics[name] for name in figures(run)} == pytest.approx(figures(run))


def test_an_error_and_an_interruption_are_told(client: Any, tmp_path: Path) -> None:
    for kind, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(kind), logged([f"mlflow:file:{tmp_path / 'store'}"], SILENT):
            raise kind
        runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        assert runs[0].info.status == status


def test_a_log_that_breaks_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    said: list[str] = []

    class Hearing:
        task = SILENT.task

        def say(self, line: str) -> None:
            said.append(line)

    with logged([f"tensorboard:{tmp_path}"], Hearing()) as listening:
        listening.point("Train", CurvePoint(1.0, 1, 0.1, "not a number"))  # type: ignore[arg-type]
        listening.point("Train", POINTS[0])
        listening.finished(example_run())
    assert len(said) == 1
    assert said[0].startswith(f"--log tensorboard:{tmp_path} stopped: ")


@pytest.mark.parametrize("spec", ["tensorboard", "tensorboard:", "wandb:x", ""])
def test_another_kind_of_log_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"--log tensorboard:logs"), logged([spec], SILENT):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be opened") as refused, logged([f"tensorboard:{tmp_path / 'file' / 'logs'}"], SILENT):
        pass
    assert "\n" not in str(refused.value)


def test_training_tells_each_point_of_its_curve_as_it_comes() -> None:
    told: list[tuple[str, CurvePoint]] = []

    class Heard:
        task, say = SILENT.task, SILENT.say

        def point(self, curve: str, point: CurvePoint) -> None:
            told.append((curve, point))

    recipe, pixels = Recipe(epochs=2, batch_size=32, lr=0.05), Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    _, curve = fit(net(), images(), recipe, preprocess=pixels, seed=0, evaluate=images(30, 1), name="Recover", progress=Heard())
    assert told == [("Recover", point) for point in curve.points]
    assert len(told) > 2


def test_a_second_log_that_cannot_be_opened_ends_the_first(client: Any, tmp_path: Path) -> None:
    store = f"mlflow:file:{tmp_path / 'store'}"
    with pytest.raises(SettingsError), logged([store, "wandb:x"], SILENT):
        pass
    (told,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert told.info.status == "FAILED"


@pytest.mark.parametrize("absent", [("sqlalchemy",), ("sqlalchemy", "alembic")])
def test_a_database_that_mlflow_cannot_open_is_refused_before_anything_is_written(
    absent: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    for name in ("sqlalchemy", "alembic"):
        monkeypatch.setitem(sys.modules, name, None if name in absent else ModuleType(name))  # None: as if it were not installed
        if name not in absent:
            monkeypatch.setattr(sys.modules[name], "__spec__", ModuleSpec(name, None))
    monkeypatch.chdir(tmp_path)
    spec = f"mlflow:sqlite:///{tmp_path / 'mlflow.db'}"
    assert main(["train", "resnet8", "--data", "digits", "--epochs", "1", "--out", "run", "--log", spec]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"gleanet: --log {spec} is a database, for which mlflow-skinny needs more: pip install {' '.join(absent)}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # those of the migrations that make the database
def test_a_database_has_the_curve_and_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with logged([f"mlflow:{uri}"], SILENT) as listening:
        for point in POINTS:
            listening.point("Train", point)
        listening.finished(example_run())
    client = importlib.import_module("mlflow.tracking").MlflowClient(tracking_uri=uri)
    (told,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert told.info.status == "FINISHED"
    history = client.get_metric_history(told.info.run_id, "Train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.0), (20, 1.0)]


@pytest.mark.slow
def test_a_server_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as taken:  # bound, never listening: nobody else takes the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        spec = f"mlflow:http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match="cannot be opened") as refused, logged([spec], SILENT):
            pass
    assert "\n" not in str(refused.value)
