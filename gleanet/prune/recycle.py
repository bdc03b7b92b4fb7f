"""One-shot recycling: what the removed channels gave to the next layer is given back by the kept ones (DESIGN 5.4).

``features``: front to back, each layer that lost inputs is solved anew by ridge regression, so that on the kept channels of the
*already pruned* network it yields what it yielded in the *original* network. Where a residual add follows, the target also
contains what the shortcut has lost so far: errors of earlier blocks are corrected instead of passed on. After Y. He et al.,
"Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017, section 3.2.2), which reconstructs from the original
network's inputs and without the shortcut's error in the target.

``weights``: the mixed contribution collector of FCR, once (DESIGN 5.3, steps 3 and 4).
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from gleanet.core.progress import SILENT, Progress
from gleanet.prune.apply import add_to_output
from gleanet.prune.channels import NORMS
from gleanet.prune.groups import Grouping
from gleanet.prune.least_squares import ROWS, Moments, image_batches, matrix, refittable, ridged, rows_and_places
from gleanet.prune.plan import Plan

RIDGE = 1e-3
FAINTEST = 1e-3  # batch-norm scales below this cannot carry a correction of the shortcut


@dataclass(frozen=True)
class _Shortcut:
    """The other operand of the add behind a layer, and the scale between the layer's output and the add's input."""

    node: fx.Node
    scale: torch.Tensor


@dataclass
class _Walk:
    """Values of one network's graph nodes, for every batch, computed on demand and dropped after their last use."""

    modules: dict[str, nn.Module]
    batches: list[torch.Tensor]
    values: dict[fx.Node, list[Any]] = field(default_factory=dict)

    def need(self, node: fx.Node) -> list[Any]:
        if node not in self.values:
            for parent in node.all_input_nodes:
                self.need(parent)
            self.values[node] = [self._compute(node, index) for index in range(len(self.batches))]
        return self.values[node]

    def _compute(self, node: fx.Node, index: int) -> Any:
        if node.op == "placeholder":
            return self.batches[index]
        args = fx.node.map_arg(node.args, lambda n: self.values[n][index])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: self.values[n][index])
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.modules[""])
        function: Callable[..., Any] = node.target  # type: ignore[assignment]
        # in-place arithmetic would change a value that the other branch still needs
        function = {operator.iadd: operator.add, operator.imul: operator.mul}.get(function, function)
        return function(*args, **kwargs)


@torch.no_grad()
def recycle_features(
    dense: nn.Module,
    small: nn.Module,
    plan: Plan,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Refit, in place, every layer of ``small`` that lost inputs.

    Args:
        dense: the original network.
        small: what :func:`gleanet.prune.apply.apply` made of it.
        plan: the plan between the two.
        grouping: the groups of ``dense``, with its trace.
        calibration: batches of images float [B, C, H, W]; a few hundred to a thousand images, as the network sees them in use.
        seed: draws the positions that are sampled.
    """
    batches = image_batches(calibration)
    kept = _kept_rows(plan, grouping)
    targets = [n for n in grouping.traced.graph.nodes if _lost_inputs(n, plan, grouping)]
    per_image = -(-ROWS // sum(len(b) for b in batches))
    generator = torch.Generator().manual_seed(seed)
    modes = [(net, net.training) for net in (dense, small)]
    for net, _ in modes:
        net.eval()
    full, slim = (_Walk(dict(net.named_modules()), batches) for net in (dense, small))
    last_use = _last_uses(grouping.traced.graph)
    with progress.task("Recycle features", len(targets), "layers") as advance:
        for node in grouping.traced.graph.nodes:
            if node.op == "output":
                break
            if node in targets:
                module, norm = slim.modules[str(node.target)], _norm_behind(node, slim.modules)
                moments, width = _moments(node, full, slim, kept.get(str(node.target)), _shortcut(node, slim), per_image, generator)
                _solve(module, norm, moments, width)
                advance(1)
            full.need(node)
            slim.need(node)
            for walk in (full, slim):
                for dead in [n for n in walk.values if n in last_use and last_use[n] is node]:
                    del walk.values[dead]
    for net, mode in modes:
        net.train(mode)


def _kept_rows(plan: Plan, grouping: Grouping) -> dict[str, torch.Tensor]:
    """Output positions that a layer keeps, by path, for layers that lose some."""
    known, gone = grouping.named(), dict[str, set[int]]()
    sizes = {m.path: grouping.traced.get_submodule(m.path) for g in grouping.groups for m in g.producers()}
    for part in plan.groups:
        for member in known[part.name].producers():
            gone.setdefault(member.path, set()).update(p for c in part.drop() for p in member.index[c])
    result = {}
    for path, positions in gone.items():
        weight = sizes[path].weight
        assert isinstance(weight, torch.Tensor)
        result[path] = torch.tensor([p for p in range(weight.shape[0]) if p not in positions])
    return result


def _lost_inputs(node: fx.Node, plan: Plan, grouping: Grouping) -> bool:
    """Whether a node is a layer that reads pruned channels and can be solved for."""
    if node.op != "call_module":
        return False
    module = grouping.traced.get_submodule(str(node.target))
    if not refittable(module) or getattr(module, "groups", 1) != 1:
        return False
    known = grouping.named()
    return any(m.path == node.target and part.drop() for part in plan.groups for m in known[part.name].consumers())


def _last_uses(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    return {parent: node for node in graph.nodes for parent in node.all_input_nodes}


def _norm_behind(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    users = list(node.users)
    if len(users) == 1 and users[0].op == "call_module" and isinstance(modules[str(users[0].target)], NORMS):
        return modules[str(users[0].target)]
    return None


def _shortcut(node: fx.Node, walk: _Walk) -> _Shortcut | None:
    """The shortcut that is added to a layer's (normalised) output, if it does not depend on that output."""
    tail, scale = node, None
    norm = _norm_behind(node, walk.modules)
    if norm is not None and isinstance(norm.running_var, torch.Tensor):
        tail = next(iter(node.users))
        gamma = norm.weight if isinstance(norm.weight, torch.Tensor) else torch.ones_like(norm.running_var)
        scale = gamma / (norm.running_var + float(norm.eps)).sqrt()  # type: ignore[arg-type]
    users = list(tail.users)
    adds = (operator.add, operator.iadd, torch.add)
    if len(users) != 1 or users[0].target not in (*adds, "add", "add_") or len(users[0].args) != 2:
        return None
    others = [a for a in users[0].args if a is not tail]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or _depends(others[0], node):
        return None
    weight = walk.modules[str(node.target)].weight
    assert isinstance(weight, torch.Tensor)
    return _Shortcut(others[0], torch.ones(weight.shape[0]).to(weight) if scale is None else scale)


def _depends(node: fx.Node, on: fx.Node) -> bool:
    seen, stack = set[fx.Node](), [node]
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current not in seen:
            seen.add(current)
            stack.extend(current.all_input_nodes)
    return False


def _moments(
    node: fx.Node, full: _Walk, slim: _Walk, kept: torch.Tensor | None, shortcut: _Shortcut | None, per_image: int, generator: torch.Generator
) -> tuple[Moments, int]:
    """Moments of rows [patch of the pruned network's input | what its output lacks], and the patch's width."""
    module = slim.modules[str(node.target)]
    source = node.all_input_nodes[0]
    inputs, wanted = slim.need(source), full.need(node)
    lost = (full.need(shortcut.node), slim.need(shortcut.node)) if shortcut else None
    moments: Moments | None = None
    width = 0
    for index, x in enumerate(inputs):
        rows, places = rows_and_places(module, x, per_image, generator)
        target = wanted[index] if kept is None else wanted[index][:, kept]
        lacking = target - module(x)
        if lost is not None and shortcut is not None and lost[0][index].shape == lost[1][index].shape == lacking.shape:
            usable = shortcut.scale.abs() > FAINTEST
            factor = torch.where(usable, 1 / torch.where(usable, shortcut.scale, 1.0), 0.0)
            lacking = lacking + (lost[0][index] - lost[1][index]) * factor.reshape(1, -1, *[1] * (lacking.dim() - 2))
        if isinstance(module, nn.Linear):
            flat = lacking.reshape(len(x), -1, lacking.shape[-1])[:, places]
        else:
            flat = lacking.flatten(2)[:, :, places].permute(0, 2, 1)
        width = rows.shape[1]
        moments = moments or Moments.empty(width + flat.shape[-1])
        moments.add(torch.cat([rows, flat.reshape(len(rows), -1)], dim=1))
    assert moments is not None
    return moments, width


def _solve(module: nn.Module, norm: nn.Module | None, moments: Moments, width: int) -> None:
    """Ridge regression towards the old weights: dW = (Cov(x) + ridge)^-1 Cov(x, lacking); the means go to the bias."""
    covariance, mean = moments.covariance(), moments.mean()
    factor = torch.linalg.cholesky(ridged(covariance[:width, :width], RIDGE))
    change = torch.cholesky_solve(covariance[:width, width:], factor).T  # [out, width]
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    weight.copy_((matrix(module) + change.to(weight.device)).reshape(weight.shape))
    add_to_output(module, norm, (mean[width:] - change @ mean[:width]).to(weight.device))


@torch.no_grad()
def recycle_weights(model: nn.Module, plan: Plan, grouping: Grouping, *, strength: float = 1.0) -> None:
    """Collect and assign once, in place (DESIGN 5.3, steps 3 and 4): kept filters take a share of the dropped ones' mixture."""
    known = grouping.named()
    for part in plan.groups:
        drop = torch.tensor(part.drop(), dtype=torch.long)
        for member in known[part.name].producers():
            module = model.get_submodule(member.path)
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if len(drop) and all(len(positions) == 1 for positions in member.index):
                order = torch.tensor([positions[0] for positions in member.index])
                collect_and_assign(weight, order[list(part.keep)], order[drop], weight.detach().flatten(1).norm(dim=1)[order], order, strength, False)


@torch.no_grad()
def collect_and_assign(
    weight: torch.Tensor, keep: torch.Tensor, drop: torch.Tensor, score: torch.Tensor, order: torch.Tensor, strength: float, aligned: bool
) -> None:
    """Steps 3 and 4 of FCR on one weight tensor, in place.

    The mixed contribution collector ``M = sum_{i in S} (s_i / sum_S s) W_i`` is added to each preserved filter in proportion to its keep
    probability: ``W_j += strength * (p_j / max_P p) * a_j * M``, where ``a_j`` is 1, or ``max(0, cos(W_j, M))`` if ``aligned``.

    Args:
        weight: [out, ...].
        keep: positions of the preserved filters P.
        drop: positions of the small filters S.
        score: s >= 0 of the group's channels [C].
        order: position in ``weight`` of each channel [C].
        strength: rho.
        aligned: use the alignment factor.
    """
    by_position = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
    by_position[order] = score.to(weight)
    small, big = by_position[drop], by_position[keep]
    if float(small.sum()) <= 0 or float(big.max()) <= 0:
        return
    rows = weight.flatten(1)
    collector = (small / small.sum()) @ rows[drop]
    share = big / big.max()
    if aligned:
        share = share * torch.nn.functional.cosine_similarity(rows[keep], collector[None]).clamp(min=0)
    rows[keep] += strength * share[:, None] * collector
