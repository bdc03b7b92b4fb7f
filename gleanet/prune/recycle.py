"""One-shot recycling of features: what the removed channels gave to the next layer is given back by the kept ones (DESIGN 5.4).

Front to back, each layer that lost inputs is solved anew by ridge regression, so that on the kept channels of the *already pruned*
network it yields what it yielded in the *original* network. Where a residual add follows, the target also contains what the
shortcut has lost so far: errors of earlier blocks are corrected instead of passed on. After Y. He et al., "Channel Pruning for
Accelerating Very Deep Neural Networks" (ICCV 2017, section 3.2.2), which reconstructs from the original network's inputs and without
the shortcut's error in the target.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from gleanet.core.progress import SILENT, Progress
from gleanet.prune.apply import add_to_output
from gleanet.prune.groups import Grouping
from gleanet.prune.layers import BATCH_NORMS, group_count, weight_of, widths
from gleanet.prune.least_squares import LARGEST, ROWS, Moments, columns, image_batches, refittable, ridged, rows_and_places
from gleanet.prune.plan import Plan
from gleanet.prune.trace import batch_norms_behind, call_name, calls, evaluating

RIDGE = 1e-3
FAINTEST = 1e-3  # batch-norm scales below this cannot carry a correction of the shortcut


@dataclass(frozen=True)
class _Shortcut:
    """The other operand of the add behind a layer, and the scale [out] between the layer's output and the add's input."""

    node: fx.Node
    scale: Tensor


@dataclass(frozen=True)
class _Job:
    """A layer to refit: the output positions it keeps (None: all), the batch-norm behind it, and the shortcut it is added to.

    ``given`` [out] is what removal has added to the layer's output already, by the mean of that batch-norm.
    """

    kept: Tensor | None
    norm: nn.Module | None
    given: Tensor | None
    shortcut: _Shortcut | None


@dataclass
class _Walk:
    """Values of one network's graph nodes, for every batch. In-place operations act in place, as they do in the network."""

    modules: dict[str, nn.Module]
    batches: list[Tensor]
    values: dict[fx.Node, list[Any]] = field(default_factory=dict)

    def compute(self, node: fx.Node) -> None:
        self.values[node] = [self._one(node, index) for index in range(len(self.batches))]

    def _one(self, node: fx.Node, index: int) -> Any:
        if node.op == "placeholder":
            return self.batches[index].clone() if "tensor_meta" in node.meta else next(iter(node.args), None)
        args = fx.node.map_arg(node.args, lambda n: self.values[n][index])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: self.values[n][index])
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self.modules[""])
        function: Callable[..., Any] = node.target  # type: ignore[assignment]
        return function(*args, **kwargs)


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
    """Refit, in place, every layer of ``small`` that lost inputs: linear layers and 2-d convolutions, grouped ones too.

    Layers that are called twice, and 1-d, 3-d and transposed convolutions, are left as they are; what they lack is part of the next
    layer's target. A layer with more than ``LARGEST`` columns only has its mean output restored.

    Args:
        dense: the original network.
        small: what :func:`gleanet.prune.apply.apply` made of it.
        plan: the plan between the two.
        grouping: the groups of ``dense``, with its trace.
        calibration: batches of images float [B, C, H, W]; a few hundred to a thousand images, as the network sees them in use.
        seed: draws the positions that are sampled.
    """
    batches = image_batches(calibration, grouping)
    per_image = -(-ROWS // sum(len(b) for b in batches))
    generator = torch.Generator().manual_seed(seed)
    full, slim = (_Walk(dict(net.named_modules()), batches) for net in (dense, small))
    jobs = _jobs(plan, grouping, full.modules, slim.modules)
    order = _order(jobs)
    last_use = {needed: node for node in order for needed in _needs(node, jobs)}
    with evaluating(dense, small), progress.task("Recycle features", len(jobs), "layers") as advance:
        for node in order:
            full.compute(node)
            if node in jobs:
                _refit(node, jobs[node], full, slim, per_image, generator)
                advance(1)
            slim.compute(node)
            for dead in [n for n in full.values if last_use.get(n, n) is node]:
                del full.values[dead], slim.values[dead]


def _jobs(plan: Plan, grouping: Grouping, dense: dict[str, nn.Module], modules: dict[str, nn.Module]) -> dict[fx.Node, _Job]:
    """The layers that read pruned channels and can be solved for, by node, in the order of the graph."""
    known, lost, kept = grouping.named(), set[str](), _kept_rows(plan, grouping)
    for part in plan.groups:
        if len(part.keep) < part.channels:
            lost.update(m.path for m in known[part.name].consumers())
    norms, counts = batch_norms_behind(grouping.traced), calls(grouping.traced)
    jobs: dict[fx.Node, _Job] = {}
    for node in grouping.traced.graph.nodes:
        path = str(node.target)
        if node.op == "call_module" and path in lost and counts[path] == 1 and refittable(modules[path]):
            norm = modules[norms[path]] if path in norms else None
            given = None if norm is None else _mean(dense[norms[path]], kept.get(path)) - _mean(norm, None)
            jobs[node] = _Job(kept.get(path), norm, given, _shortcut(node, norm, modules[path], jobs))
    return jobs


def _mean(norm: nn.Module, kept: Tensor | None) -> Tensor:
    """A copy of a batch-norm's mean, of its kept entries."""
    mean = norm.running_mean
    assert isinstance(mean, Tensor)
    return mean.clone() if kept is None else mean[kept]


def _kept_rows(plan: Plan, grouping: Grouping) -> dict[str, Tensor]:
    """Output positions that a layer keeps, by path, for layers that lose some."""
    known, result = grouping.named(), dict[str, Tensor]()
    for part in plan.groups:
        for member in known[part.name].producers():
            weight = weight_of(grouping.traced.get_submodule(member.path))
            size = widths(grouping.traced.get_submodule(member.path))[0]
            mask = result.setdefault(member.path, torch.ones(size, dtype=torch.bool, device=weight.device))
            mask[member.positions(list(part.drop()))] = False
    return {path: mask.nonzero().flatten() for path, mask in result.items() if not bool(mask.all())}


def _shortcut(node: fx.Node, norm: nn.Module | None, module: nn.Module, jobs: dict[fx.Node, _Job]) -> _Shortcut | None:
    """The shortcut that is added to a layer's (normalised) output, if that can be computed before the layer is refitted."""
    tail, scale = node, torch.ones(widths(module)[0]).to(weight_of(module))
    if isinstance(norm, BATCH_NORMS) and norm.running_var is not None:
        tail = next(iter(node.users))
        gamma = norm.weight.detach() if norm.affine else torch.ones_like(norm.running_var)
        scale = gamma / (norm.running_var + norm.eps).sqrt()
    users = list(tail.users)
    if len(users) != 1 or call_name(users[0]) not in ("add", "add_", "iadd") or len(users[0].args) != 2 or users[0].kwargs:
        return None
    others = [a for a in users[0].args if a is not tail]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or _depends(others[0], node, jobs):
        return None
    return _Shortcut(others[0], scale)


def _needs(node: fx.Node, jobs: dict[fx.Node, _Job]) -> list[fx.Node]:
    """Nodes whose values must be there when a node's turn comes: its inputs first, then its shortcut."""
    job = jobs.get(node)
    return [*node.all_input_nodes, *([job.shortcut.node] if job and job.shortcut else [])]


def _depends(node: fx.Node, on: fx.Node, jobs: dict[fx.Node, _Job]) -> bool:
    seen, stack = set[fx.Node](), [node]
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current not in seen:
            seen.add(current)
            stack.extend(_needs(current, jobs))
    return False


def _order(jobs: dict[fx.Node, _Job]) -> list[fx.Node]:
    """All nodes that the jobs need, each after what it needs. A downsampling shortcut is refitted before the layer it is added to."""
    order: dict[fx.Node, None] = {}
    for job in jobs:
        stack = [job]
        while stack:
            missing = [n for n in _needs(stack[-1], jobs) if n not in order]
            if missing:
                stack.append(missing[0])
            else:
                order[stack.pop()] = None
    return list(order)


def _refit(node: fx.Node, job: _Job, full: _Walk, slim: _Walk, per_image: int, generator: torch.Generator) -> None:
    module = slim.modules[str(node.target)]
    solvable = columns(module) <= LARGEST
    width = columns(module) if solvable else 0
    moments = Moments.empty(width + widths(module)[0])
    for index, x in enumerate(slim.values[node.all_input_nodes[0]]):
        rows, places = rows_and_places(module, x, per_image, generator)
        lacking = _lacking(module, x, job, index, full.values[node][index], full, slim)
        if isinstance(module, nn.Linear):
            wanted = lacking.reshape(len(x), -1, lacking.shape[-1])[:, places]
        else:
            wanted = lacking.flatten(2)[:, :, places].permute(0, 2, 1)
        wanted = wanted.reshape(len(rows), -1)
        moments.add(torch.cat([rows, wanted], dim=1) if solvable else wanted)
    _solve(module, job.norm, moments, width)


def _lacking(module: nn.Module, x: Tensor, job: _Job, index: int, target: Tensor, full: _Walk, slim: _Walk) -> Tensor:
    """What a layer's output lacks, of the shape of that output, the shortcut's loss included."""
    dim = target.dim() - 1 if isinstance(module, nn.Linear) else 1
    shape = [-1 if d == dim else 1 for d in range(target.dim())]
    lacking: Tensor = (target if job.kept is None else target.index_select(dim, job.kept)) - module(x)
    if job.given is not None:
        lacking -= job.given.reshape(shape)
    if job.shortcut is None:
        return lacking
    whole, pruned = (walk.values[job.shortcut.node][index] for walk in (full, slim))
    if job.kept is not None and whole.shape[dim] == target.shape[dim]:
        whole = whole.index_select(dim, job.kept)
    if not whole.shape == pruned.shape == lacking.shape:
        return lacking
    usable = job.shortcut.scale.abs() > FAINTEST
    factor = torch.where(usable, 1 / torch.where(usable, job.shortcut.scale, 1.0), 0.0)
    lacking += (whole - pruned) * factor.reshape(shape)
    return lacking


def _solve(module: nn.Module, norm: nn.Module | None, moments: Moments, width: int) -> None:
    """Ridge regression towards the old weights: dW = (Cov(x) + ridge)^-1 Cov(x, lacking); the means go to the bias."""
    mean, weight = moments.mean(), weight_of(module)
    shift = mean[width:].clone()
    if width:
        covariance, groups = moments.covariance(), group_count(module)
        changes = []
        for x, y in zip(torch.arange(width).chunk(groups), torch.arange(width, len(mean)).chunk(groups), strict=True):
            factor = torch.linalg.cholesky(ridged(covariance[x][:, x], RIDGE))
            changes.append(torch.cholesky_solve(covariance[x][:, y], factor).T)  # [out / groups, width / groups]
            shift[y - width] -= changes[-1] @ mean[x]
        with torch.no_grad():
            weight += torch.cat(changes).reshape(weight.shape).to(weight)
    add_to_output(module, norm, shift.to(weight))
