"""A network's answers on images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gleanet.core.errors import ModelError
from gleanet.core.lazy import Lazy, rows_at_once
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.data import ImageSet, to_input
from gleanet.nn.modes import mode
from gleanet.train.team import ALONE, Team


def predict(
    model: nn.Module,
    images: NDArray[np.uint8] | Lazy,
    preprocess: Preprocess,
    batch_size: int | None = None,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Logits of every image, in evaluation mode and without gradients; the network's mode is put back.

    Args:
        model: any classifier, on any device.
        images: uint8 [N, 3, H, W].
        preprocess: how pixels become its input.
        batch_size: images a call; None: see :func:`gleanet.core.lazy.rows_at_once`.
        progress: told about every batch.

    Returns:
        float32 [N, K].

    Raises:
        ModelError: the network does not accept these images.
    """
    device, size = device_of(model), batch_size or rows_at_once(images.shape[1:])
    parts = []
    try:
        with mode(model, training=False), torch.inference_mode(), progress.task("Evaluate", len(images), "images") as advance:
            for start in range(0, len(images), size):
                batch = torch.from_numpy(to_input(images[start : start + size], preprocess))
                logits = model(batch.to(device, memory_format=torch.channels_last))
                parts.append(logits.float().cpu().numpy())
                advance(len(batch))
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"the network does not accept images of shape {list(images.shape[1:])}: {first}") from error
    return np.concatenate(parts).astype(np.float32, copy=False)


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Fraction of images whose largest logit is the label's. logits [N, K], labels [N]."""
    return float(np.mean(logits.argmax(1) == labels))


def count_correct(model: nn.Module, images: ImageSet, preprocess: Preprocess, *, team: Team = ALONE, progress: Progress = SILENT) -> int:
    """How many images have their label for their largest logit; each process of the team looks at its share. See :func:`predict`."""
    own = range(team.rank * len(images) // team.size, (team.rank + 1) * len(images) // team.size)
    found = 0
    if own:
        # of a streamed set a slice would decode the whole share, and of one in memory a subset is a copy
        part = images if team.size == 1 else images.subset(np.arange(own.start, own.stop))
        found = int((predict(model, part.images, preprocess, progress=progress).argmax(1) == part.labels).sum())
    return int(team.total(torch.tensor([found])))


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU for a network without any."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
