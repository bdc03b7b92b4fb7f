"""The images that methods are judged on: a first look for all of them, and more for those whose interval does not decide yet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError, SettingsError
from gleanet.core.host import cores
from gleanet.core.lazy import Array
from gleanet.core.progress import SILENT, Progress
from gleanet.measure.accuracy import predict
from gleanet.measure.runtimes import Candidate
from gleanet.quantize.prepare import labelled


@dataclass(frozen=True)
class Block:
    """Images [N, ...], labels [N] int64, and the logits [N, K] float32 of the float model."""

    images: Array
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


class Evaluation:
    """Blocks of about ``look`` images, taken from the stream, and predicted by the float model, only when they are asked for."""

    def __init__(self, source: Path, batches: Iterable[Any], look: int, progress: Progress = SILENT) -> None:
        self._source, self._stream, self._look, self._progress = source, iter(batches), look, progress
        self._blocks: list[Block] = []
        self.block(0)  # a mistake in the images or labels shows now

    @property
    def first(self) -> Block:
        return self._blocks[0]

    def block(self, index: int) -> Block | None:
        """The block with this number, from 0; None when the images are used up."""
        while len(self._blocks) <= index:
            part = list(_up_to(self._stream, self._look))
            if not part and self._blocks:
                return None
            self._blocks.append(self._judged(part))
        return self._blocks[index]

    def _judged(self, batches: list[Any]) -> Block:
        images, labels = labelled(batches)
        logits = predict(self._source, images, threads=cores(), progress=self._progress)
        if labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise SettingsError(f"labels go from {labels.min()} to {labels.max()}, but {self._source} has {logits.shape[1]} classes")
        return Block(images, labels, logits)


def _up_to(stream: Iterator[Any], count: int) -> Iterator[Any]:
    """Batches of the stream until they hold ``count`` images."""
    seen = 0
    while seen < count:
        batch = next(stream, None)
        if batch is None:
            return
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(f"evaluation needs (images, labels) batches, got {type(batch).__name__}")
        seen += len(batch[0])
        yield batch


def predicted(file: Candidate, block: Block) -> NDArray[np.float32]:
    """Logits of another file on the same images."""
    return predict(file, block.images, threads=cores())
