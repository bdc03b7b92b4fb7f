"""Each calibrator finds what a naive search on the stored values finds, and obeys the laws of its kind."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gleanet.core.errors import SettingsError
from gleanet.quantize.histogram import Histogram, HistogramStream
from gleanet.quantize.thresholds import CALIBRATORS, PERCENTAGE, percentile, threshold
from tests.quantize import reference

Values = NDArray[np.float32]


def histogram(values: NDArray[np.floating[Any]], capacity: int = 4096) -> Histogram:
    stream = HistogramStream("values", capacity=capacity)
    stream.add(values.astype(np.float32).reshape(1, 1, -1))
    return stream.histograms()[0]


def samples(kind: str, n: int = 3000, seed: int = 0) -> Values:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(n)
    shapes: dict[str, Callable[[], NDArray[np.float64]]] = {
        "normal": lambda: normal,
        "relu": lambda: np.maximum(normal, 0),
        "laplace": lambda: rng.laplace(size=n) + 0.5,
        "swish": lambda: normal * 3 / (1 + np.exp(-normal * 3)),
        "negative": lambda: -rng.gamma(2, 1, n),
        "outlier": lambda: np.append(np.maximum(normal, 0), [40.0]),
        "two outliers": lambda: np.append(normal, [40.0, -25.0]),
        "relu6": lambda: np.clip(4 * normal, 0, 6),
        "far from zero": lambda: 100 + normal,
    }
    return shapes[kind]().astype(np.float32)


KINDS = ("normal", "relu", "laplace", "swish", "negative", "outlier", "two outliers", "relu6", "far from zero")
EDGES = {
    "zeros": np.zeros(10),
    "positive": np.full(10, 5.0),
    "negative": np.full(10, -0.3),
    "one": np.array([2.0]),
    "binary": np.array([0.0, 1.0] * 9),
    "denormal": np.array([1e-44, -1e-45, 0.0]),
    "huge": np.array([3e38, -3e38, 1.0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percentage", [90.0, 99.9, PERCENTAGE])
def test_percentile_is_that_of_the_sorted_values(kind: str, percentage: float) -> None:
    values = samples(kind)
    found = histogram(values)
    np.testing.assert_allclose(percentile(found, percentage), reference.percentile(values, percentage), atol=found.width, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_that_of_plain_loops(kind: str) -> None:
    values = samples(kind, 1500)
    found = histogram(values, 512)
    np.testing.assert_allclose(threshold("entropy")(found), reference.entropy(values, found.width), atol=found.width, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_that_of_all_pairs_of_edges(kind: str) -> None:
    values = samples(kind)
    found = histogram(values, 80)
    np.testing.assert_allclose(threshold("mse")(found), reference.mse(values, found.width), atol=found.width, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_nearly_the_least_that_any_range_has_on_the_values_themselves(kind: str) -> None:
    values = samples(kind, 10_000).astype(np.float64)
    found = threshold("mse")(histogram(values))
    assert reference.mean_error(values, *found) <= 1.01 * reference.least_error(values, np.linspace(0.02, 1, 50))


def test_outliers_are_clipped_by_all_but_min_max() -> None:
    """One value of 100 among four million below 6."""
    values = np.append(samples("relu", 4_000_000), np.float32(100))
    found = {name: limits(histogram(values)) for name, limits in CALIBRATORS.items()}
    assert found["min-max"] == (0.0, 100.0)
    for name in ("percentile", "entropy", "mse"):
        assert found[name][0] == 0
        assert 3 < found[name][1] < 50, name


@pytest.mark.parametrize("name", ["entropy", "mse"])
def test_exact_zeros_cost_nothing(name: str) -> None:
    """Half of a ReLU's values; in bins wider than a quantization step they must not pass for values spread over their bin."""
    values = np.append(samples("outlier"), np.zeros(100_000, dtype=np.float32))
    for capacity in (80, 4096):
        assert threshold(name)(histogram(values, capacity)) == threshold(name)(histogram(values[values > 0], capacity))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("values", [*EDGES.values(), *map(samples, KINDS)], ids=[*EDGES, *KINDS])
def test_ranges_hold_zero_lie_within_what_was_seen_and_scale(name: str, values: Values) -> None:
    values = np.asarray(values, dtype=np.float32)
    low, high = threshold(name)(histogram(values))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
    if values.any():
        assert low < high
    if 1e-30 < abs(values).max() < 1e30:
        assert threshold(name)(histogram(values * 8)) == (8 * low, 8 * high)
        mirrored = histogram(-values)
        flat = 0.02 * (high - low) if name == "mse" else 0.0  # its minimum is flat where both ends are free
        np.testing.assert_allclose(threshold(name)(mirrored), (-high, -low), atol=max(flat, 2 * mirrored.width), rtol=0)


def test_an_unknown_calibrator_is_refused() -> None:
    with pytest.raises(SettingsError, match=re.escape("unknown calibrator 'magic': use one of min-max, percentile, entropy, mse")):
        threshold("magic")
