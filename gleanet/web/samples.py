"""Some test images of a run, as PNG files: the same ones every time."""

from dataclasses import dataclass

import numpy as np

from gleanet.data import ImageSet
from gleanet.data.thumbnail import png

MOST = 24


@dataclass(frozen=True)
class Sample:
    """One image. ``index``: its row in the test set; ``label``: its class, as the data says."""

    index: int
    label: str
    png: bytes


def draw_samples(images: ImageSet, seed: int, most: int = MOST) -> tuple[Sample, ...]:
    """At most ``most`` of ``images``, drawn without replacement with ``seed``, in the order of the set. PNG keeps every pixel as it is."""
    count = min(most, len(images))
    chosen = np.sort(np.random.default_rng(seed).choice(len(images), size=count, replace=False))
    return tuple(Sample(int(row), images.classes[int(images.labels[row])], png(images.images[row])) for row in chosen)
