"""Places and intervals of ratios."""

import numpy as np
import pytest

from gleanet.frameworks.differences import places, ratio_interval, ratios


def test_the_interval_is_that_of_students_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    for n in (3, 5, 10, 17):
        one, other = np.exp(rng.normal(3, 0.1, n)), np.exp(rng.normal(3, 0.1, n))
        logs = np.log(one / other)
        low, high = stats.t.interval(0.99, n - 1, loc=logs.mean(), scale=logs.std(ddof=1) / np.sqrt(n))
        assert ratio_interval(list(one), list(other)) == pytest.approx((np.exp(low), np.exp(high)), rel=1e-3)


def test_a_disturbance_that_hits_both_does_not_hide_a_difference() -> None:
    machine = [1.0, 1.5, 0.9, 2.0, 1.2]
    fast = [10 * slow * wobble for slow, wobble in zip(machine, (1.0, 1.01, 0.99, 1.0, 1.01), strict=True)]
    slow = [11 * slow * wobble for slow, wobble in zip(machine, (1.01, 1.0, 1.0, 0.99, 1.0), strict=True)]
    assert places({"fast": fast, "slow": slow}) == {"fast": (1, 1), "slow": (2, 2)}


def test_rows_within_noise_share_their_places() -> None:
    rng = np.random.default_rng(0)
    times = {name: list(level * np.exp(rng.normal(0, 0.05, 5))) for name, level in (("a", 10), ("b", 10.1), ("c", 30), ("d", 90))}
    found = places(times)
    assert found["a"] == found["b"] == (1, 2)
    assert (found["c"], found["d"]) == ((3, 3), (4, 4))


def test_ratios_are_to_the_fastest_row() -> None:
    times = {"slow": [20.0, 22.0, 21.0], "fast": [10.0, 11.0, 10.5], "once": [12.0]}
    assert ratios(times) == {"slow": pytest.approx((2.0, 2.0))}
    assert ratios({}) == {}


def test_one_round_tells_nothing() -> None:
    assert ratio_interval([1.0, 1.1], [9.0, 9.2]) is None, "of two rounds the interval would go from 0 to millions"
    assert places({"a": [1.0], "b": [9.0]}) == {"a": (1, 2), "b": (1, 2)}
