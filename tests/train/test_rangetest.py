"""The peak learning rate is below where the loss leaves its valley, whatever the valley looks like."""

import numpy as np
import pytest

from gleanet.core.errors import GleanetError
from gleanet.core.records import Preprocess
from gleanet.train import Recipe, range_test
from gleanet.train.rangetest import CEILING, HIGHEST, LOWEST, SAFETY, STEPS, choose
from tests.train.tiny import images, net, same

RATES = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]


def sweep(floor: float, start: float, edge: float, noise: float, seed: int) -> list[float]:
    """Losses that fall from ``start`` to ``floor`` and blow up beyond the rate ``edge``."""
    rng = np.random.default_rng(seed)
    rates = np.array(RATES)
    falling = floor + (start - floor) / (1 + (rates / 2e-3) ** 1.5)
    return list((falling * (1 + (rates / edge) ** 3)) * np.exp(noise * rng.standard_normal(STEPS)))


@pytest.mark.parametrize(
    ("floor", "start"), [(0.18, 0.2), (0.8, 2.5), (2.0, 3.4), (3.0, 10.0)], ids=["trained", "pruned", "scratch", "distilled"]
)
@pytest.mark.parametrize("edge", [0.05, 0.1, 0.2])
def test_the_choice_is_near_the_edge_over_the_safety_factor_under_noise(floor: float, start: float, edge: float) -> None:
    for seed in range(40):
        found = choose(RATES, sweep(floor, start, edge, 0.15, seed))
        assert 0.25 < found / min(CEILING, edge / SAFETY) < 1.25, seed


def test_a_sweep_that_ended_in_infinity_counts_its_end_as_the_edge() -> None:
    assert choose(RATES[:40], [1.0] * 40) == pytest.approx(RATES[39] / SAFETY, rel=0.05)


def test_a_loss_that_never_rises_gives_the_ceiling() -> None:
    assert choose(RATES, list(np.linspace(2, 1, STEPS))) == CEILING


def test_the_network_is_unchanged_and_the_answer_repeats() -> None:
    model = net()
    first = range_test(model, images(), Recipe(1, batch_size=16), preprocess=Preprocess(), seed=0)
    assert same(model, net())
    assert first == range_test(model, images(), Recipe(1, batch_size=16), preprocess=Preprocess(), seed=0)
    assert 1e-3 <= first <= CEILING


def test_unusable_weights_are_an_error() -> None:
    model = net()
    model.get_parameter("8.bias").data[0] = float("nan")
    with pytest.raises(GleanetError, match="not finite even at learning rate"):
        range_test(model, images(), Recipe(1), preprocess=Preprocess(), seed=0)
