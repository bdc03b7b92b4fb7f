"""Which images the comparison uses, and that it says so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gleanet.core.errors import DataError
from gleanet.data import load
from gleanet.frameworks.batches import load_batches


def test_digits_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLEANET_DATA", raising=False)
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path))
    batches = load_batches()
    assert batches.title == "digits 16x16, enlarged to 32x32: the first 1,216 training images"
    assert batches.x.shape == (19, 64, 3, 32, 32)
    assert batches.y.dtype == np.int32
    digits = load("digits").train
    assert np.array_equal(batches.x[1, 0, :, ::2, ::2], digits.images[64]), "each pixel four times"
    assert np.array_equal(batches.x[1, 0, :, 1::2, 1::2], digits.images[64])
    assert np.array_equal(batches.y.ravel(), digits.labels[:1216])


def test_original_images_where_they_are_also_a_part_of_them(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not any((shared_data / name).is_dir() for name in ("cifar-10-batches-py", "cifar10")):
        pytest.skip("no original CIFAR-10 here")
    batches = load_batches()
    assert batches.title.startswith("CIFAR-10")
    assert "JPEG" not in batches.title
    assert batches.title.endswith("the first 3,200 training images")
    assert batches.x.shape == (50, 64, 3, 32, 32)


def test_a_broken_folder_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(b"nothing")
    monkeypatch.setenv("GLEANET_DATA", str(tmp_path))
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path / "cache"))
    assert load_batches().title.startswith("digits")


def test_images_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(40):
                Image.new("RGB", (24, 24), (i, 0, 0)).save(tmp_path / part / name / f"{i}.png")
    with pytest.raises(DataError, match="takes 10 classes and 32 x 32 pixels"):
        load_batches(str(tmp_path))
