"""Recycling without data: what removed channels gave to the next layer is given back by kept ones, from filter geometry (DESIGN 5.4).

Filters of one layer read the same patches. For patches of covariance Sigma their outputs correlate as

    S_ij = w_i' Sigma w_j / sqrt(w_i' Sigma w_i  w_j' Sigma w_j),

and batch-norm says how each is distributed: z_i ~ N(beta_i, gamma_i^2). So the mean m and covariance C of the features f(z) are
known without an image, and with them the best linear prediction of the removed features from the kept ones,

    x_R ~ A x_K + c,   A = C_RK (C_KK + ridge)^-1,   c = m_R - A m_K,

which the next layer takes in: W_K += W_R A, and W_R c goes to its bias. It is the linear regression of ``features`` on the moments
of a model instead of those of images. Sigma: pixels correlate by RHO to the power of their distance, channels do not. A layer without
batch-norm is taken to read inputs of mean 0 and variance 1.

The moments are a sum over Hermite polynomials (Mehler's formula; for ReLU and mean 0 this is the arc-cosine kernel of Y. Cho,
L. Saul, NIPS 2009): with f(mu_i + sigma_i u) = sum_n a_in h_n(u), h_n orthonormal under the normal distribution,

    E f(z_i) = a_i0,   Cov(f(z_i), f(z_j)) = sum_{n >= 1} a_in a_jn S_ij^n.

Any activation will do, mean and scale need not be 0 and 1, nothing is drawn at random, and C is positive semidefinite.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from gleanet.nn.activations import is_activation
from gleanet.nn.trace import batch_norms_behind, call_name, calls
from gleanet.prune.apply import add_to_output, contribution
from gleanet.prune.calls import ELEMENTWISE as CALLED_ELEMENTWISE
from gleanet.prune.calls import MEASURING, MOVING, POOLING, SIZING
from gleanet.prune.channels import ELEMENTWISE, POOLS
from gleanet.prune.groups import Group, Grouping, Member
from gleanet.prune.layers import BATCH_NORMS, CONVS, filters, group_count, is_depthwise, weight_of
from gleanet.prune.least_squares import cholesky
from gleanet.prune.observe import channel_dim
from gleanet.prune.plan import Plan

# ResNet-20 at half the MACs by l2, no training, 2000 images of CIFAR-10 (JPEG q75): plain removal 17.2 %; rho 0, 0.5, 0.9: 34.8, 37.8,
# 38.1 %; ridge 1e-3, 1e-2, 0.1: 37.8, 37.7, 36.5 %. At 0.7 of the MACs: 57.0; 69.6, 71.0, 71.4; 71.0, 71.0, 70.7 %.
RHO = 0.5
TERMS = 48  # Hermite polynomials; what they leave of a variance is added to the last
_REACH, _POINTS = 10.0, 4001  # the grid on which an activation is integrated
_STILL = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "contiguous", "clone", "detach")

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Response:
    """What a channel goes through behind its filter: the batch-norm (None: none), the activation, the layers that then read it."""

    norm: nn.Module | None
    activation: Function
    readers: tuple[Member, ...]


def recycle_similarity(model: nn.Module, plan: Plan, grouping: Grouping, *, rho: float = RHO) -> None:
    """Give back, in place, what the channels that a plan drops gave to the layers that read them; those then read nothing of them.

    Left as they are: groups whose channels several layers produce (residual widths, depthwise convolutions) or that are tied to each
    other, and channels that meet more on their way than one batch-norm, elementwise activations, pooling and reshaping (gates, norms
    of other kinds, layers that are called twice).

    Args:
        model: a copy of the network that ``grouping`` was found in.
        plan: which channels stay; they are not removed here.
        grouping: the groups, with the trace of the original network.
        rho: correlation of neighbouring pixels, in [0, 1).
    """
    known = grouping.named()
    for part in plan.groups:
        group = known[part.name]
        response = find_response(grouping, group) if len(part.keep) < part.channels else None
        if response is None:
            continue
        mean, covariance = feature_moments(grouping.traced.get_submodule(group.producers()[0].path), group, response, rho)
        keep, drop = torch.tensor(part.keep), torch.tensor(part.drop())
        factor = cholesky(covariance[keep][:, keep])
        a = torch.cholesky_solve(covariance[keep][:, drop], factor).T  # [dropped, kept]
        c = mean[drop] - a @ mean[keep]
        for member in response.readers:
            _give_back(model, grouping.traced, member, keep, drop, a, c)


def feature_moments(module: nn.Module, group: Group, response: Response, rho: float) -> tuple[Tensor, Tensor]:
    """Mean [C] and covariance [C, C] of a group's features under the model above, float64 on the CPU.

    Args:
        module: the layer that produces the channels.
        group: the group.
        response: what follows the layer.
        rho: correlation of neighbouring pixels.
    """
    kernels = filters(module).cpu().double()
    rows = kernels.reshape(*kernels.shape[:2], -1)  # [out, in / groups, k]
    gram = torch.tensordot(rows @ pixel_correlation(tuple(kernels.shape[2:]), rho), rows, dims=([1, 2], [1, 2]))
    length = gram.diagonal().clamp(min=0).sqrt()
    cosine = gram / torch.outer(length, length).clamp(min=1e-300)
    loc, scale = _distribution(module, response.norm, length)
    coefficients = hermite_coefficients(response.activation, loc, scale)
    own = torch.tensor(group.producers()[0].index)[:, 0]
    coefficients, cosine = coefficients[own], cosine[own][:, own].clamp(-1, 1)
    return coefficients[:, 0], mehler(coefficients, cosine)


def pixel_correlation(kernel: tuple[int, ...], rho: float) -> Tensor:
    """Correlation of the pixels under a kernel, [k, k]: ``rho`` to the power of their Euclidean distance. [1, 1] for a linear layer."""
    grids = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in kernel or (1,)), indexing="ij")
    places = torch.stack([grid.flatten() for grid in grids], 1)
    distance = torch.cdist(places, places)
    return torch.where(distance == 0, 1.0, torch.tensor(rho, dtype=torch.float64) ** distance)


def hermite_coefficients(activation: Function, loc: Tensor, scale: Tensor) -> Tensor:
    """a_n = E[f(loc + scale u) h_n(u)], u ~ N(0, 1), h_n orthonormal Hermite polynomials, by the trapezoid rule.

    Args:
        activation: f, applied to [1, C, points].
        loc, scale: float64 [C].

    Returns:
        [C, TERMS + 2]: n = 0 to TERMS, and what is left of the standard deviation, as if it were all in the next term.
    """
    u = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    step = 2 * _REACH / (_POINTS - 1)
    functions = [torch.exp(-u.square() / 4) / (2 * math.pi) ** 0.25]  # h_n times the root of the density: stays bounded
    functions.append(u * functions[0])
    for n in range(1, TERMS):
        functions.append((u * functions[n] - math.sqrt(n) * functions[n - 1]) / math.sqrt(n + 1))
    with torch.no_grad():
        values = activation((loc[:, None] + scale[:, None] * u)[None])[0].double() * functions[0]
    found = values @ torch.stack(functions, 1) * step
    left = values.square().sum(1) * step - found.square().sum(1)
    return torch.cat([found, left.clamp(min=0).sqrt()[:, None]], 1)


def mehler(coefficients: Tensor, correlation: Tensor) -> Tensor:
    """Covariances [C, C] of functions of correlated normal variables (F. G. Mehler, 1866): sum over n >= 1 of a_in a_jn r_ij^n."""
    total = torch.zeros_like(correlation)
    for column in coefficients.T[1:].flip(0):  # Horner's scheme
        total = (total + torch.outer(column, column)) * correlation
    return total


def find_response(grouping: Grouping, group: Group) -> Response | None:
    """Follow a group from its filters to its readers; None where something on the way is more than the model knows."""
    traced, producers = grouping.traced, group.producers()
    path, counts, modules = producers[0].path, calls(grouping.traced), dict(grouping.traced.named_modules())
    plain = isinstance(modules[path], (*CONVS, nn.Linear)) and not is_depthwise(modules[path])
    if not plain or len(producers) > 1 or group.residual or counts[path] > 1 or any(len(place) > 1 for place in producers[0].index):
        return None
    node = next(n for n in traced.graph.nodes if n.op == "call_module" and n.target == path)
    norm_path = batch_norms_behind(traced).get(path)
    activation: Function = _identity
    norm = modules[norm_path] if norm_path is not None else None
    node = _past(next(iter(node.users)) if norm is not None else node, modules)
    while len(node.users) == 1 and (found := _function(following := next(iter(node.users)), modules)) is not None:
        activation, node = _after(activation, found), _past(following, modules)
    consumers = {member.path: member for member in group.consumers()}
    readers, stack, seen = dict[str, Member](), list(node.users), set[fx.Node]()
    while stack:
        user = stack.pop()
        if user in seen or (user.op != "call_module" and call_name(user) in MEASURING):
            continue
        seen.add(user)
        target = str(user.target)
        if user.op == "call_module" and target in consumers and counts[target] == 1 and group_count(modules[target]) == 1:
            readers[target] = consumers[target]
        elif _passes(user, modules):
            stack.extend(user.users)
        else:
            return None
    return Response(norm, activation, tuple(readers.values()))


def _distribution(module: nn.Module, norm: nn.Module | None, length: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and signed standard deviation [out] of what a layer and its norm give. Without a norm: for inputs of variance 1."""
    bias = module.bias.detach().cpu().double() if isinstance(module.bias, Tensor) else torch.zeros_like(length)
    if norm is None:
        return bias, length
    assert isinstance(norm, BATCH_NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    gamma = norm.weight.detach().cpu().double() if norm.affine else torch.ones_like(mean)
    beta = norm.bias.detach().cpu().double() if norm.affine else torch.zeros_like(mean)
    constant = beta + gamma * (bias - mean) / (var + norm.eps).sqrt()  # what a filter of zeros gives, whatever was recorded
    return torch.where(length > 0, beta, constant), torch.where(length > 0, gamma * (var / (var + norm.eps)).sqrt(), 0.0)


def _past(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """Past what does nothing to a network in use: identities and dropout."""
    while len(node.users) == 1 and _idle(user := next(iter(node.users)), modules):
        node = user
    return node


def _idle(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d))
    return call_name(node) in _STILL


def _passes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a linear combination of channels stays one behind the node (max-pooling counts, though only scaled copies stay so)."""
    if node.op == "call_module":
        return _idle(node, modules) or isinstance(modules[str(node.target)], (*POOLS, nn.Flatten))
    return node.op != "output" and (_idle(node, modules) or call_name(node) in POOLING | MOVING | SIZING | {"mean"})


def _function(node: fx.Node, modules: dict[str, nn.Module]) -> Function | None:
    """The elementwise function that a node applies, on float64; None if it is anything else."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not (isinstance(module, ELEMENTWISE) or is_activation(module)):
            return None
        own = copy.deepcopy(module).cpu().double().eval()
        return lambda z: own(z.clone())
    others = [*node.args[1:], *node.kwargs.values()]
    if call_name(node) not in CALLED_ELEMENTWISE or not node.args or any(isinstance(other, fx.Node) for other in others):
        return None
    if node.op == "call_method":
        return lambda z: getattr(z.clone(), str(node.target))(*node.args[1:], **node.kwargs)
    assert callable(node.target)
    function = node.target
    return lambda z: function(z.clone(), *node.args[1:], **node.kwargs)


def _after(first: Function, then: Function) -> Function:
    return lambda z: then(first(z))


def _identity(z: Tensor) -> Tensor:
    return z


@torch.no_grad()
def _give_back(model: nn.Module, traced: fx.GraphModule, member: Member, keep: Tensor, drop: Tensor, a: Tensor, c: Tensor) -> None:
    """Let one reader take from kept channels what it took from dropped ones: x_drop ~ a x_keep + c."""
    module, norms = model.get_submodule(member.path), batch_norms_behind(traced)
    node = next(n for n in traced.graph.nodes if n.op == "call_module" and n.target == member.path)
    weight, index = filters(module), torch.tensor(member.index, device=weight_of(module).device)
    kept, dropped = index[keep], index[drop]  # [channels, positions of each]
    x = torch.zeros(1, *node.all_input_nodes[0].meta["tensor_meta"].shape[1:]).to(weight)
    last = x.movedim(channel_dim(module, x), -1)
    last[..., dropped] = c.to(weight)[:, None].expand(dropped.shape)
    shift = contribution(module, x, dropped.flatten().tolist())
    weight[:, kept] += torch.tensordot(weight[:, dropped], a.to(weight), dims=([1], [0])).movedim(-1, 1)
    weight[:, dropped.flatten()] = 0.0
    add_to_output(module, model.get_submodule(norms[member.path]) if member.path in norms else None, shift)
