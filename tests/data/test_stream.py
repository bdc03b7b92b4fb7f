"""Streamed images: against Pillow used by hand, and against themselves in another order, from another start, by other threads."""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gleanet.core.errors import DataError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.data import ImageSet, as_input, calibration, epoch, eval_batches, load, to_input
from gleanet.data.crops import random_box
from gleanet.data.decode import bombs_are_errors
from gleanet.data.stream import Picture, Stream, middle_crop, random_crop, workers
from tests.data.tiny import photographs

P = Preprocess()
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    photographs(root / "train", ("cat", "dog", "emu"), 20)
    photographs(root / "val", ("cat", "dog", "emu"), 5, seed=1)
    return root


@pytest.fixture
def train(folder: Path) -> ImageSet:
    return load(str(folder), usual_size=SIZE).train


def by_hand(image: Image.Image, size: int) -> Picture:
    """torchvision's Resize(256 / 224 size) and CenterCrop(size) of an RGB picture, as its documentation and source give them."""
    short = round(size * 256 / 224)
    width, height = image.size
    resized = image.resize(
        (short, int(short * height / width)) if width <= height else (int(short * width / height), short), Image.Resampling.BILINEAR
    )
    left, top = round((resized.width - size) / 2.0), round((resized.height - size) / 2.0)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode) if mode != "RGBA" else Image.fromarray(pixels)


@pytest.mark.parametrize("size", [224, 64, 65])
@pytest.mark.parametrize("given", [(500, 375), (375, 500), (256, 256), (40, 31), (1000, 70), (13, 200), (257, 511)])
def test_the_middle_has_the_pixels_of_resize_and_center_crop(given: tuple[int, int], size: int) -> None:
    image = noise(*given)
    out = np.empty((size, size, 3), dtype=np.uint8)
    middle_crop(encoded(image, "PNG"), out, "row 0")
    np.testing.assert_array_equal(out, by_hand(image, size))


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG")])
def test_every_kind_of_picture_becomes_rgb(mode: str, kind: str) -> None:
    data = encoded(noise(50, 40, mode), kind)
    out = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    middle_crop(data, out, "row 0")
    image = Image.open(io.BytesIO(data))
    rgb = image.convert("RGBA").convert("RGB") if mode == "P" else image.convert("RGB")
    np.testing.assert_array_equal(out, by_hand(rgb, SIZE))
    random_crop(data, np.random.default_rng(0), True, out, "row 0")


def test_a_very_long_picture_takes_no_memory_for_what_is_cut_off() -> None:
    image = noise(3, 2000)
    out = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    middle_crop(encoded(image, "PNG"), out, "row 0")
    assert np.abs(out.astype(int) - by_hand(image, SIZE).astype(int)).max() <= 1
    middle_crop(encoded(Image.new("L", (1, 60_000), 7), "PNG"), out, "row 0")  # resized whole it would have 80 million pixels
    assert (out == 7).all()


def ramps(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards: a crop's colours tell where it came from."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray((255 * np.stack([x, y, np.zeros_like(x)], axis=2)).round().astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("given", [(90, 70), (700, 900), (2000, 1500)])
def test_a_random_crop_shows_the_box_that_was_drawn(given: tuple[int, int], kind: str) -> None:
    """Large JPEGs are decoded at a fraction of their size: the box must be the same part of them."""
    data = encoded(ramps(*given), kind)
    sides = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        left, top, width, height = random_box(*given, rng)
        mirrored = rng.random() < 0.5
        out = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
        random_crop(data, np.random.default_rng(seed), True, out, "row 0")
        x, y = (np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE
        red, green = 255 * (left + x * width) / given[0], 255 * (top + y * height) / given[1]
        found = out[:, ::-1] if mirrored else out
        inner = slice(2, -2)  # antialiasing looks over the border
        assert np.abs(found[:, :, 0].mean(0) - red)[inner].max() < 4
        assert np.abs(found[:, :, 1].mean(1) - green)[inner].max() < 4
        sides.add(mirrored)
    assert sides == {True, False}
    random_crop(data, np.random.default_rng(1), False, out, "row 0")
    assert (np.diff(out[:, :, 0].mean(0)) >= 0).all(), "not mirrored unless asked for"


def test_a_folder_of_different_sizes_is_streamed(train: ImageSet) -> None:
    assert isinstance(train.images, Stream)
    assert train.images.shape == (60, 3, SIZE, SIZE)
    assert train.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    rows = np.array([30, 2, 59])
    expected = [by_hand(Image.open(train.images.files.path(row)), SIZE).transpose(2, 0, 1) for row in rows.tolist()]
    np.testing.assert_array_equal(train.images[rows], expected)
    np.testing.assert_array_equal(train.subset(rows).images[1:], expected[1:])
    np.testing.assert_array_equal(train.images[2], expected[1])
    assert train.images[5:5].shape == (0, 3, SIZE, SIZE)


def batches(images: ImageSet, **more: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings: dict[str, object] = {"augment": True, "preprocess": P, **more}
    return list(epoch(images, 16, 7, 3, **settings))  # type: ignore[arg-type]


def same(one: list[tuple[torch.Tensor, torch.Tensor]], other: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in zip(one, other, strict=True))


def test_an_epoch_depends_on_seed_and_epoch_alone(train: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(train)
    assert [len(y) for _, y in whole] == [16, 16, 16, 12]
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)
    for count in ("1", "5"):
        monkeypatch.setenv("GLEANET_WORKERS", count)
        assert same(batches(train), whole), count
    for start in (1, 3, 4):
        assert same(batches(train, start=start), whole[start:]), start
    shares = [batches(train, part=(rank, 3)) for rank in range(3)]
    for number, (x, y) in enumerate(whole):
        for rank in range(3):
            assert torch.equal(shares[rank][number][0], x[rank::3])
            assert torch.equal(shares[rank][number][1], y[rank::3])
    other = list(epoch(train, 16, 7, 4, augment=True, preprocess=P))
    assert not torch.equal(other[0][0], whole[0][0])


def test_a_crop_is_drawn_anew_for_every_epoch_seed_and_place(train: ImageSet) -> None:
    twice = train.subset([5, 5])
    seen = [torch.stack([x for batch, _ in epoch(twice, 2, seed, number, augment=True, preprocess=P) for x in batch])
            for seed, number in ((0, 0), (0, 1), (1, 0), (1, 1))]  # fmt: skip
    crops = torch.cat(seen)
    assert len({crop.numpy().tobytes() for crop in crops}) == 8


def test_every_image_comes_once_and_with_its_label(train: ImageSet) -> None:
    """Without augmentation an epoch is the set in another order: compare with the middle of each image."""
    found = batches(train, augment=False)
    x, y = torch.cat([x for x, _ in found]).numpy(), torch.cat([y for _, y in found]).numpy()
    expected = to_input(train.images[:], P)
    order = [int(np.abs(expected - one).sum(axis=(1, 2, 3)).argmin()) for one in x]
    assert sorted(order) == list(range(60))
    np.testing.assert_array_equal(x, expected[order])
    np.testing.assert_array_equal(y, train.labels[order])


def test_measuring_and_calibration_see_the_middle(train: ImageSet) -> None:
    expected = to_input(train.images[:], P)
    np.testing.assert_array_equal(torch.cat([x for x, _ in eval_batches(train, 25, P)]).numpy(), expected)
    lazily = as_input(train, P)
    assert not isinstance(lazily, np.ndarray)
    np.testing.assert_array_equal(lazily[10:20], expected[10:20])
    drawn = calibration(train, 9, seed=2)
    assert isinstance(drawn.images, Stream)
    assert np.bincount(drawn.labels).tolist() == [3, 3, 3]
    kept = drawn.in_memory(9 * 3 * SIZE * SIZE)
    assert isinstance(kept.images, np.ndarray)
    np.testing.assert_array_equal(kept.images, drawn.images[:])
    assert drawn.in_memory(9 * 3 * SIZE * SIZE - 1) is drawn


def test_a_broken_file_is_named_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "train", ("a", "b"), 8)
    photographs(tmp_path / "val", ("a", "b"), 2)
    bad = tmp_path / "train" / "b" / "0003.JPEG"
    bad.write_bytes(bad.read_bytes()[:400])
    train = load(str(tmp_path), usual_size=SIZE).train
    with pytest.raises(DataError, match=r"train/b/0003\.JPEG cannot be decoded"):
        batches(train)
    assert not decoding()
    bad.unlink()
    with pytest.raises(DataError, match=r"train/b/0003\.JPEG cannot be decoded: .*No such file"):
        train.images[:]


def test_an_image_of_too_many_pixels_is_named_without_being_decoded() -> None:
    out = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    for side, said in (
        (8_300, "8300x8300 pixels, more than 67,108,864"),
        (9_800, "more than 67,108,864"),
        (20_000, "more than 67,108,864"),
    ):
        data = encoded(Image.new("1", (side, side)), "PNG")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with bombs_are_errors(), pytest.raises(DataError, match=f"row 5 has {said}"):
                middle_crop(data, out, "row 5")


def decoding() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_who_stops_early_leaves_no_thread(train: ImageSet) -> None:
    iterator = epoch(train, 4, 0, 0, augment=True, preprocess=P)
    next(iterator)
    assert decoding()
    iterator.close()  # type: ignore[attr-defined]
    assert not decoding()


def test_the_number_of_threads_can_be_chosen_and_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100000")
    assert workers() == 1
    monkeypatch.setenv("GLEANET_WORKERS", "5")
    assert workers() == 5
    monkeypatch.setenv("GLEANET_WORKERS", "many")
    with pytest.raises(SettingsError, match="GLEANET_WORKERS is 'many'"):
        workers()


def test_the_digest_is_of_names_labels_and_size(folder: Path, train: ImageSet) -> None:
    digests = {
        train.digest(),
        train.subset(np.arange(59)).digest(),
        train.subset(np.arange(60)[::-1]).digest(),
        load(str(folder), usual_size=SIZE + 1).train.digest(),
    }
    assert len(digests) == 4
    assert train.digest() == load(str(folder), usual_size=SIZE).train.digest()
