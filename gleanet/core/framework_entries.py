"""The frozen records of a comparison of frameworks: what its ``run.json`` holds under ``results``.

Times in ms where the name says so, else in s; sizes in bytes.
"""

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from gleanet.core.errors import StoreError
from gleanet.core.records import Run

COMMAND = "frameworks run"
Records = TypeVar("Records")


@dataclass(frozen=True)
class Spread:
    """Median and 90th percentile of the calls of one round, or the medians of these over the rounds."""

    p50_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Calls:
    """Many calls of one kind: wall time and processor time of each, and the wall time of the very first."""

    wall: Spread
    cpu: Spread
    first_s: float


@dataclass(frozen=True)
class Round:
    """One process of one row. ``step`` is None where the framework only infers; ``memory`` is the largest resident size."""

    import_s: float
    build_s: float
    step: Calls | None
    inference: Calls
    memory: int


@dataclass(frozen=True)
class Check:
    """What an adapter's numbers are against the float64 reference.

    Attributes:
        dtype: float32, or float64 where float32 did not agree with any convention.
        ties: the framework's convention for equal cells of a max-pool window: first, all, even, or unknown.
        relu_at_zero: its derivative of ReLU at 0.
        gradient_error: max |a - b| / max |b| of the worst tensor, b under that convention, in ``dtype``.
        gradient_error_float32: the same in float32.
        worst: the tensor that it is.
        loss_error, logits_error: relative, of the first batch; of the logits max |a - b| / max |b|.
        losses: before each of the first steps.
        loss_drift: |loss - reference| of the last of these.
        loss_drift_float64: the same in float64, measured where float32 drifts or its gradients disagree.
        verdict: right, or what is wrong.
    """

    dtype: str
    logits_error: float
    verdict: str
    ties: str = ""
    relu_at_zero: float | None = None
    gradient_error: float | None = None
    gradient_error_float32: float | None = None
    worst: str = ""
    loss_error: float | None = None
    losses: tuple[float, ...] = ()
    loss_drift: float | None = None
    loss_drift_float64: float | None = None


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: a framework in one of its modes.

    Attributes:
        status: ok, wrong, failed, not installed, or waiting; waiting with a check: that of float32, which float64 is to decide about.
        reason: why it is not ok.
        max_relative_gradient_error: ``check.gradient_error``, where scripts look for it.
        cold_s: import, build and first step (or inference) with no compiled code left from earlier.
        bytes: disk space with everything it requires.
        place, inference_place: between which ranks its processor time is, as far as the rounds can tell.
        to_fastest, inference_to_fastest: 99 % interval of the ratio of its processor time to that of the fastest row; None for that row,
            and where there are too few rounds.
    """

    name: str
    title: str
    mode: str
    status: str = "waiting"
    reason: str = ""
    version: str = ""
    python: str = ""
    trains: bool = True
    max_relative_gradient_error: float | None = None
    check: Check | None = None
    lines: int | None = None
    tokens: int | None = None
    cold_s: float | None = None
    bytes: int | None = None
    rounds: tuple[Round, ...] = ()
    import_s: float | None = None
    build_s: float | None = None
    step: Calls | None = None
    inference: Calls | None = None
    memory: int | None = None
    cores_used: float | None = None
    place: tuple[int, int] | None = None
    inference_place: tuple[int, int] | None = None
    to_fastest: tuple[float, float] | None = None
    inference_to_fastest: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """What is printed: the title, with the mode where the framework has several."""
        return self.title if self.mode in ("default", "graph", "function") else f"{self.title}, {self.mode}"


@dataclass(frozen=True)
class Conclusion:
    """A conclusion of the paper beside ours: ``verdict`` is confirmed, refuted, or not testable here."""

    claim: str
    verdict: str
    evidence: str


@dataclass(frozen=True)
class Cell:
    """One attribute of one framework. ``source``: a page's address, ``measured``, or empty where none was found."""

    value: str
    source: str


@dataclass(frozen=True)
class Attributes:
    """``names``: key -> what is printed; ``frameworks``: title -> key -> cell."""

    names: dict[str, str]
    frameworks: dict[str, dict[str, Cell]]


def entries_of(run: Run) -> tuple[Entry, ...]:
    """The rows in a record.

    Raises:
        StoreError: this is the record of another command, or it cannot be read back.
    """
    return _read_back(run, "frameworks", tuple[Entry, ...])


def conclusions_of(run: Run) -> tuple[Conclusion, ...]:
    """The paper's conclusions with our verdicts; raises as :func:`entries_of`."""
    return _read_back(run, "conclusions", tuple[Conclusion, ...])


def attributes_of(run: Run) -> Attributes:
    """The attribute table of the record, empty where it has none; raises as :func:`entries_of`."""
    return _read_back(run, "attributes", Attributes) if "attributes" in run.results else Attributes({}, {})


def _read_back(run: Run, key: str, kind: type[Records]) -> Records:
    if run.command != COMMAND:
        raise StoreError(f"{run.id} is a run of `gleanet {run.command}`, not of `gleanet {COMMAND}`")
    try:
        return msgspec.convert(run.results.get(key, []), kind)
    except msgspec.ValidationError as error:
        raise StoreError(f"the {key} of {run.id} cannot be read back: {error}") from error
