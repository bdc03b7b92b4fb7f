"""The table, and Bea-Mish against its formula in float64."""

import math

import pytest
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import ModelError, SettingsError
from gleanet.nn import ACTIVATIONS, BeaMish, area_factor, beamish
from gleanet.nn.activations import from_spec, gain, spec

PAIRS = [(1.0, 1.0), (1.0, 1.5), (0.3, 2.0), (4.0, 0.7), (20.0, 20.0)]


def inputs() -> Tensor:
    """Both signs, every magnitude from 1e-6 to 1e4, and 0."""
    sizes = torch.logspace(-6, 4, 2001)
    return torch.cat([-sizes.flip(0), torch.zeros(1), sizes])


def reference(x: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Value and derivative in float64, by formulas that share nothing with the implementation: tanh(b ln(1+e^u)) by powers of 1+e^u."""
    u = x.double() * alpha
    log1p = torch.where(u > 0, u + torch.log1p(torch.exp(-u.abs())), torch.log1p(torch.exp(-u.abs()) * (u <= 0)))
    small = torch.exp(-2 * beta * log1p)  # (1 + e^u)^(-2 beta)
    gate = -torch.expm1(-2 * beta * log1p) / (1 + small)
    derivative = gate + x.double() * 4 * small / (1 + small) ** 2 * beta * alpha / (1 + torch.exp(-u))
    return x.double() * gate, derivative


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_beamish_value_and_gradient_are_right_from_minus_1e4_to_1e4(alpha: float, beta: float) -> None:
    x = inputs().requires_grad_()
    y = BeaMish(alpha, beta)(x)
    y.sum().backward()
    value, derivative = reference(x.detach(), alpha, beta)
    assert x.grad is not None
    assert bool(torch.isfinite(y).all())
    assert bool(torch.isfinite(x.grad).all())
    # exp(alpha * x) turns the rounding of its argument into a relative error of |alpha x| ulp in the left tail; the value is tiny there
    near = x.detach() * alpha > -3
    torch.testing.assert_close(y.detach().double()[near], value[near], rtol=1e-6, atol=0)
    torch.testing.assert_close(y.detach().double(), value, rtol=2e-5, atol=1e-37)
    # the derivative is near 1 at most: 3 ulp of 1; with 1 - tanh^2 in place of 4e/(1+e)^2 it would be above
    torch.testing.assert_close(x.grad.double(), derivative, rtol=0, atol=3.6e-7)


def test_beamish_with_factors_one_is_mish() -> None:
    x = inputs()
    torch.testing.assert_close(BeaMish(1.0, 1.0)(x), F.mish(x), rtol=1e-5, atol=1e-30)


def test_large_factors_tend_to_relu() -> None:
    x = torch.linspace(-4, 4, 801)
    torch.testing.assert_close(BeaMish(1000.0, 10.0)(x), F.relu(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels", [None, 3])
def test_gradients_of_input_and_both_factors(channels: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    shape = () if channels is None else (channels,)
    alpha = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    beta = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(beamish, (x, alpha, beta))
    assert torch.autograd.gradgradcheck(beamish, (x, alpha, beta))


def test_learnable_factors_start_where_asked_and_stay_positive() -> None:
    module = BeaMish(0.4, 2.5, learnable=True, channels=3)
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), BeaMish(0.4, 2.5)(x))
    step = torch.optim.SGD(module.parameters(), lr=50.0)
    (-module(x).sum()).backward()
    step.step()
    assert isinstance(module.alpha, Tensor)
    assert isinstance(module.beta, Tensor)
    assert bool((module.alpha > 0).all())
    assert bool((module.beta > 0).all())
    assert not torch.equal(module.beta, torch.full((3,), 2.5))


@pytest.mark.parametrize(("beta", "published"), [(1.0, 0.88363), (1.5, 1.29631), (2.0, 1.68215)])
def test_area_factor_equals_the_published_figures(beta: float, published: float) -> None:
    assert round(area_factor(beta), 5) == published


@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_normalized_has_the_area_asked_for(beta: float) -> None:
    module = BeaMish.normalized(beta, area=0.5)
    x = torch.linspace(-400, 0, 400_001, dtype=torch.float64)
    assert float(torch.trapezoid(-module(x), x)) == pytest.approx(0.5, rel=1e-4)
    assert BeaMish.normalized(1.0).alpha == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_factors_must_be_positive_numbers(alpha: float, beta: float) -> None:
    with pytest.raises(SettingsError, match="must be a positive number"):
        BeaMish(alpha, beta)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_row_makes_new_modules_of_one_sign_structure(name: str) -> None:
    row = ACTIVATIONS[name]
    first, second = row(), row()
    assert first is not second
    assert row.name == name
    assert row.formula
    assert row.reference
    assert not first.state_dict()
    assert float(first(torch.zeros(1, 1))) == 0.0
    assert float(first(torch.full((1, 1), 50.0))) == pytest.approx(6.0 if name == "relu6" else 50.0)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gain_keeps_the_second_moment(name: str) -> None:
    """Against Monte Carlo: E[(gain f(z))^2] = 1."""
    module = ACTIVATIONS[name]()
    z = torch.randn(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    assert float((gain(module) * module(z)).square().mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "module",
    [*(row() for row in ACTIVATIONS.values()), BeaMish(0.5, 2.0), BeaMish(learnable=True, channels=4), nn.GELU(approximate="tanh")],
    ids=repr,
)
def test_spec_makes_an_equal_module(module: nn.Module) -> None:
    x = torch.linspace(-3, 3, 4 * 5).view(1, 4, 5)
    assert torch.equal(from_spec(spec(module))(x), module(x))
    assert spec(from_spec(spec(module))) == spec(module)


def test_unknown_activations_are_named() -> None:
    with pytest.raises(ModelError, match=r"'swich'.*relu, silu, mish, beamish, gelu, hardswish"):
        from_spec({"name": "swich"})
    with pytest.raises(ModelError, match="does not take slope"):
        from_spec({"name": "relu", "slope": 2})
    with pytest.raises(ModelError, match="Tanh is not in the table"):
        spec(nn.Tanh())


@pytest.mark.parametrize("module", [BeaMish(1.0, 1.5), BeaMish(learnable=True), BeaMish(learnable=True, channels=3)], ids=repr)
def test_beamish_is_one_node_of_a_trace(module: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), module)
    traced = torch.fx.symbolic_trace(net)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(traced(x), net(x))
    assert sum(node.target is beamish for node in traced.graph.nodes) == 1
