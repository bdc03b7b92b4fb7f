import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Advance
from gleanet.data import Dataset
from gleanet.data.folder import holds_class_folders, load_folder
from gleanet.data.stream import Stream
from tests.data.test_stream import by_hand
from tests.data.tiny import class_folders, encoded, noise


def _pets(folder: Path) -> None:
    class_folders(folder / "train", ("cat", "dog"))
    class_folders(folder / "test", ("cat", "dog"), per_class=2)


def test_classes_are_alphabetical_and_other_files_are_ignored(tmp_path: Path) -> None:
    _pets(tmp_path)
    (tmp_path / "train" / "dog" / "notes.txt").write_text("x")
    (tmp_path / "train" / "dog" / "._0.png").write_text("x")
    (tmp_path / "train" / "README").write_text("x")
    pets = load_folder(tmp_path, "pets")
    assert pets.classes == ("cat", "dog")
    assert pets.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(pets.train.images, np.concatenate([noise(3, 8, 8, seed=0), noise(3, 8, 8, seed=1)]))
    np.testing.assert_array_equal(pets.test.images, np.concatenate([noise(2, 8, 8, seed=0), noise(2, 8, 8, seed=1)]))


def test_val_stands_in_for_a_test_folder_without_labels(tmp_path: Path) -> None:
    _pets(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.png").write_bytes(encoded(noise(1, 8, 8)[0]))
    assert len(load_folder(tmp_path, "pets").test) == 4


def test_images_may_lie_deeper_as_in_tiny_imagenet(tmp_path: Path) -> None:
    _pets(tmp_path)
    (tmp_path / "train" / "cat").rename(tmp_path / "images")
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "images").rename(tmp_path / "train" / "cat" / "images")
    assert load_folder(tmp_path, "pets").train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_without_a_split_is_split_by_class_and_says_so(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", ("cat", "dog"), per_class=10, kind="JPEG")
    pets = load_folder(tmp_path / "pets", "pets")
    assert pets.title == "pets (JPEG q75, split 80/20)"
    assert (np.bincount(pets.train.labels).tolist(), np.bincount(pets.test.labels).tolist()) == ([8, 8], [2, 2])
    np.testing.assert_array_equal(pets.test.images, load_folder(tmp_path / "pets", "pets").test.images)


def test_a_changed_file_is_decoded_anew(tmp_path: Path) -> None:
    _pets(tmp_path)
    load_folder(tmp_path, "pets")
    (tmp_path / "train" / "cat" / "0.png").write_bytes(encoded(noise(1, 8, 8, seed=5)[0]))
    np.testing.assert_array_equal(load_folder(tmp_path, "pets").train.images[0], noise(1, 8, 8, seed=5)[0])


def test_different_classes_are_named(tmp_path: Path) -> None:
    _pets(tmp_path)
    class_folders(tmp_path / "train", ("emu",))
    with pytest.raises(DataError, match="train/ has 3 classes, test/ has 2; only in one of them: emu"):
        load_folder(tmp_path, "pets")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", ("cat",))
    with pytest.raises(DataError, match="neither test/ nor val/"):
        load_folder(tmp_path, "pets")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="test/cat holds no images"):
        load_folder(tmp_path, "pets")
    class_folders(tmp_path / "single", ("a", "b"), per_class=1)
    with pytest.raises(DataError, match="none to test on"):
        load_folder(tmp_path / "single", "single")


class Said:
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return SILENT.task(what, total, unit)

    def say(self, line: str) -> None:
        self.lines.append(line)


def _streamed(folder: Path, **more: int) -> tuple[Dataset, str]:
    said = Said()
    found = load_folder(folder, "pets", progress=said, **more)
    assert isinstance(found.train.images, Stream) == isinstance(found.test.images, Stream) == bool(said.lines)
    return found, " ".join(said.lines)


def test_images_of_different_sizes_are_streamed_and_it_is_said_why(tmp_path: Path) -> None:
    _pets(tmp_path)
    assert _streamed(tmp_path)[1] == ""
    (tmp_path / "train" / "dog" / "1.png").write_bytes(encoded(noise(1, 9, 9)[0]))
    found, why = _streamed(tmp_path, usual_size=6)
    assert re.search(r"train/dog/1\.png is 9x9, \S*train/cat/0\.png is 8x8, so the images are streamed and cut to 6x6$", why)
    assert found.train.images.shape == (6, 3, 6, 6)
    assert found.title == f"{tmp_path.name} (PNG, cut to 6x6)"
    assert load_folder(tmp_path, "pets").test.images.shape == (4, 3, 224, 224)


def test_test_images_of_another_size_are_streamed_too(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", ("cat", "dog"))
    class_folders(tmp_path / "val", ("cat", "dog"), size=9)
    assert "training images are 8x8, test images 9x9" in _streamed(tmp_path)[1]


def test_a_size_that_is_asked_for_streams_unless_the_images_have_it(tmp_path: Path) -> None:
    _pets(tmp_path)
    assert _streamed(tmp_path, image_size=8, usual_size=99)[1] == ""
    found, why = _streamed(tmp_path, image_size=5, usual_size=99)
    assert "train/cat/0.png is 8x8" in why
    assert found.test.images.shape == (4, 3, 5, 5)


def test_what_takes_more_than_a_quarter_of_the_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images of 192 bytes, decoded."""
    _pets(tmp_path)
    for total, streams in ((4 * 10 * 192, False), (4 * 10 * 192 - 4, True)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda total=total: SimpleNamespace(total=total))
        found, why = _streamed(tmp_path)
        assert ("decoded they take" in why) == streams
    assert found.train.images.shape == (6, 3, 224, 224)


def test_a_folder_without_a_split_streams_the_same_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", ("cat", "dog"), per_class=10)
    whole = load_folder(tmp_path / "pets", "pets")
    found, _ = _streamed(tmp_path / "pets", image_size=16)
    assert found.title == "pets (PNG, cut to 16x16, split 80/20)"
    assert found.train.labels.tolist() == whole.train.labels.tolist()
    middles = [by_hand(Image.fromarray(image.transpose(1, 2, 0)), 16).transpose(2, 0, 1) for image in whole.test.pixels]
    np.testing.assert_array_equal(found.test.images[:], middles)


def test_a_broken_image_is_named_by_its_file(tmp_path: Path) -> None:
    _pets(tmp_path)
    (tmp_path / "train" / "dog" / "1.png").write_bytes(encoded(noise(1, 8, 8)[0])[:70])
    with pytest.raises(DataError, match=r"train/dog/1\.png cannot be decoded"):
        load_folder(tmp_path, "pets")


def test_recognition(tmp_path: Path) -> None:
    assert not holds_class_folders(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    assert not holds_class_folders(tmp_path)
    class_folders(tmp_path, ("b",))
    assert holds_class_folders(tmp_path)


def test_swapped_files_with_the_same_size_and_time_are_decoded_again(tmp_path: Path) -> None:
    _pets(tmp_path)
    before = load_folder(tmp_path, "pets").train.images[:]
    cats = sorted((tmp_path / "train" / "cat").iterdir())
    status = cats[0].stat()
    size = max(path.stat().st_size for path in cats[:2])
    contents = [path.read_bytes().ljust(size, b"\0") for path in cats[:2]]
    for path, content in zip(cats[:2], contents, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    load_folder(tmp_path, "pets")
    for path, content in zip(cats[:2], reversed(contents), strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    after = load_folder(tmp_path, "pets").train.images[:]
    np.testing.assert_array_equal(after[:2], before[:2][::-1])
