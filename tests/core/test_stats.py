"""The intervals against published values, brute force, and the laws that any such interval obeys."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gleanet.core.stats import Z95, Interval, mean_interval, paired_change, sqnr_db, student_t95, wilson

Hits = NDArray[np.bool_]


def table(both: int, only_new: int, only_old: int, neither: int) -> tuple[Hits, Hits]:
    """Hit vectors of a 2x2 table of paired answers."""
    counts = [both, only_new, only_old, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),  # R. G. Newcombe, Statistics in Medicine 17, 857-872, 1998, table I, score method
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(correct: int, n: int, low: float, high: float) -> None:
    found = wilson(correct, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(n=st.integers(1, 20_000), share=st.floats(0, 1))
@settings(deadline=None)
def test_wilson_ends_are_where_the_score_test_turns(n: int, share: float) -> None:
    """The interval is the set of p with |value - p| <= z sqrt(p (1 - p) / n), so its inner ends solve that with equality."""
    found = wilson(round(share * n), n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(found.value - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / n), rel=1e-6, abs=1e-12)


def test_wilson_covers_the_truth_about_95_percent_of_the_time() -> None:
    """Exact coverage by enumeration over every possible count; single points may dip, the mean over p may not (Agresti and Coull, 1998)."""
    n, grid = 60, np.linspace(0.02, 0.98, 97)
    inside = np.array([[found.low <= p <= found.high for p in grid] for found in (wilson(k, n) for k in range(n + 1))])
    weight = np.array([[math.comb(n, k) * p**k * (1 - p) ** (n - k) for p in grid] for k in range(n + 1)])
    coverage = (inside * weight).sum(axis=0)
    assert 0.945 < coverage.mean() < 0.96
    assert coverage.min() > 0.90


@pytest.mark.parametrize(("correct", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="correct"):
        wilson(correct, n)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((14, 5, 0, 22), 0.011, 0.226),  # Altman et al., Statistics with Confidence, 2nd ed. 2000, p. 52
        ((36, 12, 2, 0), 0.057, 0.340),  # Newcombe, Statistics in Medicine 17, 2635-2650, 1998, table II, method 10
        ((1, 1, 7, 12), -0.507, -0.026),  # Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8
    ],
)
def test_paired_change_gives_the_published_intervals(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    found = paired_change(*table(*cells))
    assert (round(found.low, 3), round(found.high, 3)) == (low, high)


cell = st.integers(0, 400)


@given(cell, cell, cell, cell)
def test_paired_change_contains_its_estimate_and_has_width(a: int, b: int, c: int, d: int) -> None:
    assume(a + b + c + d > 0)
    found = paired_change(*table(a, b, c, d))
    assert -1 <= found.low <= found.delta <= found.high <= 1
    assert found.high - found.low > 0
    assert found.n == a + b + c + d


@given(cell, cell, cell, cell)
def test_paired_change_turns_round_when_the_two_are_swapped(a: int, b: int, c: int, d: int) -> None:
    assume(a + b + c + d > 0)
    new, old = table(a, b, c, d)
    there, back = paired_change(new, old), paired_change(old, new)
    assert (there.delta, there.low, there.high) == pytest.approx((-back.delta, -back.high, -back.low), abs=1e-12)


def test_paired_change_uses_the_pairing() -> None:
    """Two accuracies half a point apart: nearly the same answers make that certain, unrelated answers do not."""
    alike = paired_change(*table(8_600, 10, 60, 1_330))
    unrelated = paired_change(*table(7_400, 1_210, 1_260, 130))
    assert alike.delta == unrelated.delta == pytest.approx(-0.005)
    assert alike.high < 0 < unrelated.high


def test_paired_change_covers_the_truth() -> None:
    """10,000 draws of 400 paired answers: the interval misses the true difference about 5 % of the time."""
    generator = np.random.default_rng(0)
    draws, counts = np.unique(generator.multinomial(400, [0.82, 0.03, 0.06, 0.09], size=4000), axis=0, return_counts=True)
    found = [paired_change(*table(*map(int, draw))) for draw in draws]
    covered = sum(int(count) for one, count in zip(found, counts, strict=True) if one.low <= -0.03 <= one.high)
    assert 0.935 < covered / 4000 < 0.975


def test_paired_change_refuses_vectors_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="equal-length"):
        paired_change(np.ones(3, bool), np.ones(4, bool))


def test_sqnr_is_the_decibels_of_known_noise() -> None:
    signal = np.full(1000, 10.0, np.float32)
    assert sqnr_db(signal, signal + 1) == pytest.approx(20.0)
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -math.inf


@pytest.mark.parametrize(("freedom", "published"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_student_quantiles_are_the_tables(freedom: int, published: float) -> None:
    assert student_t95(freedom) == pytest.approx(published, abs=6e-4)


def test_mean_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [mean_interval(rng.normal(3.0, 2.0, 5).tolist()) for _ in range(4000)]
    inside = sum(each.low is not None and each.high is not None and each.low <= 3.0 <= each.high for each in found)
    assert inside / len(found) == pytest.approx(0.95, abs=0.012)
    assert mean_interval([0.5]) == Interval(0.5, None, None, 1)
