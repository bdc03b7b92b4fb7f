"""What a command works on: a network, the data it is judged by, and the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gleanet.core.errors import ModelError, SettingsError
from gleanet.core.launch import launch
from gleanet.core.lazy import Array, Lazy
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.core.settings import Device, PruneSettings, ShrinkSettings, TrainSettings
from gleanet.data import USUAL_SIZE, Dataset, ImageSet, as_input, calibration, load, to_input
from gleanet.data.images import size_text
from gleanet.data.loader import AT_ONCE
from gleanet.nn import architecture_of, build, input_size, set_architecture
from gleanet.train.team import ALONE, Team

BATCH = 128
KEPT = 2**29  # bytes
RESERVE = 20_000  # where 2 % of the answers differ, the interval is then 1.96 sqrt(0.02 / 20,000) = 0.2 points to either side


@dataclass(frozen=True)
class Subject:
    """A network with its data; the network carries the data's classes and image size in its architecture record."""

    net: nn.Module
    data: Dataset
    device: torch.device

    @property
    def preprocess(self) -> Preprocess:
        return architecture_of(self.net).preprocess

    @property
    def example(self) -> torch.Tensor:
        return torch.zeros(1, *self.data.test.images.shape[1:], device=self.device)

    def inputs(self, images: ImageSet) -> NDArray[np.float32] | Lazy:
        """Images as the network takes them, float32 [N, 3, H, W]; many large ones are computed as they are asked for."""
        return as_input(images, self.preprocess)

    def batches(self, images: ImageSet) -> list[torch.Tensor]:
        """The same in batches on the device."""
        return [x for x, _ in self.labelled(images)]

    def labelled(self, images: ImageSet) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same in batches on the device, each with its labels int64 [B]."""
        return [
            (torch.from_numpy(to_input(part.images[:], self.preprocess)).to(self.device), torch.from_numpy(part.labels).to(self.device))
            for part in in_batches(images)
        ]

    def calibration(self, images: ImageSet, criterion: str | None) -> list[object]:
        """Batches for choosing channels: with labels for the criterion that looks at them, and for no other."""
        return [*(self.labelled(images) if criterion == "taylor" else self.batches(images))]


def in_batches(images: ImageSet, size: int = BATCH) -> Iterator[ImageSet]:
    """Consecutive parts of at most ``size`` images."""
    for start in range(0, len(images), size):
        yield images.subset(np.arange(start, min(start + size, len(images))))


def judging(images: ImageSet, taken: Callable[[ImageSet], Array], look: int) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """Batches of images with labels, as an exported file takes them (``taken``), for those who compare methods on ``look`` images at a
    time and keep them: where that would take much memory, the images of a look are computed as they are asked for."""
    light = isinstance(images.images, np.ndarray) and 4 * images.images.size <= AT_ONCE
    for part in in_batches(images, BATCH if light else look):
        yield taken(part), part.labels


def subject(
    settings: ShrinkSettings | TrainSettings | PruneSettings, *, activation: str | None = None, team: Team = ALONE, progress: Progress
) -> Subject:
    """Load the data, build the network for its classes, and put it on the device. The first of several processes goes before the others,
    which then find what it has downloaded.

    Raises:
        DataError, ModelError, CheckpointError: see :func:`gleanet.data.load` and :func:`gleanet.nn.build`.
        SettingsError: a GPU is asked for and there is none, or another image size than data has that cannot be cut to it.
    """
    where, size = pick_device(settings.device), settings.image_size
    if team.rank > 0:
        team.any(True)
    dataset = load_for(settings.model, settings.weights, settings.data, image_size=size, progress=progress)
    if team.rank == 0:
        team.any(True)
    if size is not None and dataset.test.images.shape[2:] != (size, size):
        given = f"the images of {dataset.name} are {size_text(dataset.test.images)}"
        raise SettingsError(f"--image-size is {size}, {given}: only images in folders, a file each, are cut to another size")
    return Subject(network(settings.model, settings.weights, dataset, activation, settings.seed).to(where), dataset, where)


def load_for(model: str, weights: str | None, data: str, *, image_size: int | None = None, progress: Progress = SILENT) -> Dataset:
    """A data set; a folder that must be streamed is cut to the size that the network was made for. Raises as :func:`subject`."""
    return load(data, image_size=image_size, usual_size=input_size(model, weights) or USUAL_SIZE, progress=progress)


def network(model: str, weights: str | None, dataset: Dataset, activation: str | None, seed: int) -> nn.Module:
    """Build a network for the classes and the image size of a data set, which its architecture record then holds.

    Raises:
        ModelError, CheckpointError: see :func:`gleanet.nn.build`; or it was made for other classes.
    """
    classes = len(dataset.classes)
    net = build(model, weights=weights, num_classes=classes, activation=activation, seed=seed)
    shape = (3, int(dataset.test.images.shape[2]), int(dataset.test.images.shape[3]))
    record = architecture_of(net)
    if record.classes and record.classes != dataset.classes:
        theirs, ours = ", ".join(record.classes[:3]), ", ".join(dataset.classes[:3])
        raise ModelError(
            f"{model} tells {theirs}, ... apart, {dataset.name} has {ours}, ...: use the data it was trained for", slug="model-classes"
        )
    set_architecture(net, replace(record, classes=dataset.classes, input_shape=shape))
    return net


def pick_device(device: Device) -> torch.device:
    """ "auto" takes a GPU where there is one.

    Raises:
        SettingsError: "cuda" without one, or an unknown name.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"--device is {device!r}: choose auto, cpu or cuda")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise SettingsError("--device cuda: torch finds no CUDA GPU here; use --device cpu, or see `gleanet doctor`")
    together = launch()
    return torch.device("cpu") if device == "cpu" or not available else torch.device("cuda", together.local_rank if together else 0)


@dataclass(frozen=True)
class Samples:
    """Training images with different jobs, disjoint so that no number is measured on what it was tuned on."""

    calibration: ImageSet
    selection: ImageSet
    reserve: ImageSet | None  # looked at only for methods on which the selection does not decide; None where no image is left


def samples(data: Dataset, calibrate: int, select: int, seed: int) -> Samples:
    """Draw images for calibration (unlabelled use) and for choosing among methods, from the training set; the test set stays untouched.
    Streamed ones are decoded once, as far as they take at most half a gigabyte.

    Where the training set is small, calibration takes at most half of it.
    """
    total = len(data.train)
    first = min(calibrate, max(1, total // 2))
    drawn = calibration(data.train, min(total, first + select + RESERVE), seed)
    cut = min(first, len(drawn) - 1) if len(drawn) > 1 else 1
    end = min(cut + select, len(drawn))
    chosen = np.arange(cut, end) if end > cut else np.arange(cut)
    reserve = drawn.subset(np.arange(end, len(drawn))) if end < len(drawn) else None
    first_part, second = (drawn.subset(rows).in_memory(KEPT) for rows in (np.arange(cut), chosen))
    return Samples(first_part, second, reserve)
