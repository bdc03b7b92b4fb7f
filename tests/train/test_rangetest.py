"""The peak learning rate is below where the loss leaves its valley, whatever the valley looks like."""

import numpy as np
import pytest

from gleanet.core.errors import GleanetError
from gleanet.core.progress import SILENT
from gleanet.core.records import Preprocess
from gleanet.train import Recipe, range_test
from gleanet.train.rangetest import CEILING, HIGHEST, LOWEST, SAFETY, STEPS, choose, sweep
from gleanet.train.team import ALONE
from tests.train.tiny import images, net, same

RATES = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]


def ratios(floor: float, edge: float, seed: int) -> list[float]:
    """How many times the loss before: it falls from 1 to ``floor`` and blows up beyond the rate ``edge``.

    With the noise of real sweeps (ResNet-20 on CIFAR-10): 1 % where the network hardly changes, then 10 %.
    """
    rng = np.random.default_rng(seed)
    rates = np.array(RATES)
    noise = np.where(rates < 3e-3, 0.01, 0.1)
    falling = floor + (1 - floor) / (1 + (rates / 2e-3) ** 1.5)
    return list((falling * (1 + (rates / edge) ** 3)) * np.exp(noise * rng.standard_normal(STEPS)))


@pytest.mark.parametrize("floor", [1.0, 0.75, 0.4], ids=["trained", "pruned", "scratch"])
@pytest.mark.parametrize("edge", [0.05, 0.1, 0.2])
def test_the_choice_is_near_the_edge_over_the_safety_factor_under_noise(floor: float, edge: float) -> None:
    """The loss is 1.3 times its floor at 0.67 times what this test calls the edge."""
    for seed in range(40):
        found = choose(RATES, ratios(floor, edge, seed))
        assert 0.45 < found / min(CEILING, edge / SAFETY) < 1.1, seed


def test_a_sweep_that_ended_in_infinity_counts_its_end_as_the_edge() -> None:
    assert choose(RATES[:40], [1.0] * 40) == pytest.approx(RATES[39] / SAFETY, rel=0.05)


def test_a_loss_that_never_rises_gives_the_ceiling() -> None:
    assert choose(RATES, list(np.linspace(2, 1, STEPS))) == CEILING


def test_a_hard_batch_is_hard_for_the_network_before_too() -> None:
    """Steps too small to change anything leave the ratio at 1, however much the losses of batches of eight images differ."""
    recipe, pixels = Recipe(1, batch_size=8), Preprocess()
    rates, found = sweep(net(), images(), recipe, preprocess=pixels, seed=0, teacher=None, team=ALONE, progress=SILENT)
    assert rates == pytest.approx(RATES[: len(rates)])
    assert found[0] == 1.0
    assert found[1:8] == pytest.approx([1.0] * 7, abs=0.02)


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
