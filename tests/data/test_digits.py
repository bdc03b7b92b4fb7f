import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

from gleanet.data.digits import load_digits, split


def test_digits_are_all_there_split_by_class_and_never_flipped() -> None:
    digits = load_digits()
    assert (digits.title, digits.flip, digits.complete) == ("digits 16x16", False, True)
    assert (len(digits.train), len(digits.test)) == (1258, 539)
    assert digits.train.images.shape[1:] == (3, 16, 16)
    target = sklearn_digits().target
    for label in range(10):
        assert abs(np.sum(digits.train.labels == label) - 0.7 * np.sum(target == label)) <= 0.5


def test_upsampling_keeps_the_picture() -> None:
    """Bilinear at exactly twice the size: the mean of each 2x2 block is a fixed blur of the original, [1 6 1]/8 in each direction."""
    original = np.pad(sklearn_digits().images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (original[:, :-2] + 6 * original[:, 1:-1] + original[:, 2:]) / 8
    blurred = (rows[:, :, :-2] + 6 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 8 * 255 / 16
    digits = load_digits()
    ours = np.concatenate([digits.train.images, digits.test.images])
    train, test = split(sklearn_digits().target.astype(np.int64), 0.7, 0)
    np.testing.assert_array_equal(ours[:, 0], ours[:, 2])
    blocks = ours[:, 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(blocks, blurred[np.concatenate([train, test])], atol=0.51)  # each pixel is rounded


def test_split_is_a_partition_and_always_the_same() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2] + [3] * 2, dtype=np.int64)
    first, second = split(labels, 0.7, 5)
    assert sorted([*first, *second]) == list(range(16))
    assert np.bincount(labels[first]).tolist() == [7, 2, 1, 1]
    assert np.bincount(labels[split(labels, 0.99, 5)[0]]).tolist() == [9, 2, 1, 1]
    np.testing.assert_array_equal(first, split(labels, 0.7, 5)[0])
    assert not np.array_equal(first, split(labels, 0.7, 6)[0])
