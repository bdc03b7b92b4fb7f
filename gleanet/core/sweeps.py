"""What ``gleanet sweep`` is told, and the records of its cells and combinations: ``sweep.json``."""

from dataclasses import dataclass, field

from gleanet.core.errors import SettingsError
from gleanet.core.records import FORMAT_VERSION, Accuracy, Latency
from gleanet.core.stats import Interval

Value = bool | int | float | str
FINISHED = ("done", "below bar")
MAX_CELLS = 10_000
SWEEP, SWEEP_RECORD = "sweep", "sweep.json"  # the command, and what it writes


@dataclass(frozen=True)
class Resources:
    """What one cell takes: ``cpus`` threads of the training, ``gpus`` GPUs or a fraction of one; with 0 it sees none."""

    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Choice:
    """One value of an axis of the grid: what it is called, and the options that it sets."""

    label: str
    options: dict[str, Value]


@dataclass(frozen=True)
class SweepSettings:
    """A grid of one command's options.

    Attributes:
        command: train, shrink, prune or quantize.
        options: what all cells share.
        grid: axis -> its choices; a combination takes one of each.
        seeds: every combination is run with each of them.
        baseline: axis -> label: the combination that differences refer to has these, and its other labels in common with what is compared.
        retries: how often a cell that failed or was lost is tried again.
    """

    command: str
    options: dict[str, Value] = field(default_factory=dict)
    grid: dict[str, tuple[Choice, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    baseline: dict[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    retries: int = 2

    def __post_init__(self) -> None:
        if not 1 <= len(self.seeds) == len(set(self.seeds)) or not all(0 <= seed < 2**31 for seed in self.seeds):
            raise SettingsError(f"seeds is {list(self.seeds)}: it must be a number of seeds, or different seeds of 0 to 2147483647")
        if not 0 <= self.retries <= 100:
            raise SettingsError(f"retries is {self.retries}: it must be 0 to 100")
        if not 1 <= self.resources.cpus <= 1024:
            raise SettingsError(f"cpus is {self.resources.cpus}: it must be 1 to 1024")
        gpus = self.resources.gpus
        if not 0 <= gpus <= 64 or (gpus > 1 and gpus != int(gpus)):
            raise SettingsError(f"gpus is {gpus:g}: it must be a whole number, or a fraction of one")


@dataclass(frozen=True)
class CellRecord:
    """One run of the command. ``status`` is done, below bar, failed or waiting; the figures are those of its run, where it has them.

    ``seconds`` and ``latencies`` are times; all else is the same wherever the cell was run.
    """

    name: str
    labels: dict[str, str]
    seed: int
    status: str
    error: str = ""
    seconds: float = 0.0
    accuracy: Accuracy | None = None
    macs: int | None = None
    bytes: int | None = None
    latencies: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class Combination:
    """One combination over its seeds.

    Attributes:
        accuracies: of the seeds that have one, fractions, in the order of the seeds.
        mean: over seeds with Student's 95 % interval; of a single seed, its accuracy with Wilson's over the test images.
        difference: to the baseline with the same seeds; None for the baseline itself.
        macs, bytes, seconds: medians over seeds. ``p50_ms``: batch -> median over seeds.
        waiting: seeds that were not run yet.
        failed: (seed, error) of those that failed.
    """

    labels: dict[str, str]
    accuracies: tuple[float, ...]
    mean: Interval | None
    difference: Interval | None
    baseline: bool
    macs: float | None
    bytes: float | None
    p50_ms: dict[str, float]
    seconds: float | None
    waiting: int
    failed: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class SweepRecord:
    """The whole of ``sweep.json``."""

    settings: SweepSettings
    cells: tuple[CellRecord, ...]
    combinations: tuple[Combination, ...]
    format_version: int = FORMAT_VERSION
