"""scikit-learn's handwritten digits: 1,797 real images that ship inside the library, so that everything works offline.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (its test part).
"""

import numpy as np
import torch

from gleanet.data.images import Dataset, ImageSet, Labels

SPLIT_SEED = 0
TRAIN_SHARE = 0.7
SIZE = 16


def load_digits() -> Dataset:
    """The digits as a :class:`Dataset`: 8x8 grey upsampled bilinearly to 16x16, repeated to RGB; 70/30 split, stratified, always the same.

    ``flip`` is False: a mirrored digit is another sign.
    """
    # Imported here because scikit-learn takes 1.4 s to import and only this data set needs it.
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    grey = torch.from_numpy(bunch.images.astype(np.float32))[:, None]  # [N, 1, 8, 8], 0 to 16
    grey = torch.nn.functional.interpolate(grey, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    pixels = (grey * (255 / 16)).round().clamp(0, 255).to(torch.uint8)
    images = np.repeat(pixels.numpy(), 3, axis=1)  # [N, 3, 16, 16]
    labels = bunch.target.astype(np.int64)
    classes = tuple(str(name) for name in bunch.target_names)
    everything = ImageSet(images=images, labels=labels, classes=classes, name="digits 16x16")
    train, test = split(labels, TRAIN_SHARE, SPLIT_SEED)
    return Dataset(
        name="digits",
        title="digits 16x16",
        train=everything.subset(train),
        test=everything.subset(test),
        classes=classes,
        source="scikit-learn (sklearn.datasets.load_digits)",
        complete=True,
        flip=False,
    )


def split(labels: Labels, share: float, seed: int) -> tuple[Labels, Labels]:
    """Stratified split of ``labels`` [N] -> (indices of ``share`` of every class, the other indices), both ascending.

    Every class with two or more images has at least one on each side; a class of one goes to the first.
    """
    rng = np.random.default_rng(seed)
    first: list[Labels] = []
    second: list[Labels] = []
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        cut = min(max(1, round(share * order.size)), max(1, order.size - 1))
        first.append(order[:cut])
        second.append(order[cut:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))
