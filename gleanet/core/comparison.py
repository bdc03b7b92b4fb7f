"""What ``gleanet activations compare`` and ``search`` are told; records of a training (a *cell*), of an activation, of a function."""

from dataclasses import dataclass

from gleanet.core.errors import SettingsError
from gleanet.core.records import Curve, Latency
from gleanet.core.settings import Device, Training, check_common
from gleanet.core.stats import Interval

TRAINING = Training(epochs=10, weight_decay=5e-4, distill=0)


@dataclass(frozen=True)
class CompareSettings:
    """All that ``gleanet activations compare`` was told. ``activations`` are names with factors; ``seed`` is the first of ``seeds``.

    ``train_images``: train on so many of the images, balanced over the classes and the same for all; None: all.
    """

    model: str
    data: str
    activations: tuple[str, ...]
    baseline: str
    weights: str | None = None
    seeds: int = 3
    train_images: int | None = None
    seed: int = 0
    threads: int = 1
    device: Device = "auto"
    training: Training = TRAINING

    def __post_init__(self) -> None:
        _check(self.seeds, self.train_images, self.seed, self.threads, self.training)
        if self.baseline not in self.activations:
            raise SettingsError(f"--baseline {self.baseline} is not among --activations {','.join(self.activations)}: add it there")


@dataclass(frozen=True)
class SearchSettings:
    """All that ``gleanet activations search`` was told.

    ``trials`` pairs (alpha, beta) are drawn between 1/``spread`` and ``spread``; the best third goes on with ``seeds`` seeds.
    ``validation`` is the fraction of the training images that judges them; the test images are not looked at.
    """

    model: str
    data: str
    weights: str | None = None
    trials: int = 9
    seeds: int = 3
    spread: float = 4.0
    validation: float = 0.1
    train_images: int | None = None
    seed: int = 0
    threads: int = 1
    device: Device = "auto"
    training: Training = TRAINING

    def __post_init__(self) -> None:
        _check(self.seeds, self.train_images, self.seed, self.threads, self.training)
        if self.trials < 2:
            raise SettingsError(f"--trials is {self.trials}: it must be at least 2, Mish and one other")
        if not 1 < self.spread <= 100:
            raise SettingsError(f"--spread is {self.spread}: it must be above 1 and at most 100")
        if not 0 < self.validation < 1:
            raise SettingsError(f"--validation is {self.validation}: it must be a fraction of the training images between 0 and 1")


@dataclass(frozen=True)
class Cell:
    """One training: an activation and a seed.

    Attributes:
        correct, n: right answers on the images that judge it.
        seconds: time of the training steps, were they all taken in the sitting that finished it.
        lr: peak learning rate.
        curve: training loss, and accuracy after every epoch on a part of the judging images.
        trouble: why there is no result (the training diverged), else empty.
    """

    activation: str
    seed: int
    correct: int
    n: int
    seconds: float
    lr: float
    curve: Curve
    trouble: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / self.n


@dataclass(frozen=True)
class Compared:
    """One activation: accuracy over its seeds with the 95 % interval of their mean (Student), and the paired difference to the baseline.

    ``gain`` is of the initialisation; ``seconds`` the median of its trainings; ``failed`` counts those that diverged.
    """

    activation: str
    accuracies: tuple[float, ...]
    mean: Interval | None
    difference: Interval | None
    seconds: float | None
    gain: float
    failed: int = 0
    latencies: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class FunctionShape:
    """An activation function in numbers: points of it and of its derivative, its minimum (x, f(x)), area below the boundary, and gain."""

    name: str
    formula: str
    derivative: str
    reference: str
    minimum: tuple[float, float] | None
    area: float
    gain: float
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    slope: tuple[float, ...] = ()


def _check(seeds: int, train_images: int | None, seed: int, threads: int, training: Training) -> None:
    check_common(seed, threads)
    if seeds < 1:
        raise SettingsError(f"--seeds is {seeds}: it must be at least 1")
    if train_images is not None and train_images < 1:
        raise SettingsError(f"--train-images is {train_images}: it must be at least 1")
    if not training.epochs > 0:
        raise SettingsError(f"--epochs is {training.epochs}: it must be above 0")
