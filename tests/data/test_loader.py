from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gleanet.core.errors import SettingsError
from gleanet.core.records import Preprocess
from gleanet.data.images import ImageSet
from gleanet.data.loader import calibration, epoch, eval_batches, to_input
from tests.data.tiny import image_set

P = Preprocess()
IDENTITY = Preprocess(range=(0.0, 255.0), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _epoch(
    images: ImageSet, seed: int = 1, number: int = 0, *, augment: bool = True, start: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(epoch(images, 16, seed, number, augment=augment, preprocess=P, start=start))


def _same(a: list[tuple[torch.Tensor, torch.Tensor]], b: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


def test_input_is_the_definition_in_float64() -> None:
    images = image_set(7).pixels
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (P.mean, P.std))
    x = to_input(images, P)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, (images / 255 - mean) / std, rtol=0, atol=1e-6)
    np.testing.assert_allclose(to_input(images, replace(P, range=(-1.0, 1.0))), (images / 127.5 - 1 - mean) / std, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(to_input(images, IDENTITY), images)


def test_every_way_to_input_gives_the_same_bits() -> None:
    images = image_set(50)
    whole = to_input(images.pixels, P)
    batches = list(eval_batches(images, 16, P))
    assert [len(x) for x, _ in batches] == [16, 16, 16, 2]
    assert all(x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32 for x, _ in batches)
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]).numpy(), whole)
    np.testing.assert_array_equal(torch.cat([y for _, y in batches]).numpy(), images.labels)


@pytest.mark.parametrize(
    "wrong", [{"layout": "NHWC"}, {"color": "BGR"}, {"mean": (0.5,)}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.0, float("nan"), 0.0)}]
)
def test_an_unusable_preprocess_is_refused_at_once(wrong: dict[str, object]) -> None:
    preprocess = replace(P, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="preprocess"):
        to_input(image_set(2).pixels, preprocess)
    with pytest.raises(SettingsError, match="preprocess"):
        epoch(image_set(2), 2, 0, 0, augment=False, preprocess=preprocess)


def test_an_epoch_is_every_image_once() -> None:
    images = image_set(50)
    images.pixels[:, 0, 0, 0] = np.arange(50)
    batches = list(epoch(images, 16, 3, 0, augment=False, preprocess=IDENTITY))
    assert [len(y) for _, y in batches] == [16, 16, 16, 2]
    order = torch.cat([x[:, 0, 0, 0] for x, _ in batches]).long().numpy()
    assert sorted(order) == list(range(50))
    assert order.tolist() != list(range(50))
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]).numpy(), images.pixels[order])
    np.testing.assert_array_equal(torch.cat([y for _, y in batches]).numpy(), images.labels[order])
    assert all(x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32 for x, _ in batches)


def test_order_and_augmentation_depend_on_seed_and_epoch_only() -> None:
    images = image_set(50)
    reference = _epoch(images)
    torch.manual_seed(99)
    np.random.default_rng(99).random(10)
    assert _same(reference, _epoch(images))
    assert not _same(reference, _epoch(images, seed=2))
    assert not _same(reference, _epoch(images, number=1))
    assert not _same(_epoch(images, augment=False), _epoch(images, number=1, augment=False))
    assert not _same(reference, _epoch(images, augment=False))
    assert not _same(_epoch(images, seed=1, number=2), _epoch(images, seed=2, number=1))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
def test_an_epoch_taken_up_again_goes_on_with_the_same_batches(start: int) -> None:
    images = image_set(50)
    assert _same(_epoch(images)[start:], _epoch(images, start=start))


def test_augmentation_differs_between_batches_and_epochs() -> None:
    """One picture for all images: what differs is the augmentation."""
    images = image_set(48)
    images.pixels[:] = images.pixels[:1]
    first, second = _epoch(images), _epoch(images, number=1)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], second[0][0])


def test_flip_false_never_mirrors() -> None:
    images = image_set(40)
    images.pixels[:] = 0
    images.pixels[:, :, :, 3:5] = np.array([100, 200], dtype=np.uint8)
    found = {True: 0, False: 0}
    for flip in found:
        for x, _ in epoch(images, 10, 0, 0, augment=True, preprocess=IDENTITY, flip=flip, padding=2):
            row = x[:, 0, 4]
            found[flip] += int((row.argmax(1) < (row == 100).int().argmax(1)).sum())
    assert found[False] == 0
    assert 5 < found[True] < 35


def test_read_only_pixels_are_welcome_and_batches_may_be_written() -> None:
    images = image_set(20)
    before = images.pixels.copy()
    images.pixels.flags.writeable = False
    for x, y in (*_epoch(images), *eval_batches(images, 7, P)):
        x.zero_()
        y.zero_()
    np.testing.assert_array_equal(images.pixels, before)
    assert images.labels.max() == 9


def test_calibration_is_balanced_deterministic_and_grows() -> None:
    images = image_set(200)
    chosen = calibration(images, 55, seed=4)
    counts = np.bincount(chosen.labels, minlength=10)
    assert (counts.min(), counts.max(), counts.sum()) == (5, 6, 55)
    np.testing.assert_array_equal(chosen.pixels, calibration(images, 55, seed=4).pixels)
    np.testing.assert_array_equal(chosen.pixels[:21], calibration(images, 21, seed=4).pixels)
    assert not np.array_equal(chosen.pixels, calibration(images, 55, seed=5).pixels)
    assert sorted(chosen.labels[:10]) == list(range(10))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 5))
def test_calibration_fills_classes_evenly_until_they_run_out(labels: list[int], n: int, seed: int) -> None:
    images = ImageSet(images=np.zeros((len(labels), 3, 1, 1), np.uint8), labels=np.array(labels), classes=tuple("abcde"), name="x")
    images.pixels[:, 0, 0, 0] = np.arange(len(labels))
    chosen = calibration(images, n, seed)
    rows = chosen.pixels[:, 0, 0, 0]
    assert len(set(rows.tolist())) == len(chosen) == min(n, len(labels))
    np.testing.assert_array_equal(np.array(labels)[rows], chosen.labels)
    have, got = np.bincount(labels, minlength=5), np.bincount(chosen.labels, minlength=5)
    for short in np.flatnonzero(got < have):  # a class with images left has as many as any other, less at most one
        assert got[short] >= got.max() - 1


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (5, -1)])
def test_calibration_refuses_nonsense(n: int, seed: int) -> None:
    with pytest.raises(SettingsError):
        calibration(image_set(10), n, seed)


def test_batches_refuse_nonsense_at_once() -> None:
    with pytest.raises(SettingsError, match="batch size must be at least 1, got 0"):
        epoch(image_set(3), 0, 0, 0, augment=False, preprocess=P)
    with pytest.raises(SettingsError, match="batch size must be at least 1, got 0"):
        eval_batches(image_set(3), 0, P)
    with pytest.raises(SettingsError, match="must not be negative"):
        epoch(image_set(3), 2, -1, 0, augment=False, preprocess=P)
    with pytest.raises(SettingsError, match="must not be negative"):
        epoch(image_set(3), 2, 0, 0, augment=False, preprocess=P, start=-1)


@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_the_parts_of_all_processes_are_the_batches_of_one(world: int) -> None:
    """With the augmentation of each image, whatever the number of parts; the last batch has two images."""
    images = image_set(50)
    whole = _epoch(images)
    parts = [list(epoch(images, 16, 1, 0, augment=True, preprocess=P, part=(rank, world))) for rank in range(world)]
    assert {len(part) for part in parts} == {4}
    for number, (x, y) in enumerate(whole):
        found_x, found_y = torch.empty_like(x), torch.empty_like(y)
        for rank, part in enumerate(parts):
            found_x[rank::world], found_y[rank::world] = part[number]
        assert torch.equal(found_x, x)
        assert torch.equal(found_y, y)


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_cannot_be_is_refused_at_once(part: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match="rank < world"):
        epoch(image_set(5), 2, 0, 0, augment=False, preprocess=P, part=part)
