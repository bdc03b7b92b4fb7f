"""Small things to train: images whose class is where they are bright, and a network of two convolutions."""

import numpy as np
import torch
from torch import nn

from gleanet.data import ImageSet

CLASSES = ("top", "bottom", "left", "right")


def images(n: int = 96, seed: int = 0, side: int = 8) -> ImageSet:
    """uint8 [n, 3, side, side]: noise, with one half brighter; the label says which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    pixels = rng.integers(0, 120, (n, 3, side, side))
    half = side // 2
    for index, label in enumerate(labels):
        view = pixels[index]
        part = (view[:, :half], view[:, half:], view[:, :, :half], view[:, :, half:])[label]
        part += 100
    return ImageSet(pixels.astype(np.uint8), labels.astype(np.int64), CLASSES, "halves")


def net(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    """[N, 3, 8, 8] -> [N, 4]; initialised from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(8 * 16, 4),
        )


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether every parameter and buffer is equal to the bit."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
