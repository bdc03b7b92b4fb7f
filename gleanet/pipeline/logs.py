"""Learning curves and results told to TensorBoard or MLflow while a run goes on: ``--log tensorboard:DIR``, ``--log mlflow:URI``.

A log is a listener beside the run: what cannot be told is said once, and the work goes on without it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from gleanet.core.errors import SettingsError
from gleanet.core.progress import Advance, Progress
from gleanet.core.records import CurvePoint, Run
from gleanet.report import model_card

EXPERIMENT = "gleanet"
_FILES = ("report.html", "README.md", "run.json")
_LONGEST = 500  # characters of a parameter's value that every MLflow server takes
_DATABASE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:")  # the addresses that MLflow opens through SQLAlchemy, itself
_FOR_DATABASES = ("sqlalchemy", "alembic")  # mlflow-skinny brings neither


class Log(Protocol):
    """Where figures go. Each call may raise whatever its library raises."""

    def figure(self, name: str, value: float, step: int) -> None:
        """One value of a curve, at an optimizer step."""

    def result(self, run: Run) -> None:
        """The finished run: settings, final figures, card."""

    def close(self, status: str) -> None:
        """The end: ``FINISHED``, ``FAILED`` or ``KILLED``."""


class _TensorBoard:
    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self._writer: Any = SummaryWriter(folder)

    def figure(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def result(self, run: Run) -> None:
        for name, value in figures(run).items():
            self._writer.add_scalar(name, value, 0)
        self._writer.add_text("card", model_card(run).split("---\n", 2)[-1])

    def close(self, status: str) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, uri: str) -> None:
        # It would report its use to its makers; it reads these when it is imported.
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        from mlflow.tracking import MlflowClient  # takes seconds

        # Of itself it tries for minutes, in silence: a run must not wait so long for a server that is gone, nor a user for a wrong address.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._client: Any = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        known = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        self._run: str = self._client.create_run(known).info.run_id

    def figure(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(self._run, _plain(name), value, step=step)

    def result(self, run: Run) -> None:
        self._client.set_tag(self._run, "mlflow.runName", run.id)
        self._client.set_tag(self._run, "gleanet.command", run.command)
        for name, setting in flat(run.settings).items():
            self._client.log_param(self._run, _plain(name), setting[:_LONGEST])
        for name, value in figures(run).items():
            self._client.log_metric(self._run, _plain(name), value, step=0)
        folder = Path(str(run.results.get("folder", run.id)))
        for path in (folder / name for name in _FILES):
            if path.is_file():
                self._client.log_artifact(self._run, str(path))

    def close(self, status: str) -> None:
        self._client.set_terminated(self._run, status=status)


_KINDS: dict[str, tuple[str, Callable[[str], Log]]] = {"tensorboard": ("tensorboard", _TensorBoard), "mlflow": ("mlflow", _MLflow)}


class Listening:
    """Progress that is passed on, and points of learning curves that go to the logs (:class:`gleanet.core.progress.Listener`)."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._logs: dict[str, Log] = {}

    def add(self, spec: str, log: Log) -> None:
        """One more log, by the words that asked for it."""
        self._logs[spec] = log

    def task(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return self._progress.task(what, total, unit)

    def say(self, line: str) -> None:
        self._progress.say(line)

    def point(self, curve: str, point: CurvePoint) -> None:
        """One more point of a learning curve."""
        values = {"loss": point.loss, "learning rate": point.lr, "accuracy": point.accuracy}
        for name, value in values.items():
            if value is not None:
                self._each(lambda log, name=name, value=value: log.figure(f"{curve}/{name}", value, point.step))  # type: ignore[misc]

    def finished(self, run: Run) -> None:
        """Tell the logs what came out."""
        self._each(lambda log: log.result(run))

    def close(self, status: str) -> None:
        self._each(lambda log: log.close(status))

    def _each(self, tell: Callable[[Log], None]) -> None:
        for spec, log in list(self._logs.items()):
            try:
                tell(log)
            except Exception as error:  # a full disk, a server that is gone, anything: the work must not end for the sake of its log
                del self._logs[spec]
                self.say(f"--log {spec} stopped: {_line(error)}")


@contextmanager
def logged(specs: Sequence[str], progress: Progress) -> Iterator[Listening]:
    """Open the logs for the length of a run.

    Args:
        specs: ``tensorboard:DIR`` or ``mlflow:URI``, any number.

    Raises:
        SettingsError: another kind, a package that is not installed, or a log that cannot be opened.
    """
    listening = Listening(progress)
    try:
        for spec in specs:
            listening.add(spec, _open(spec))
        yield listening
    except BaseException as error:
        listening.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    listening.close("FINISHED")


def figures(run: Run) -> dict[str, float]:
    """The final figures of a run by name: ``quantized/accuracy``, ``quantized/p50 ms at batch 1``, ..."""
    found: dict[str, float] = {}
    for row in run.rows:
        measured = row.measured
        found |= {f"{row.role}/MACs": measured.macs, f"{row.role}/bytes": measured.bytes}
        if measured.accuracy is not None:
            found[f"{row.role}/accuracy"] = measured.accuracy.value
        found |= {f"{row.role}/p50 ms at batch {latency.batch}": latency.p50_ms for latency in measured.latencies}
    accuracy = run.results.get("accuracy")
    if isinstance(accuracy, dict) and isinstance(accuracy.get("value"), float):
        found["accuracy"] = accuracy["value"]
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as ``training.epochs`` -> ``"3.0"``."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return found


def _open(spec: str) -> Log:
    kind, _, where = spec.partition(":")
    if kind not in _KINDS or not where:
        raise SettingsError(f"--log is {spec!r}: give tensorboard:DIR or mlflow:URI, for instance --log tensorboard:logs")
    package, make = _KINDS[kind]
    if find_spec(package) is None:
        raise SettingsError(f"--log {kind} needs a package that is not installed: pip install 'gleanet[{kind}]'")
    missing = [name for name in _FOR_DATABASES if kind == "mlflow" and _DATABASE.match(where) and find_spec(name) is None]
    if missing:
        raise SettingsError(f"--log {spec} is a database, for which mlflow-skinny needs more: pip install {' '.join(missing)}")
    try:
        return make(where)
    except Exception as error:  # whatever the library raises on a wrong address or a folder that cannot be written
        raise SettingsError(f"--log {spec} cannot be opened: {_line(error)}") from error


def _plain(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
