"""One-shot recycling of features: what the removed channels gave to the next layer is given back by the kept ones (DESIGN 5.4).

Front to back, each layer behind the first loss is solved anew by ridge regression, so that on the kept channels of the *already
pruned* network it yields what it yielded in the *original* network. Where a residual add follows, the target also contains what the
shortcut has lost so far: errors of earlier blocks are corrected instead of passed on. After Y. He et al., "Channel Pruning for
Accelerating Very Deep Neural Networks" (ICCV 2017, section 3.2.2), which reconstructs from the original network's inputs, only the
layers that lost some, and without the shortcut's error in the target.

Where a ReLU follows, a second solve asks less: what is negative in the original network need only become negative (after X. Zhang
et al., "Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016, section 3.2). What each of the two
brings is measured by benchmarks/pruning_steps.py (docs/evidence.md).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from gleanet.core.progress import SILENT, Progress
from gleanet.nn.trace import batch_norms_behind, call_name, calls, evaluating
from gleanet.prune.apply import add_to_output
from gleanet.prune.groups import Grouping
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.layers import BATCH_NORMS, weight_of, widths
from gleanet.prune.least_squares import LARGEST, ROWS, Regression, columns, image_batches, refittable, rows_and_places
from gleanet.prune.plan import Plan

MEMORY = 4 * 10**9  # bytes of activations that are held: it does not grow with the number of images
OPEN_SOLVES = 1  # before a ReLU: more bring little for their time (benchmarks/pruning_steps.py, docs/evidence.md)
FAINTEST = 1e-3  # batch-norm scales below this cannot carry a correction of the shortcut


@dataclass(frozen=True)
class _Job:
    """A layer to refit: the output positions it keeps (None: all), and what stands between its output and the next activation.

    ``silent``: positions that are there still but held at zero, where the pruned network has all the channels of the original.
    ``dense_norm``, ``norm``: the batch-norm behind it in both networks. ``shortcut``: the other operand of the add behind that.
    ``scale`` [out]: from the layer's output to the input of the add, 1 without a norm. ``rectified``: a ReLU alone reads the result.
    """

    kept: Tensor | None
    silent: Tensor | None
    dense_norm: nn.Module | None
    norm: nn.Module | None
    shortcut: fx.Node | None
    scale: Tensor
    rectified: bool


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


@dataclass(frozen=True)
class _Layer:
    """What refitting a layer changes: its weight and bias, the mean of the norm behind it, and the state that draws positions."""

    path: str
    module: nn.Module
    norm: nn.Module | None
    generator: torch.Generator

    def tensors(self) -> dict[str, Tensor]:
        found = {"weight": weight_of(self.module), "generator": self.generator.get_state()}
        if isinstance(self.module.bias, Tensor):
            found["bias"] = self.module.bias
        if isinstance(getattr(self.norm, "running_mean", None), Tensor):
            found["mean"] = _mean(self.norm, None)
        return {f"{self.path}/{name}": tensor.detach() for name, tensor in found.items()}

    @torch.no_grad()
    def put(self, kept: dict[str, Tensor]) -> bool:
        """Take what was kept of this layer; whether there is anything."""
        found = {name: kept[f"{self.path}/{name}"] for name in ("weight", "bias", "mean", "generator") if f"{self.path}/{name}" in kept}
        if not found:
            return False
        self.generator.set_state(found["generator"])
        weight_of(self.module).copy_(found["weight"])
        if "mean" in found:
            _mean(self.norm, None).copy_(found["mean"])
        if "bias" in found and isinstance(self.module.bias, Tensor):
            self.module.bias.copy_(found["bias"])
        elif "bias" in found:
            self.module.bias = nn.Parameter(found["bias"].to(weight_of(self.module)))
        return True


def recycle_features(
    dense: nn.Module,
    small: nn.Module,
    plan: Plan,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    new_biases: bool = True,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> None:
    """Refit, in place, every layer of ``small`` whose input has changed: linear layers and 2-d convolutions, grouped ones too.

    Layers that are called twice, and 1-d, 3-d and transposed convolutions, are left as they are; what they lack is part of the next
    layer's target. A layer with more than ``LARGEST`` columns only has its mean output restored.

    Args:
        dense: the original network.
        small: what :func:`gleanet.prune.apply.apply` made of it, or :func:`gleanet.prune.apply.zero`, whose channels stay at zero.
        plan: the plan between the two.
        grouping: the groups of ``dense``, with its trace.
        calibration: batches of images float [B, C, H, W]; a few hundred to a thousand images, as the network sees them in use. Of
            large images the first ones, as many as their activations leave within ``MEMORY``.
        seed: draws the positions that are sampled.
        new_biases: give a layer without a bias, and without a batch-norm behind it, one where its mean output has to move. False: the
            parameters stay those that an optimizer knows, and such a mean is not restored.
        progress: told about every layer.
        keep: layers that were refitted before the process was killed are taken from there.
    """
    jobs = _jobs(plan, grouping, dict(dense.named_modules()), dict(small.named_modules()))
    order = _order(jobs)
    last_use = {needed: node for node in order for needed in _needs(node, jobs)}
    given = image_batches(calibration, grouping)
    batches = _that_fit(given, 2 * _most_alive(order, last_use))
    there, used = (sum(map(len, some)) for some in (given, batches))
    if used < there:
        progress.say(f"refitting on {used} of {there} images: the activations of more would take above {MEMORY / 1e9:g} GB")
    per_image = -(-ROWS // used)
    generator, kept = torch.Generator().manual_seed(seed), keep.read("refit")
    full, slim = (_Walk(dict(net.named_modules()), batches) for net in (dense, small))
    with evaluating(dense, small), progress.task("Recycle features", len(jobs), "layers") as advance:
        for node in order:
            full.compute(node)
            if node in jobs:
                layer = _Layer(str(node.target), slim.modules[str(node.target)], jobs[node].norm, generator)
                if not layer.put(kept):
                    _refit(node, jobs[node], full, slim, per_image, generator, new_biases)
                    kept |= layer.tensors()
                    keep.write("refit", kept)
                advance(1)
            slim.compute(node)
            for dead in [n for n in full.values if last_use.get(n, n) is node]:
                del full.values[dead], slim.values[dead]


def _most_alive(order: list[fx.Node], last_use: dict[fx.Node, fx.Node]) -> int:
    """Bytes of the values of one image that are alive at once, at most, in the walk of one network."""
    alive = most = 0
    dying: dict[fx.Node, int] = {}
    for node in order:
        meta: Any = node.meta.get("tensor_meta")
        size = meta.shape[1:].numel() * meta.dtype.itemsize if hasattr(meta, "shape") and len(meta.shape) else 0
        alive += size
        most = max(most, alive)
        end = last_use.get(node, node)
        dying[end] = dying.get(end, 0) + size
        alive -= dying.pop(node, 0)
    return most


def _that_fit(batches: list[Tensor], per_image: int) -> list[Tensor]:
    """The first images, as many as ``MEMORY`` holds when each takes so many bytes; at least one."""
    left, some = max(1, MEMORY // max(1, per_image)), []
    for batch in batches:
        if left > 0:
            some.append(batch[:left])
            left -= len(some[-1])
    return some


def _jobs(plan: Plan, grouping: Grouping, dense: dict[str, nn.Module], modules: dict[str, nn.Module]) -> dict[fx.Node, _Job]:
    """The layers whose input differs from the original network's and that can be solved for, by node, in the order of the graph."""
    narrowed, kept = _narrowed(plan, grouping), _kept_rows(plan, grouping)
    norms, counts = batch_norms_behind(grouping.traced), calls(grouping.traced)
    jobs: dict[fx.Node, _Job] = {}
    changed = set[fx.Node]()
    for node in grouping.traced.graph.nodes:
        path = str(node.target)
        differs = not changed.isdisjoint(node.all_input_nodes)
        if differs or (node.op == "call_module" and path in narrowed):
            changed.add(node)
        if differs and node.op == "call_module" and counts[path] == 1 and refittable(modules[path]):
            norm = norms.get(path)
            tail, scale = _tail(node, None if norm is None else modules[norm], modules[path])
            shortcut = _shortcut(tail, node, jobs)
            end = tail if shortcut is None else next(iter(tail.users))
            rows, size = kept.get(path), widths(modules[path])[0]
            masked = rows is not None and size == widths(dense[path])[0]
            jobs[node] = _Job(
                kept=None if masked else rows,
                silent=_others(rows, size) if masked and rows is not None else None,
                dense_norm=None if norm is None else dense[norm],
                norm=None if norm is None else modules[norm],
                shortcut=shortcut,
                scale=scale,
                rectified=_is_rectified(end, modules),
            )
    return jobs


def _others(positions: Tensor, size: int) -> Tensor:
    mask = torch.ones(size, dtype=torch.bool, device=positions.device)
    mask[positions] = False
    return mask.nonzero().flatten()


def _narrowed(plan: Plan, grouping: Grouping) -> set[str]:
    """Paths of all modules that lost something."""
    known = grouping.named()
    return {m.path for part in plan.groups if len(part.keep) < part.channels for m in known[part.name].members}


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


def _tail(node: fx.Node, norm: nn.Module | None, module: nn.Module) -> tuple[fx.Node, Tensor]:
    """The node behind a layer's batch-norm, or the layer's own, and the scale [out] between the two."""
    if not isinstance(norm, BATCH_NORMS) or norm.running_var is None:
        return node, torch.ones(widths(module)[0]).to(weight_of(module))
    gamma = norm.weight.detach() if norm.affine else torch.ones_like(norm.running_var)
    return next(iter(node.users)), gamma / (norm.running_var + norm.eps).sqrt()


def _shortcut(tail: fx.Node, node: fx.Node, jobs: dict[fx.Node, _Job]) -> fx.Node | None:
    """The shortcut that is added to a layer's (normalised) output, if that can be computed before the layer is refitted."""
    users = list(tail.users)
    if len(users) != 1 or call_name(users[0]) not in ("add", "add_", "iadd") or len(users[0].args) != 2 or users[0].kwargs:
        return None
    others = [a for a in users[0].args if a is not tail]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or _depends(others[0], node, jobs):
        return None
    return others[0]


def _is_rectified(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a ReLU is all that reads a value."""
    users = list(node.users)
    if len(users) != 1:
        return False
    if users[0].op == "call_module":
        return isinstance(modules[str(users[0].target)], nn.ReLU)
    return users[0].op in ("call_function", "call_method") and call_name(users[0]) in ("relu", "relu_")


def _needs(node: fx.Node, jobs: dict[fx.Node, _Job]) -> list[fx.Node]:
    """Nodes whose values must be there when a node's turn comes: its inputs first, then its shortcut."""
    job = jobs.get(node)
    return [*node.all_input_nodes, *([job.shortcut] if job and job.shortcut else [])]


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


def _refit(node: fx.Node, job: _Job, full: _Walk, slim: _Walk, per_image: int, generator: torch.Generator, new_biases: bool) -> None:
    """Solve for a layer, and where a ReLU follows once more, with the targets that it leaves open."""
    module = slim.modules[str(node.target)]
    regression = Regression(module, solvable=columns(module) <= LARGEST)
    drawn = generator.get_state()
    for index, x in enumerate(slim.values[node.all_input_nodes[0]]):
        rows, places = rows_and_places(module, x, per_image, generator)
        regression.add(rows, _at(places, _lacking(node, job, index, full, slim), module))
    _change(module, job.norm, *regression.solve(), new_biases)
    if not job.rectified or not regression.solvable:
        return
    for _ in range(OPEN_SOLVES):
        generator.set_state(drawn)  # the same patches, whose covariance is known
        regression.forget_targets()
        for index, x in enumerate(slim.values[node.all_input_nodes[0]]):
            rows, places = rows_and_places(module, x, per_image, generator)
            regression.add_targets(rows, _at(places, _lacking(node, job, index, full, slim, rectified=True), module))
        _change(module, job.norm, *regression.solve(), new_biases)


def _at(places: Tensor, values: Tensor, module: nn.Module) -> Tensor:
    """The rows [R, out] of a layer's output at the sampled positions."""
    if isinstance(module, nn.Linear):
        return values.reshape(len(values), -1, values.shape[-1])[:, places].flatten(0, 1)
    return values.flatten(2)[:, :, places].permute(0, 2, 1).flatten(0, 1)


def _lacking(node: fx.Node, job: _Job, index: int, full: _Walk, slim: _Walk, rectified: bool = False) -> Tensor:
    """What a layer's output lacks, of the shape of that output, the shortcut's loss included.

    ``rectified``: where the sum of both is negative in the original network, only what keeps it from being negative is lacking.
    """
    module, target = slim.modules[str(node.target)], full.values[node][index]
    dim = target.dim() - 1 if isinstance(module, nn.Linear) else 1
    shape = [-1 if d == dim else 1 for d in range(target.dim())]
    now = module(slim.values[node.all_input_nodes[0]][index])
    lacking: Tensor = (target if job.kept is None else target.index_select(dim, job.kept)) - now
    if job.norm is not None:  # what removal and earlier solves have given the output by the norm's mean
        lacking -= (_mean(job.dense_norm, job.kept) - _mean(job.norm, None)).reshape(shape)
        now = job.norm(now)
    usable = job.scale.abs() > FAINTEST
    factor = torch.where(usable, 1 / torch.where(usable, job.scale, 1.0), 0.0).reshape(shape)
    if job.shortcut is not None:
        whole, pruned = (walk.values[job.shortcut][index] for walk in (full, slim))
        if job.kept is not None and whole.shape[dim] == target.shape[dim]:
            whole = whole.index_select(dim, job.kept)
        if whole.shape == pruned.shape == lacking.shape:
            lacking += (whole - pruned) * factor
            now = now + pruned
        else:  # the sum cannot be formed, so its sign is not known
            rectified = False
    if rectified:
        wanted = now + lacking * job.scale.reshape(shape)
        lacking = torch.where(wanted > 0, lacking, -now.clamp(min=0) * factor)
    return lacking if job.silent is None else lacking.index_fill(dim, job.silent, 0.0)


def _mean(norm: nn.Module | None, kept: Tensor | None) -> Tensor:
    """A batch-norm's mean, of its kept entries."""
    mean = getattr(norm, "running_mean", None)
    assert isinstance(mean, Tensor)
    return mean if kept is None else mean[kept]


@torch.no_grad()
def _change(module: nn.Module, norm: nn.Module | None, change: Tensor | None, shift: Tensor, new_biases: bool) -> None:
    """Add what was solved for: to the weight [out, columns / groups], and to the output's mean [out]."""
    weight = weight_of(module)
    if change is not None:
        weight += change.reshape(weight.shape).to(weight)
    if new_biases or norm is not None or module.bias is not None:
        add_to_output(module, norm, shift.to(weight))
