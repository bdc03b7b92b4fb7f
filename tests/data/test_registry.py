from pathlib import Path

import numpy as np
import pytest

from gleanet.core.errors import DataError
from gleanet.data.registry import available, load
from tests.data.tiny import class_folders, noise, parquet_folder


def test_the_name_cifar10_refuses_a_part_and_says_what_to_put_where(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("GLEANET_DATA", str(shared_data))
    with pytest.raises(DataError) as caught:
        load("cifar10")
    message = str(caught.value)
    assert "\n" not in message
    assert "put cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message
    assert f"into {shared_data} or {cache}" in message
    assert f"{shared_data}/cifar-10-batches-py is incomplete: it holds 5,085 train + 200 test images" in message


def test_the_name_cifar10_refuses_reencoded_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet_folder(tmp_path / "data" / "cifar10")
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match="cifar10 does not hold the official CIFAR-10 files"):
        load("cifar10")
    assert load(str(tmp_path / "data" / "cifar10")).title == "CIFAR-10 (PNG), a part (20 train + 10 test images)"


def test_a_complete_set_is_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = np.zeros((10_000, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(10_000) % 10
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records.tofile(folder / f"{name}.bin")
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path))
    dataset = load("cifar10")
    assert (dataset.name, dataset.title, dataset.complete) == ("cifar10", "CIFAR-10 original", True)
    assert (len(dataset.train), len(dataset.test)) == (50_000, 10_000)


def test_an_unknown_name_lists_what_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"known are digits, cifar10, cifar100 \(set GLEANET_DATA"):
        load("cifar11")
    parquet_folder(tmp_path / "mine")
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path))
    assert available() == ("digits", "cifar10", "cifar100", "mine")
    with pytest.raises(DataError, match=r"no data set 'cifar11'.*digits, cifar10, cifar100, mine in GLEANET_DATA"):
        load("cifar11")


def test_a_name_is_a_folder_of_the_data_folder_and_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = parquet_folder(tmp_path / "mine")
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path))
    by_name, by_path = load("mine"), load(f"{tmp_path}/mine/")
    assert by_name.name == by_path.name == "mine"
    assert by_name.title == by_path.title == "mine (PNG)"
    np.testing.assert_array_equal(by_name.train.images, pixels)


@pytest.mark.parametrize("name", ["", ".", "/nowhere/at/all", "\0"])
def test_paths_without_a_data_set_are_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no data set"):
        load(name)


def test_a_file_and_a_wrong_data_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.parquet is a file: give the folder"):
        load(str(tmp_path / "x.parquet"))
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="is not a folder: correct it or unset it"):
        load("mine")
    assert load("digits").name == "digits"


def test_class_folders_are_recognised(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets" / "train", ("cat", "dog"))
    class_folders(tmp_path / "pets" / "val", ("cat", "dog"), per_class=2)
    pets = load(str(tmp_path / "pets"))
    assert (pets.title, pets.classes, len(pets.train), len(pets.test)) == ("pets (PNG)", ("cat", "dog"), 6, 4)
    np.testing.assert_array_equal(pets.train.images[3:], noise(3, 8, 8, seed=1))
