"""The settings of every command: frozen, checked when made, stored with every result. Torch-free, so that the command line stays fast."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal

import msgspec

from gleanet.core.errors import SettingsError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bf16"]
Allocation = Literal["uniform", "global", "latency"]
Bound = Literal["flops", "params", "bytes", "latency"]
Recycle = Literal["features", "similarity", "weights", "none"]
Input = Literal["float", "uint8"]

MOST_SIDE = 4096

BOUNDS: dict[Bound, str] = {
    "flops": "the fraction of the MACs to keep, in (0, 1]",
    "params": "the fraction of the parameters to keep, in (0, 1]",
    "bytes": "the fraction of the 8-bit file to keep, in (0, 1], or its size in bytes, above 1",
    "latency": "the fraction of the measured float latency to keep, in (0, 1]",
}


@dataclass(frozen=True)
class Training:
    """How to train or fine-tune. ``lr`` None: from a range test. ``distill``: weight of the teacher; None: it depends on the teacher.

    ``precision`` None: bf16 on GPUs that have it, else float32.
    """

    epochs: float = 0.0
    lr: float | None = None
    batch_size: int = 128
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    distill: float | None = None
    temperature: float = 4.0
    precision: Precision | None = None


@dataclass(frozen=True)
class Pruning:
    """What to remove, down to one of the budgets of ``BOUNDS`` (half the MACs). Else None: the best measured choice for what is at hand."""

    flops: float | None = None
    criterion: str | None = None
    allocation: Allocation | None = None
    recycle: Recycle | None = None
    align: int = 8
    floor: float = 0.1
    residual: bool = False
    calibration: int = 1024
    params: float | None = None
    bytes: float | None = None
    latency: float | None = None

    @property
    def budget(self) -> tuple[Bound, float]:
        return one_budget(flops=self.flops, params=self.params, bytes=self.bytes, latency=self.latency)


@dataclass(frozen=True)
class Quantizing:
    """Which methods to try, and how many points of accuracy that may cost; below that bar the exit code is 3. None: no bar."""

    method: str = "auto"
    max_drop: float | None = None
    calibration: int = 512
    selection: int = 2000


@dataclass(frozen=True)
class TrainSettings:
    """All that ``gleanet train`` was told."""

    model: str
    data: str
    image_size: int | None = None
    weights: str | None = None
    activation: str | None = None
    seed: int = 0
    threads: int = 1
    device: Device = "auto"
    training: Training = Training(epochs=10, weight_decay=5e-4, distill=0)

    def __post_init__(self) -> None:
        check_common(self.seed, self.threads)
        check_image_size(self.image_size)
        check_training(self.training)
        _within("--epochs", self.training.epochs, self.training.epochs > 0, "above 0")


@dataclass(frozen=True)
class PruneSettings:
    """All that ``gleanet prune`` was told. ``in_training``: FCR while training goes on, instead of one-shot and recovery.

    ``plan``: a file with a plan that is carried out as it is, instead of choosing channels.
    """

    model: str
    data: str
    image_size: int | None = None
    weights: str | None = None
    plan: str | None = None
    in_training: bool = False
    seed: int = 0
    threads: int = 1
    device: Device = "auto"
    pruning: Pruning = Pruning()
    training: Training = Training(epochs=2)  # as the command has it

    def __post_init__(self) -> None:
        check_common(self.seed, self.threads)
        check_image_size(self.image_size)
        check_pruning(self.pruning, self.training)
        if self.in_training and self.training.epochs == 0:
            raise SettingsError("--in-training prunes while training goes on: it needs --epochs above 0")
        if self.plan is not None and self.in_training:
            raise SettingsError("--plan names the channels, --in-training looks for them: choose one")
        if self.plan is not None and (self.pruning.criterion or self.pruning.allocation):
            raise SettingsError("--plan names the channels already: leave out --criterion and --allocation")
        if self.in_training and (self.pruning.budget[0] != "flops" or self.pruning.allocation == "latency"):
            raise SettingsError("--in-training prunes to --flops: give that budget, and --allocation uniform or global")
        if self.in_training and self.pruning.recycle == "similarity":
            raise SettingsError("--recycle similarity is one-shot: with --in-training choose features, weights or none")


@dataclass(frozen=True)
class QuantizeSettings:
    """All that ``gleanet quantize`` was told. ``repair``: None leaves methods that are named as they are, and repairs otherwise."""

    model: str
    data: str | None
    random_data: bool = False
    runtime: str = "onnxruntime"
    repair: bool | None = None
    sensitivity: bool = False
    seed: int = 0
    threads: int = 1
    quantizing: Quantizing = Quantizing()

    def __post_init__(self) -> None:
        check_common(self.seed, self.threads)
        if (self.data is None) != self.random_data:
            raise SettingsError("quantize needs one of --data D (calibration, accuracy) and --random-data (structure and timing only)")


@dataclass(frozen=True)
class ShrinkSettings:
    """All that ``gleanet shrink`` was told; ``--resume`` reads it back from the run."""

    model: str
    data: str
    image_size: int | None = None
    weights: str | None = None
    activation: str | None = None
    fair_baseline: bool = False
    input: Input = "float"
    seed: int = 0
    threads: int = 1
    device: Device = "auto"
    pruning: Pruning = Pruning()
    training: Training = Training()
    quantizing: Quantizing = Quantizing()

    def __post_init__(self) -> None:
        check_common(self.seed, self.threads)
        check_image_size(self.image_size)
        check_pruning(self.pruning, self.training)
        _within("--max-drop", self.quantizing.max_drop, (self.quantizing.max_drop or 0) >= 0, "points of accuracy, 0 or more")
        if self.fair_baseline and self.training.epochs == 0:
            raise SettingsError("--fair-baseline fine-tunes the given network as long as the pruned one: it needs --epochs above 0")


def check_common(seed: int, threads: int) -> None:
    """Raise SettingsError on a seed or number of threads that no command can use."""
    _within("--seed", seed, 0 <= seed < 2**31, "0 to 2147483647")
    _within("--threads", threads, threads >= 1, "at least 1")


def check_image_size(size: int | None) -> None:
    """Raise SettingsError on a side that no network takes."""
    _within("--image-size", size, size is None or 1 <= size <= MOST_SIDE, f"1 to {MOST_SIDE} pixels")


def check_training(training: Training) -> None:
    """Raise SettingsError on a number that no training can use, before anything is made of it. NaN is none of them."""
    t = training
    _within("--epochs", t.epochs, 0 <= t.epochs < math.inf, "0 or more")
    _within("--lr", t.lr, t.lr is None or 0 < t.lr < math.inf, "above 0, or left out for a range test")
    _within("--batch-size", t.batch_size, t.batch_size >= 1, "at least 1")
    _within("--weight-decay", t.weight_decay, 0 <= t.weight_decay < math.inf, "0 or more")
    _within("--label-smoothing", t.label_smoothing, 0 <= t.label_smoothing < 1, "in [0, 1)")
    _within("--distill", t.distill, t.distill is None or 0 <= t.distill <= 1, "in [0, 1]")
    _within("--precision", t.precision, t.precision in (None, "float32", "bf16"), "float32 or bf16")


def check_pruning(pruning: Pruning, training: Training) -> None:
    """Raise SettingsError on a budget, number of images or of epochs that cannot be."""
    bound, target = pruning.budget
    _within(f"--{bound}", target, in_range(bound, target), BOUNDS[bound])
    _within("--calibration", pruning.calibration, pruning.calibration > 0, "a number of images above 0")
    check_training(training)


def one_budget(**targets: float | None) -> tuple[Bound, float]:
    """The one budget that is given, half the MACs when none is; the range of its target is not checked here.

    Raises:
        SettingsError: more than one.
    """
    given: list[tuple[Bound, float]] = [(name, value) for name in BOUNDS if (value := targets.get(name)) is not None]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(name for name, _ in given)} are given together: choose one budget of {', '.join(BOUNDS)}")
    return given[0] if given else ("flops", 0.5)


def in_range(bound: Bound, target: float) -> bool:
    """Whether a target is one that ``BOUNDS`` describes."""
    return 0 < target <= 1 or (bound == "bytes" and target > 1)


def plain(settings: object) -> dict[str, Any]:
    """Settings as JSON values, for a run's record; the same whether they were just made or read back (``0`` for a float is ``0.0``)."""
    given: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
    exact: Any = msgspec.convert(given, type(settings))
    return asdict(exact)


def command_line(command: str, settings: Mapping[str, Any]) -> list[str] | None:
    """The arguments that give a command these settings: what differs from its defaults. None where they are not this command's settings."""
    kind = _KINDS.get(command)
    if kind is None:
        return None
    try:
        given = msgspec.convert(settings, kind)
    except (msgspec.ValidationError, SettingsError):
        return None
    return [command, given.model, *_flags(given, kind(model=given.model, data="digits"))]


def _flags(given: Any, default: Any) -> Iterator[str]:
    for item in fields(given):
        value, plain_value = getattr(given, item.name), getattr(default, item.name)
        if is_dataclass(value):
            yield from _flags(value, plain_value)
        elif item.name == "data" and value is not None:
            yield from ("--data", str(value))
        elif item.name not in _NOT_OPTIONS and value != plain_value:
            yield f"--{'no-' if value is False else ''}{item.name.replace('_', '-')}"
            if not isinstance(value, bool):
                yield f"{value:.12g}" if isinstance(value, float) else str(value)


def _within(name: str, value: object, ok: bool, rule: str) -> None:
    if not ok:
        raise SettingsError(f"{name} is {value}: it must be {rule}")


_KINDS: dict[str, Any] = {"shrink": ShrinkSettings, "train": TrainSettings, "prune": PruneSettings, "quantize": QuantizeSettings}
_NOT_OPTIONS = ("model", "data", "temperature")
