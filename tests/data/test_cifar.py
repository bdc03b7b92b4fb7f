import pickle
from pathlib import Path

import numpy as np
import pytest

from gleanet.core.errors import DataError
from gleanet.data.cifar import layout_of, load_official
from gleanet.data.classes import CIFAR10, CIFAR100
from gleanet.data.images import Dataset
from gleanet.data.registry import load
from tests.data.tiny import cifar_python, noise


def _load(folder: Path, whole: tuple[int, int] = (50_000, 10_000)) -> Dataset:
    layout = layout_of(folder)
    assert layout is not None
    return load_official(folder, folder.name, layout, whole)


def test_binary_and_python_layout_hold_the_same_records(shared_data: Path) -> None:
    python, binary = _load(shared_data / "cifar-10-batches-py"), _load(shared_data / "cifar-10-batches-bin")
    assert python.classes == binary.classes == CIFAR10
    np.testing.assert_array_equal(python.test.images, binary.test.images)
    np.testing.assert_array_equal(python.test.labels, binary.test.labels)
    np.testing.assert_array_equal(python.train.images[:1017], binary.train.images)
    np.testing.assert_array_equal(python.train.labels[:1017], binary.train.labels)


def test_the_reader_agrees_with_pythons_own(shared_data: Path) -> None:
    with (shared_data / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        oracle = pickle.load(file, encoding="bytes")  # noqa: S301 - the independent reference, on a file that is ours
    test = _load(shared_data / "cifar-10-batches-py").test
    np.testing.assert_array_equal(test.images, oracle[b"data"].reshape(-1, 3, 32, 32))
    assert test.labels.tolist() == oracle[b"labels"]


def test_a_part_given_by_path_says_how_many_images_it_has(shared_data: Path) -> None:
    part = load(str(shared_data / "cifar-10-batches-py"))
    assert part.title == "CIFAR-10 original, a part (5,085 train + 200 test images)"
    assert not part.complete
    assert (len(part.train), len(part.test)) == (5085, 200)


def test_complete_means_the_right_count_of_every_class(tmp_path: Path) -> None:
    cifar_python(tmp_path / "c")
    whole = _load(tmp_path / "c", (50, 10))
    assert (whole.complete, whole.title, whole.train.name) == (True, "CIFAR-10 original", "CIFAR-10 original train")
    assert not _load(tmp_path / "c", (60, 10)).complete
    batch = {"data": noise(10).reshape(10, -1), "labels": [0] * 10}
    (tmp_path / "c" / "test_batch").write_bytes(pickle.dumps(batch, protocol=4))
    assert not _load(tmp_path / "c", (50, 10)).complete


@pytest.mark.parametrize("binary", [False, True])
def test_cifar100_takes_the_fine_labels(tmp_path: Path, binary: bool) -> None:
    pixels, fine, coarse = noise(6), [99, 0, 50, 7, 8, 9], [1, 2, 3, 4, 5, 6]
    for part in ("train", "test"):
        if binary:
            records = np.concatenate([np.array([coarse, fine], np.uint8).T, pixels.reshape(6, -1)], axis=1)
            (tmp_path / f"{part}.bin").write_bytes(records.tobytes())
        else:
            batch = {"data": pixels.reshape(6, -1), "fine_labels": fine, "coarse_labels": coarse}
            (tmp_path / part).write_bytes(pickle.dumps(batch, protocol=4))
    dataset = _load(tmp_path)
    assert dataset.classes == CIFAR100
    assert dataset.train.labels.tolist() == fine
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert dataset.title == "CIFAR-100 original, a part (6 train + 6 test images)"


def test_class_names_known_here_are_the_published_ones() -> None:
    assert (len(set(CIFAR10)), len(set(CIFAR100))) == (10, 100)
    assert list(CIFAR100) == sorted(CIFAR100)
    assert (CIFAR100[0], CIFAR100[99], CIFAR100[3]) == ("apple", "worm", "bear")


def test_a_truncated_binary_file_is_named(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "cifar-10-batches-bin"
    (tmp_path / "test_batch.bin").write_bytes((source / "test_batch.bin").read_bytes())
    (tmp_path / "data_batch_1.bin").write_bytes((source / "data_batch_1.bin").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_1\.bin is truncated.*3,073"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": noise(2).reshape(2, -1), "labels": [0, 10]}, "record 1 has label 10, outside the 10 classes"),
        ({"data": noise(2).reshape(2, -1), "labels": [0, -1]}, "record 1 has label -1"),
        ({"data": noise(2).reshape(2, -1), "labels": [0]}, "'labels' must be 2 whole numbers"),
        ({"data": noise(2).reshape(2, -1), "labels": [0, "1"]}, "'labels' must be 2 whole numbers"),
        ({"data": noise(2).reshape(2, -1), "labels": [0, 10**30]}, "'labels' must be 2 whole numbers"),
        ({"data": noise(2).reshape(4, -1), "labels": [0] * 4}, r"must be uint8 \[N, 3072\]"),
        ({"labels": [0, 1]}, r"must be uint8 \[N, 3072\]"),
    ],
)
def test_wrong_batches_are_refused(tmp_path: Path, batch: dict[str, object], message: str) -> None:
    cifar_python(tmp_path / "c")
    (tmp_path / "c" / "data_batch_3").write_bytes(pickle.dumps(batch, protocol=4))
    with pytest.raises(DataError, match=message) as caught:
        _load(tmp_path / "c")
    assert "data_batch_3" in str(caught.value)


def test_wrong_class_names_are_refused(tmp_path: Path) -> None:
    cifar_python(tmp_path / "c")
    (tmp_path / "c" / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"]}, protocol=4))
    with pytest.raises(DataError, match="does not hold 10 class names"):
        _load(tmp_path / "c")
