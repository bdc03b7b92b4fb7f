import numpy as np
import pytest

from gleanet.core.errors import DataError
from gleanet.data.images import Dataset, ImageSet, check_size
from tests.data.tiny import image_set, noise


def test_subset_keeps_the_asked_order() -> None:
    images = image_set(10)
    part = images.subset([7, 2, 7])
    assert len(part) == 3
    assert part.labels.tolist() == [7, 2, 7]
    np.testing.assert_array_equal(part.pixels, images.pixels[[7, 2, 7]])


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_named(label: int) -> None:
    with pytest.raises(DataError, match=f"row 1 has label {label}, outside the 3 classes"):
        ImageSet(images=noise(2), labels=np.array([0, label]), classes=("a", "b", "c"), name="x")


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(DataError, match="holds no images"):
        image_set(3).subset([])


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="must be uint8"):
        ImageSet(images=noise(2)[:, :1], labels=np.zeros(2, np.int64), classes=("a",), name="x")
    with pytest.raises(DataError, match="one per image"):
        ImageSet(images=noise(2), labels=np.zeros(3, np.int64), classes=("a",), name="x")


def test_train_and_test_must_agree_in_classes_and_size() -> None:
    def dataset(train: ImageSet, test: ImageSet) -> Dataset:
        return Dataset(name="x", title="x", train=train, test=test, classes=train.classes, source="", complete=True)

    with pytest.raises(DataError, match="5 classes to train on, 4 to test on"):
        dataset(image_set(10, 5), image_set(8, 4))
    with pytest.raises(DataError, match="8x8, test images 9x9"):
        dataset(image_set(10, 5), image_set(10, 5, size=9))


def test_an_absurd_size_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(DataError, match=r"1,000,000 images of 500x400 need 558\.8 GiB"):
        check_size(1_000_000, 400, 500, "x")
