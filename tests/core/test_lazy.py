import hashlib

import numpy as np
import pytest

from gleanet.core.lazy import Lazy, rows_at_once

ARRAY = np.random.default_rng(0).integers(0, 256, (700, 3, 4, 5), dtype=np.uint8)


def test_it_gives_what_the_array_gives() -> None:
    lazy = Lazy.of(ARRAY)
    assert (lazy.shape, lazy.ndim, len(lazy), lazy.dtype) == (ARRAY.shape, 4, 700, ARRAY.dtype)
    for rows in (slice(3, 9), slice(None), slice(690, 800), slice(5, 5), slice(None, None, -7), np.array([5, 2, 5]), 7, -1):
        np.testing.assert_array_equal(lazy[rows], ARRAY[rows])
    np.testing.assert_array_equal(np.stack(list(Lazy.of(ARRAY[:3]))), ARRAY[:3])  # type: ignore[call-overload]


def test_parts_and_functions_of_it_compute_only_what_is_asked_for() -> None:
    asked: list[int] = []

    def make(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        asked.extend(rows.tolist())
        return ARRAY[rows]

    part = Lazy(make, np.arange(700), ARRAY.shape[1:], ARRAY.dtype).take([9, 3, 600]).map(lambda rows: rows / np.float32(2), np.float32)
    assert (part.shape, part.dtype) == ((3, 3, 4, 5), np.dtype(np.float32))
    assert not asked
    np.testing.assert_array_equal(part[1:], ARRAY[[3, 600]] / np.float32(2))
    assert asked == [3, 600]
    np.testing.assert_array_equal(part.take(np.array([2]))[0], ARRAY[600] / np.float32(2))


def test_it_is_never_whole_by_accident() -> None:
    for use in (np.asarray, np.ascontiguousarray, np.sum, lambda array: np.concatenate([array, array])):
        with pytest.raises(TypeError, match=r"\[700, 3, 4, 5\] .* take slices"):
            use(Lazy.of(ARRAY))


def test_the_digest_is_that_of_the_rows() -> None:
    assert Lazy.of(ARRAY).digest() == hashlib.sha256(ARRAY.tobytes()).digest()
    assert Lazy.of(ARRAY).take([1, 0]).digest() == hashlib.sha256(ARRAY[[1, 0]].tobytes()).digest()


def test_small_images_go_by_250_and_large_ones_by_their_size() -> None:
    assert [rows_at_once((3, side, side)) for side in (16, 32, 96, 224, 4096)] == [250, 250, 250, 55, 1]
