"""Recycling from filter geometry: moments against brute force, exact where a kept filter is a copy of a removed one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.nn import BeaMish
from gleanet.prune import Member, carry_out, find_groups, least_squares, zero
from gleanet.prune.layers import SCALING, filters
from gleanet.prune.oneshot import Recycle
from gleanet.prune.similarity import feature_moments, find_response, hermite_coefficients, mehler, pixel_correlation
from tests.prune.nets import KINDS, NETS, conv, images, lively, logits
from tests.prune.test_recycle import keeping, twin

X = images(1)
RECYCLE: tuple[Recycle, Recycle] = ("none", "similarity")


@pytest.fixture
def tiny_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "RIDGE", 1e-10)


def integrated(f: Callable[[Tensor], Tensor], loc: list[float], scale: list[float], rho: float) -> tuple[float, float]:
    """Mean of f(z_0) and covariance of f(z_0), f(z_1), by a sum over a plane of two independent normal variables."""
    u = np.linspace(-8, 8, 1001)
    one, other = np.meshgrid(u, u, indexing="ij")
    density = np.exp(-(one**2 + other**2) / 2)
    density /= density.sum()
    z = [loc[0] + scale[0] * one, loc[1] + scale[1] * (rho * one + np.sqrt(1 - rho**2) * other)]
    y = [f(torch.from_numpy(value)).numpy() for value in z]
    means = [float((density * value).sum()) for value in y]
    return means[0], float((density * (y[0] - means[0]) * (y[1] - means[1])).sum())


@pytest.mark.parametrize("f", [F.relu, F.mish, torch.tanh, BeaMish(1.0, 1.5), lambda z: F.leaky_relu(z, 0.2)])
@pytest.mark.parametrize(("loc", "scale"), [([0.0, 0.0], [1.0, 2.0]), ([0.7, -1.1], [0.5, 1.5]), ([-2.0, 0.3], [1.0, -0.8])])
def test_moments_are_those_of_brute_force(f: Callable[[Tensor], Tensor], loc: list[float], scale: list[float]) -> None:
    a = hermite_coefficients(f, torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))
    for rho in (-0.9, -0.3, 0.0, 0.5, 0.97):
        mean, covariance = integrated(f, loc, scale, rho)
        found = mehler(a, torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))
        assert float(a[0, 0]) == pytest.approx(mean, abs=2e-5)
        assert float(found[0, 1]) == pytest.approx(covariance, abs=2e-4 * float((found[0, 0] * found[1, 1]).sqrt()) + 1e-5)


def test_without_mean_relu_gives_the_arc_cosine_kernel() -> None:
    """Y. Cho, L. Saul, NIPS 2009, equation 3 for n = 1, halved, less the product of the means; at 1 too, where series converge last."""
    rho = torch.linspace(-1, 1, 41, dtype=torch.float64)
    a = hermite_coefficients(F.relu, torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = torch.stack([mehler(a, r.reshape(1, 1))[0, 0] for r in rho])
    theta = rho.arccos()
    expected = (theta.sin() + (torch.pi - theta) * rho) / (2 * torch.pi) - 1 / (2 * torch.pi)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-4)
    torch.testing.assert_close(found[5:], expected[5:], rtol=0, atol=1e-5)
    assert float(found[-1]) == pytest.approx(0.5 - 1 / (2 * torch.pi), abs=1e-6)


def test_a_layer_has_the_moments_of_patches_of_that_correlation() -> None:
    """Drawn patches through the real layers, scale of the norm negative in places, a filter of zeros among them."""
    rho, count = 0.5, 400_000
    layer, norm = conv(2, 5), nn.BatchNorm2d(5)
    net = lively(nn.Sequential(layer, norm, nn.ReLU(), conv(5, 3), nn.Flatten()))
    with torch.no_grad():
        layer.weight[3] = 0
    distance = np.array([[np.hypot(a // 3 - b // 3, a % 3 - b % 3) for b in range(9)] for a in range(9)])
    sigma = torch.from_numpy(np.kron(np.eye(2), rho**distance))
    rows = layer.weight.detach().flatten(1)
    variance = (rows @ sigma @ rows.T).diagonal()
    norm.running_var, norm.running_mean = variance.clone(), torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(count, 18, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(sigma).T
    outputs = patches @ rows.T + norm.running_mean
    outputs[:, 3] = 0
    z = F.relu(norm(outputs[:, :, None, None]).flatten(1)).detach()
    grouping = find_groups(net, images(1, shape=(2, 6, 6)))
    response = find_response(grouping, grouping.groups[0])
    assert response is not None
    mean, covariance = feature_moments(layer, grouping.groups[0], response, rho)
    torch.testing.assert_close(mean, z.mean(0), rtol=0, atol=0.01 * float(z.std()))
    torch.testing.assert_close(covariance, torch.cov(z.T), rtol=0, atol=0.01 * float(z.var()))


def test_pixels_correlate_by_distance() -> None:
    found = pixel_correlation((3, 3), 0.5)
    assert float(found[0, 1]) == 0.5
    assert float(found[0, 8]) == pytest.approx(0.5**8**0.5)
    assert torch.equal(pixel_correlation((3, 3), 0.0), torch.eye(9, dtype=torch.float64))
    assert torch.equal(pixel_correlation((), 0.5), torch.ones(1, 1, dtype=torch.float64))


HANDLED = {
    "resnet8": {"layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"},
    "chain-bare": {"conv1", "conv2", "fc1", "fc2"},
    "chain-module": {"conv1", "conv2", "fc1", "fc2"},
    "fire": {"stem.0", "squeeze1", "wide1", "tall1", "squeeze2", "wide2", "tall2"},
    "inception": {"one.0", "three.0.0", "three.1.0", "five.0", "pooled.0", "after.0", "stem.0"},
    "squeeze-excite": {"down", "after.0"},  # the rest is multiplied by gates
    "mobilenet-v2": {"features.5.0"},  # depthwise convolutions in between
    "dense": set(),  # norms of their own, one for each reader
    "norm-prelu": {"conv1", "conv2", "conv3"},
}


@pytest.mark.parametrize("name", HANDLED)
def test_what_it_can_do(name: str) -> None:
    grouping = find_groups(NETS[name](), X.float())
    assert {group.name for group in grouping.groups if find_response(grouping, group) is not None} == HANDLED[name]


@pytest.mark.usefixtures("tiny_ridge")
@pytest.mark.parametrize("name", KINDS)
def test_copies_up_to_scale_are_given_back_exactly(name: str) -> None:
    """A filter with the same weights and norm; where all on the way is positively homogeneous, also one that is 3 times as strong."""
    for factor in (1.0, 3.0):
        net = lively(NETS[name]())
        grouping = find_groups(net, X)
        groups = [group for group in grouping.groups if find_response(grouping, group) is not None]
        scaled = name not in ("resnet8-beamish", "resnet8-mish", "chain-sigmoid", "norm-beamish")
        for group in groups:
            twin(net, group, 0, group.channels - 1)
            if scaled:
                _strengthen(net, group.members, group.channels - 1, factor)
        plan = keeping(grouping, {group.name: tuple(range(group.channels - 1)) for group in groups})
        x = images(4)
        plain, small = (carry_out(net, plan, recycle=how, grouping=grouping) for how in RECYCLE)
        before = logits(net, x)
        assert float((logits(small, x) - before).abs().max()) < 2e-5 * max(1.0, float(before.abs().max()))
        if name in ("resnet8", "option-b", "chain-module", "chain-bare", "fire", "inception"):  # elsewhere the copy may be silent
            assert float((logits(plain, x) - before).abs().max()) > 1e-3


@torch.no_grad()
def _strengthen(net: nn.Module, members: tuple[Member, ...], channel: int, factor: float) -> None:
    norms = [m for m in members if m.role == "norm" and isinstance(net.get_submodule(m.path), SCALING)]
    for member in norms or [m for m in members if m.role == "out"]:
        module = net.get_submodule(member.path)
        tensors = [filters(module) if member.role == "out" else module.weight, module.bias]
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                tensor[list(member.index[channel])] *= factor


@pytest.mark.parametrize("name", KINDS)
def test_filters_of_zeros_are_folded_as_removal_folds_them(name: str) -> None:
    """Their constant is all they give; nothing else is given back, and nothing twice."""
    net = lively(NETS[name]())
    grouping = find_groups(net, X)
    plan = keeping(grouping, {group.name: tuple(range(1, group.channels)) for group in grouping.groups})
    with torch.no_grad():
        for group in grouping.groups:
            for member in group.producers():
                filters(net.get_submodule(member.path))[list(member.index[0])] = 0
    plain, small = (carry_out(net, plan, recycle=how, grouping=grouping) for how in RECYCLE)
    torch.testing.assert_close(logits(small, images(4)), logits(plain, images(4)), rtol=1e-9, atol=1e-9)
    nothing = zero(net, plan, grouping=grouping)
    small = carry_out(nothing, plan, recycle="similarity", grouping=find_groups(nothing, X))
    torch.testing.assert_close(logits(small, images(4)), logits(nothing, images(4)), rtol=1e-9, atol=1e-9)


def typical(net: nn.Module, seed: int) -> nn.Module:
    """Random filters, and the statistics that batch-norm would have recorded on images."""
    net = lively(net, seed).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    logits(net, images(64, seed=5))
    return net.eval()


@pytest.mark.parametrize("name", ["option-b", "chain-torch", "chain-bare", "fire", "norm-group", "resnet8", "resnet8-mish", "inception"])
def test_the_output_comes_closer_to_the_original(name: str) -> None:
    """Without a norm too, where the scale of what a layer reads is a guess. Geometric mean over networks, on images never used."""
    ratios = []
    for seed in range(4):
        net, x = typical(NETS[name](), seed), images(32, seed=9)
        grouping = find_groups(net, X)
        plan = keeping(grouping, {g.name: tuple(range(g.channels // 3, g.channels)) for g in grouping.groups})
        plain, small = (carry_out(net, plan, recycle=how, grouping=grouping) for how in RECYCLE)
        ratios.append(float((logits(small, x) - logits(net, x)).square().mean() / (logits(plain, x) - logits(net, x)).square().mean()))
    assert float(np.exp(np.mean(np.log(ratios)))) < 0.9
