"""Derivative, minimum, area and gain against closed forms and mpmath."""

import math
from collections.abc import Callable

import mpmath as mp  # type: ignore[import-untyped]
import pytest
import torch
from torch import nn

from gleanet.nn import ACTIVATIONS, BeaMish, Swish, area_factor
from gleanet.nn.activations import activation
from gleanet.nn.family import area, derivative, gain, minimum


def phi(x: mp.mpf) -> mp.mpf:
    return mp.e ** (-(x**2) / 2) / mp.sqrt(2 * mp.pi)


def sigmoid(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.e ** (-x))


def mishes(alpha: float, beta: float) -> tuple[Callable[[mp.mpf], mp.mpf], Callable[[mp.mpf], mp.mpf]]:
    def value(x: mp.mpf) -> mp.mpf:
        return x * mp.tanh(beta * mp.log1p(mp.e ** (alpha * x)))

    def slope(x: mp.mpf) -> mp.mpf:
        t = mp.tanh(beta * mp.log1p(mp.e ** (alpha * x)))
        return t + alpha * beta * x * (1 - t**2) * sigmoid(alpha * x)

    return value, slope


NORMAL = math.sqrt(area_factor(2.0) / area_factor(1.0))
# the formulas and derivatives as the table words them
WORDED: dict[str, tuple[Callable[[mp.mpf], mp.mpf], Callable[[mp.mpf], mp.mpf]]] = {
    "relu": (lambda x: max(0, x), lambda x: 1 if x > 0 else 0),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "swish": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "swish(beta=2)": (lambda x: x * sigmoid(2 * x), lambda x: sigmoid(2 * x) * (1 + 2 * x * (1 - sigmoid(2 * x)))),
    "mish": mishes(1, 1),
    "beta-mish": mishes(1, 1.5),
    "beamish": mishes(1, 1.5),
    "beamish(alpha=0.5,beta=3)": mishes(0.5, 3),
    "beamish-normalized": mishes(NORMAL, 2.0),
    "beamish-learnable": mishes(1, 1.5),
    "gelu": (lambda x: x * mp.ncdf(x), lambda x: mp.ncdf(x) + x * phi(x)),
    "hardswish": (lambda x: x * min(max(x + 3, 0), 6) / 6, lambda x: 0 if x < -3 else 1 if x > 3 else (2 * x + 3) / 6),
    "relu6": (lambda x: min(max(0, x), 6), lambda x: 1 if 0 < x < 6 else 0),
}


@pytest.mark.parametrize("name", WORDED)
def test_formula_and_derivative_are_what_the_table_says(name: str) -> None:
    value, slope = WORDED[name]
    module = activation(name)().double()
    x = torch.tensor([-20.0, -5.0, -2.9, -1.3, -0.4, 0.3, 1.0, 2.5, 5.5, 12.0], dtype=torch.float64)
    with torch.no_grad():
        found = module(x.view(1, 1, -1)).view(-1)
    for point, y, d in zip(x.tolist(), found.tolist(), derivative(module, x).tolist(), strict=True):
        assert y == pytest.approx(float(value(mp.mpf(point))), rel=1e-6, abs=1e-12)
        assert d == pytest.approx(float(slope(mp.mpf(point))), rel=1e-6, abs=1e-12)


def test_every_row_is_worded() -> None:
    assert set(ACTIVATIONS) <= set(WORDED)


@pytest.mark.parametrize(
    ("module", "where", "value"),
    [
        (nn.Mish(), -1.1924, -0.30884),
        (nn.SiLU(), -1.2785, -0.27846),
        (Swish(2.0), -0.63923, -0.13923),
        (nn.GELU(), -0.7518, -0.16997),
        (nn.Hardswish(), -1.5, -0.375),
    ],
    ids=repr,
)
def test_minimum(module: nn.Module, where: float, value: float) -> None:
    found = minimum(module)
    assert found is not None
    assert found[0] == pytest.approx(where, abs=2e-4)
    assert found[1] == pytest.approx(value, abs=1e-5)


def test_relu_has_no_valley_and_no_area() -> None:
    for module in (nn.ReLU(), nn.ReLU6()):
        assert minimum(module) is None
        assert area(module) == 0.0


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.SiLU(), math.pi**2 / 12),
        (Swish(2.0), math.pi**2 / 48),
        (nn.GELU(), 0.25),
        (nn.Hardswish(), 0.75),
        (nn.Mish(), area_factor(1.0)),
        (BeaMish(0.5, 1.5), area_factor(1.5) / 0.25),
        (BeaMish.normalized(3.0, area=0.4), 0.4),
    ],
    ids=repr,
)
def test_area(module: nn.Module, expected: float) -> None:
    assert area(module) == pytest.approx(expected, rel=1e-7)


def test_gain_of_relu_is_that_of_he() -> None:
    assert gain(nn.ReLU()) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_gain_keeps_the_second_moment_through_a_deep_stack() -> None:
    """Twenty layers of 512: with the gain of its activation the second moment stays near 1, with that of ReLU it drifts away."""
    module = activation("beamish(alpha=0.5,beta=1)")()
    generator = torch.Generator().manual_seed(0)

    def through(scale: float) -> float:
        z = torch.randn(256, 512, generator=generator)
        for _ in range(20):
            z = module(z) @ (torch.randn(512, 512, generator=generator) * scale / 512**0.5)
        return float(z.square().mean())

    assert 0.5 < through(gain(module)) < 2.0
    assert not 0.25 < through(gain(nn.ReLU())) < 4.0
