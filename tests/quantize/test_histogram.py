"""A streamed histogram is the histogram of all stored values, bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gleanet.core.errors import QuantizationError
from gleanet.quantize.histogram import Histogram, HistogramStream
from tests.quantize.reference import bins_of, width_of

FLOATS = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-4, 4, width=32), st.just(0.0))
PIECES = st.lists(st.lists(FLOATS, max_size=12), min_size=1, max_size=6).filter(any)


def streamed(pieces: list[NDArray[np.float32]], capacity: int) -> Histogram:
    stream = HistogramStream("values", capacity=capacity)
    for piece in pieces:
        stream.add(piece.reshape(1, 1, -1))
    return stream.histograms()[0]


def assert_same(a: Histogram, b: Histogram) -> None:
    assert (a.low, a.high, a.width, a.first, a.zeros) == (b.low, b.high, b.width, b.first, b.zeros)
    np.testing.assert_array_equal(a.counts, b.counts)


@settings(max_examples=300, deadline=None)
@example([[0.0], [0.0, 0.0]], 4)
@example([[1e-45], [-1e-45, 3e38], [-3e38]], 8)
@example([[7.0, 7.0], [7.0]], 8)
@example([[-1e-45, 4096.0]], 4)
@given(PIECES, st.integers(2, 40))
def test_any_finite_values_in_any_pieces(pieces: list[list[float]], capacity: int) -> None:
    arrays = [np.array(piece, dtype=np.float32) for piece in pieces]
    values = np.concatenate(arrays)
    found = streamed(arrays, capacity)
    width = width_of(values, capacity)
    assert (found.low, found.high) == (values.min(), values.max())
    assert Fraction(found.width) == width
    assert found.zeros == np.sum(values == 0)
    assert {found.first + i: n for i, n in enumerate(found.counts.tolist()) if n} == bins_of(values, width)
    assert found.edges[0] <= min(0, found.low)
    assert found.edges[-1] > max(0, found.high)
    assert len(found.edges) == len(found.counts) + 1 <= capacity + 1
    assert_same(streamed(arrays[::-1], capacity), found)
    assert_same(streamed([values], capacity), found)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6])
def test_large_arrays_equal_numpys_histogram_and_fill_the_bins(scale: float) -> None:
    values = (np.random.default_rng(0).standard_t(3, 200_000) * scale).astype(np.float32)
    found = streamed(np.split(values, [10, 5_000, 90_001]), 4096)
    np.testing.assert_array_equal(found.counts, np.histogram(values, found.edges)[0])
    assert 2048 < len(found.counts) <= 4096


def test_channels_are_histograms_of_their_own() -> None:
    """Wild differences between channels; one is dead, one grows late, one is negative."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 5, 40)).astype(np.float32) * np.array([1, 0, 1e-6, 3e4, 1], dtype=np.float32)[:, None]
    values[:, 4] = -abs(values[:, 4])
    values[-1, 0, 0] = 900
    stream = HistogramStream("values", channels=5, capacity=64)
    for part in (values[:1], values[1:4], values[4:]):
        stream.add(part)
    for channel, found in enumerate(stream.histograms()):
        assert_same(found, streamed([values[:, channel]], 64))


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(wild: float) -> None:
    stream = HistogramStream("m.onnx: tensor 't'", channels=2)
    with pytest.raises(QuantizationError, match=r"tensor 't' is not finite"):
        stream.add(np.array([[[1, 2], [wild, 0]]], dtype=np.float32))
