"""The table, names with factors, records of modules; the gain; Bea-Mish's place in the family. Its arithmetic: test_beamish.py."""

import math

import pytest
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import ModelError, SettingsError
from gleanet.nn import ACTIVATIONS, BeaMish, Swish, area_factor, beamish, build
from gleanet.nn.activations import activation, from_spec, spec, split_names
from gleanet.nn.family import gain


def inputs() -> Tensor:
    """Both signs, every magnitude from 1e-6 to 1e4, and 0."""
    sizes = torch.logspace(-6, 4, 2001)
    return torch.cat([-sizes.flip(0), torch.zeros(1), sizes])


def test_beamish_with_factors_one_is_mish() -> None:
    x = inputs()
    torch.testing.assert_close(BeaMish(1.0, 1.0)(x), F.mish(x), rtol=1e-5, atol=1e-30)


def test_large_factors_tend_to_relu() -> None:
    x = torch.linspace(-4, 4, 801)
    torch.testing.assert_close(BeaMish(1000.0, 10.0)(x), F.relu(x), rtol=0, atol=1e-3)


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
    assert bool(first.state_dict()) == (name == "beamish-learnable")
    assert float(first(torch.zeros(1, 1)).detach()) == 0.0
    assert float(first(torch.full((1, 1), 50.0)).detach()) == pytest.approx(6.0 if name == "relu6" else 50.0)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gain_keeps_the_second_moment(name: str) -> None:
    """Against Monte Carlo: E[(gain f(z))^2] = 1."""
    module = ACTIVATIONS[name]()
    z = torch.randn(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = module(z)
    assert float((gain(module) * y).square().mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "module",
    [
        *(row() for row in ACTIVATIONS.values()),
        BeaMish(0.5, 2.0),
        Swish(1.5),
        BeaMish(learnable=True, channels=4),
        nn.GELU(approximate="tanh"),
    ],
    ids=repr,
)
def test_spec_makes_an_equal_module(module: nn.Module) -> None:
    x = torch.linspace(-3, 3, 4 * 5).view(1, 4, 5)
    assert torch.equal(from_spec(spec(module))(x), module(x))
    assert spec(from_spec(spec(module))) == spec(module)


def test_unknown_activations_are_named() -> None:
    with pytest.raises(ModelError, match=r"'swich'.*relu, silu, swish, mish, beta-mish, beamish, .*gelu, hardswish"):
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


def test_factors_are_named_in_a_word() -> None:
    module = activation("beamish(alpha=0.5, beta=2)")()
    assert isinstance(module, BeaMish)
    assert (module.alpha, module.beta) == (0.5, 2.0)
    normal = activation("beamish-normalized(beta=2)")()
    assert isinstance(normal, BeaMish)
    assert normal.alpha == pytest.approx(math.sqrt(area_factor(2.0) / area_factor(1.0)))
    beta = activation("beta-mish(beta=0.7)")()
    assert isinstance(beta, BeaMish)
    assert (beta.alpha, beta.beta) == (1.0, 0.7)
    learned = activation("beamish-learnable(beta=3)")()
    assert isinstance(learned, BeaMish)
    assert learned.learnable
    assert split_names("mish, beamish(alpha=1,beta=1.5),swish(beta=2)") == ("mish", "beamish(alpha=1,beta=1.5)", "swish(beta=2)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mish(beta=2)", "'mish\\(beta=2\\)' does not take 'beta': it has no factors"),
        ("beamish(gamma=2)", "does not take 'gamma': it takes alpha, beta"),
        ("beamish(beta=big)", "beta is 'big', not a number"),
        ("beamish(beta=-1)", "beta must be a positive number, got -1"),
        ("beamish(", "unknown activation 'beamish\\('"),
        ("swish(beta=0)", "beta must be a positive number, got 0"),
    ],
)
def test_words_that_name_nothing_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        activation(text)
    assert "\n" not in str(caught.value)


def test_lists_of_names_are_checked() -> None:
    with pytest.raises(ModelError, match="no activation is named"):
        split_names(" , ")
    with pytest.raises(ModelError, match="'mish' is named twice"):
        split_names("mish,relu,mish")
    with pytest.raises(ModelError, match="unknown activation 'tish'"):
        split_names("mish,tish")


@pytest.mark.parametrize("name", ["relu", "mish", "beamish(alpha=1,beta=4)", "swish(beta=2)", "beamish-learnable(beta=2)"])
@pytest.mark.parametrize("network", ["squeezenet1_1_cifar", "vgg16_bn_cifar", "mobilenet_v2_cifar", "densenet40", "resnet8"])
def test_every_network_takes_a_word_and_is_initialised_with_its_gain(network: str, name: str) -> None:
    net = build(network, activation=name, seed=0)
    kinds = {type(module) for module in net.modules() if type(module) in {row.kind for row in ACTIVATIONS.values()}}
    assert kinds == {type(activation(name)())}
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000]
    expected = gain(activation(name)())
    assert all(float(c.weight.detach().std()) * c.weight[0].numel() ** 0.5 == pytest.approx(expected, rel=0.05) for c in convs)
