import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gleanet.core.errors import DataError
from gleanet.data.classes import CIFAR10, CIFAR100
from gleanet.data.parquet import load_parquet
from tests.data.tiny import encoded, noise, parquet_folder, write_parquet


def test_the_real_images_are_those_that_pillow_sees(shared_data: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):  # the real test set twice: quick, and still all 10,000 rows
        (tmp_path / "cifar10-jpeg").mkdir(exist_ok=True)
        (tmp_path / "cifar10-jpeg" / f"{split}.parquet").symlink_to(shared_data / "cifar10-jpeg" / "test.parquet")
    dataset = load_parquet(tmp_path / "cifar10-jpeg", "x")
    assert dataset.title == "CIFAR-10 (JPEG q75), a part (10,000 train + 10,000 test images)"
    assert dataset.classes == CIFAR10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    rows = pq.read_table(shared_data / "cifar10-jpeg" / "test.parquet")
    for row in (0, 1023, 1024, 5000, 9999):
        record = rows.slice(row, 1).to_pylist()[0]
        with Image.open(pa.BufferReader(record["img"]["bytes"])) as image:
            np.testing.assert_array_equal(dataset.test.images[row], np.asarray(image).transpose(2, 0, 1))
        assert dataset.test.labels[row] == record["label"]
        assert record["img"]["path"].startswith(dataset.classes[dataset.test.labels[row]])


def test_the_cache_is_used_and_follows_the_content(tmp_path: Path, cache: Path) -> None:
    pixels = parquet_folder(tmp_path / "d")
    load_parquet(tmp_path / "d", "d")
    files = sorted((cache / "decoded").iterdir())
    assert len(files) == 2
    stamps = [file.stat().st_mtime_ns for file in files]
    np.testing.assert_array_equal(load_parquet(tmp_path / "d", "d").train.images, pixels)
    assert [file.stat().st_mtime_ns for file in files] == stamps
    write_parquet(tmp_path / "d" / "train.parquet", [encoded(image) for image in noise(20, seed=9)], [i % 10 for i in range(20)])
    np.testing.assert_array_equal(load_parquet(tmp_path / "d", "d").train.images, noise(20, seed=9))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("keep", [0, 3, 100, -1, -100, -2000])
def test_a_truncated_file_is_one_line(tmp_path: Path, split: str, keep: int) -> None:
    parquet_folder(tmp_path)
    path = tmp_path / f"{split}.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=f"{split}.parquet is truncated or not a Parquet file") as caught:
        load_parquet(tmp_path, "x")
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_one_line(tmp_path: Path) -> None:
    """The footer is whole, the image pages are zeros: found when they are read, in whatever way the reader puts it."""
    parquet_folder(tmp_path)
    path = tmp_path / "train.parquet"
    data = bytearray(path.read_bytes())
    data[4:20_000] = bytes(19_996)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train\.parquet") as caught:
        load_parquet(tmp_path, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_named(tmp_path: Path, split: str) -> None:
    parquet_folder(tmp_path)
    (tmp_path / f"{split}.parquet").unlink()
    with pytest.raises(DataError, match=f"holds no {split}.parquet"):
        load_parquet(tmp_path, "x")


@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "label"), ("image", "labels"), ("img", "fine_label")])
def test_column_names(tmp_path: Path, image: str, label: str) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [encoded(noise(1)[0])] * 3, [2, 0, 1], image=image, label=label)
    assert load_parquet(tmp_path, "x").test.labels.tolist() == [2, 0, 1]


def test_the_name_of_a_folder_is_not_data(tmp_path: Path) -> None:
    """pyarrow's table reader would take a column of labels from a folder called label=7."""
    parquet_folder(tmp_path / "label=7")
    assert load_parquet(tmp_path / "label=7", "x").train.labels[:3].tolist() == [0, 1, 2]


def test_names_that_are_not_text_are_a_broken_file(tmp_path: Path) -> None:
    parquet_folder(tmp_path)
    data = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(data.replace(b"label", b"la\xc2el"))
    with pytest.raises(DataError, match=r"train\.parquet is truncated or not a Parquet file"):
        load_parquet(tmp_path, "x")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    parquet_folder(tmp_path)
    for table, message in (
        (pa.table({"text": ["a"], "label": [0]}), "has the columns text, label: expected img"),
        (pa.table({"img": ["a"], "label": [0]}), "column img is string"),
        (pa.table({"img": [b"a"], "label": [0.5]}), "column label is double, expected whole numbers"),
    ):
        pq.write_table(table, tmp_path / "test.parquet")
        with pytest.raises(DataError, match=message):
            load_parquet(tmp_path, "x")


def test_plain_binary_columns_and_shards_are_read_in_order(tmp_path: Path) -> None:
    pixels = noise(9)
    for i in range(3):
        table = pa.table({"image": [encoded(image) for image in pixels[3 * i : 3 * i + 3]], "label": pa.array([i, i, i], pa.int8())})
        pq.write_table(table, tmp_path / f"train-0000{i}-of-00003.parquet")
        pq.write_table(table, tmp_path / f"validation-0000{i}-of-00003.parquet")
    dataset = load_parquet(tmp_path, "x")
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert dataset.test.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("folder", "n_classes", "expected"),
    [
        ("cifar10-small", 10, CIFAR10),
        ("CIFAR-10_x", 3, CIFAR10),
        ("cifar100", 10, CIFAR100),
        ("cifar10-but-more", 12, tuple(f"class {i}" for i in range(12))),
        ("mine", 3, ("class 0", "class 1", "class 2")),
    ],
)
def test_class_names(tmp_path: Path, folder: str, n_classes: int, expected: tuple[str, ...]) -> None:
    parquet_folder(tmp_path / folder, n_train=24, n_test=12, n_classes=n_classes)
    assert load_parquet(tmp_path / folder, "x").classes == expected


def test_class_names_from_the_metadata_win(tmp_path: Path) -> None:
    def metadata(names: object) -> bytes:
        return json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}).encode()

    folder, image = tmp_path / "cifar10", encoded(noise(1)[0])
    for split in ("train", "test"):
        write_parquet(folder / f"{split}.parquet", [image, image], [0, 1], metadata=metadata(["no", "yes"]))
    assert load_parquet(folder, "x").classes == ("no", "yes")
    write_parquet(folder / "test.parquet", [image, image], [0, 1], metadata=metadata(["a", "b", "c"]))
    with pytest.raises(DataError, match=r"class names of the two files differ \(2 in train.parquet, 3 in test.parquet\)"):
        load_parquet(folder, "x")
    for unusable in (b"{", b"[]", b"\xff", metadata(7), metadata([]), metadata([1])):
        for split in ("train", "test"):
            write_parquet(folder / f"{split}.parquet", [image, image], [0, 1], metadata=unusable)
        assert load_parquet(folder, "x").classes == CIFAR10
    write_parquet(folder / "train.parquet", [image, image], [0, 2], metadata=metadata(["no", "yes"]))
    with pytest.raises(DataError, match=r"train\.parquet: row 1 has label 2, outside the 2 classes"):
        load_parquet(folder, "x")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5], "training labels go up to 1, test labels up to 5: both must have the same classes"),
        ([0, -1], "row 1 has label -1"),
        ([0, None], "row 1 has no label"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, labels: list[int | None], message: str) -> None:
    image = encoded(noise(1)[0])
    write_parquet(tmp_path / "train.parquet", [image, image], [0, 1])
    write_parquet(tmp_path / "test.parquet", [image, image], labels)
    with pytest.raises(DataError, match=message):
        load_parquet(tmp_path, "x")


def test_images_are_named_by_row(tmp_path: Path) -> None:
    image = encoded(noise(1)[0])
    write_parquet(tmp_path / "train.parquet", [image] * 9, [0] * 9)
    for wrong, message in (
        (b"no image", r"test\.parquet row 8 is not an image"),
        (None, r"test\.parquet row 8 has no image bytes"),
        (encoded(noise(1, 8, 8)[0]), r"test\.parquet row 8 is 8x8"),
    ):
        write_parquet(tmp_path / "test.parquet", [image] * 8 + [wrong], [0] * 9)
        with pytest.raises(DataError, match=message):
            load_parquet(tmp_path, "x")


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    parquet_folder(tmp_path)
    write_parquet(tmp_path / "test.parquet", [], [])
    with pytest.raises(DataError, match=r"test\.parquet holds no rows"):
        load_parquet(tmp_path, "x")
