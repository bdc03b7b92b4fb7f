"""Criterion ``local_residual``: keep the channels that least squares can least do without (DESIGN 5.4).

For the layer that consumes a group, removing channel g and refitting the others leaves the error

    q_g = tr( W_g (P_gg)^-1 W_g^T ),   P = (Cov(patches) + ridge)^-1,

the group form of the optimal brain surgeon (B. Hassibi, D. Stork, NIPS 1992; E. Frantar et al., "Optimal Brain Compression", NeurIPS 2022).
Channels are removed one at a time (of a wide layer a few at a time), the cheapest first, with W and P updated in closed form after
each; the error at which a channel falls is its score. Errors are counted where they arise, in units of the batch-norm output that
follows; the criterion ``residual`` weighs them by what becomes of them at the network's outputs (``sensitivity.py``).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils.hooks import RemovableHandle

from gleanet.core.progress import SILENT, Progress
from gleanet.nn.trace import batch_norms_behind, evaluating
from gleanet.prune.groups import Group, Grouping, Member
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.layers import BATCH_NORMS, group_count, kernel_size
from gleanet.prune.least_squares import (
    LARGEST,
    ROWS,
    Moments,
    Variances,
    cholesky,
    columns,
    image_batches,
    input_energy,
    matrix,
    refittable,
    rows_and_places,
)

STEPS = 64  # removals from one group: one by one, 512 channels that a 3x3 convolution reads took a minute

InputMoments = dict[str, Moments | Variances]


@dataclass
class Consumer:
    """One layer that reads the group: weights [out, D], inverse covariance [D, D], and each channel's columns [C, r]."""

    weight: Tensor
    inverse: Tensor
    columns: Tensor


def residual_scores(
    model: nn.Module,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    moments: InputMoments | None = None,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> dict[str, Tensor]:
    """Score every group by backward elimination.

    Layers that cannot be refitted (transposed and 1-d convolutions, very wide linear layers) count with the variance that a channel
    gives to their output, which nothing makes good.

    Args:
        model: the network.
        grouping: its groups.
        calibration: batches of images float [B, C, H, W].
        seed: draws the positions that are sampled.
        moments: what :func:`input_moments` found on these images, when that is known already.
        progress: told about every group.
        keep: scores that are known already are not computed again.

    Returns:
        float64 [C] by group name; larger is more important; comparable between groups.
    """
    moments = moments or input_moments(model, grouping, image_batches(calibration, grouping), seed)
    scales, result = output_scales(grouping.traced), keep.read("scores")
    with progress.task("Score channels", len(grouping.groups), "groups") as advance:
        for group in grouping.groups:
            if group.name not in result:
                result[group.name] = _score(model, group, moments, scales)
                keep.write("scores", result)
            advance(1)
    return result


def _score(model: nn.Module, group: Group, moments: InputMoments, scales: dict[str, Tensor]) -> Tensor:
    consumers, fixed = [], torch.zeros(group.channels, dtype=torch.float64)
    for member in group.consumers():
        module, scale, seen = model.get_submodule(member.path), scales.get(member.path), moments[member.path]
        if isinstance(seen, Moments):
            consumers.append(consumer_of(module, member, seen.covariance(), scale))
        else:
            fixed += (seen.variance() * input_energy(module, scale))[torch.tensor(member.index)].sum(1)
    return _eliminate(consumers, fixed, group)


def output_scales(traced: fx.GraphModule) -> dict[str, Tensor]:
    """gamma / sigma of the batch-norm that alone reads a layer's output, [out] float64 on the CPU, by the layer's path."""
    scales = {}
    for path, norm_path in batch_norms_behind(traced).items():
        norm = traced.get_submodule(norm_path)
        assert isinstance(norm, BATCH_NORMS)
        assert norm.running_var is not None
        gamma = norm.weight.detach() if norm.affine else torch.ones_like(norm.running_var)
        scales[path] = gamma.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
    return scales


def input_moments(model: nn.Module, grouping: Grouping, batches: list[Tensor], seed: int, progress: Progress = SILENT) -> InputMoments:
    """What the layers that read the groups see, by path: one pass over the images; hooks add to the moments."""
    paths = sorted({m.path for g in grouping.groups for m in g.consumers()})
    generator = torch.Generator().manual_seed(seed)
    per_image = -(-ROWS // sum(len(b) for b in batches))
    moments: InputMoments = {}

    def hook(path: str) -> RemovableHandle:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if refittable(module) and columns(module) <= LARGEST:
                rows, _ = rows_and_places(module, x, per_image, generator)
                moments.setdefault(path, Moments.empty(rows.shape[1])).add(rows)
            else:
                rows = x.reshape(-1, x.shape[-1]) if isinstance(module, nn.Linear) else x.movedim(1, -1).reshape(-1, x.shape[1])
                moments.setdefault(path, Variances.empty(rows.shape[1])).add(rows)

        return model.get_submodule(path).register_forward_pre_hook(see)

    handles = [hook(path) for path in paths]
    try:
        with evaluating(model), progress.task("Look at the layers' inputs", sum(map(len, batches)), "images") as advance:
            for batch in batches:
                model(batch)
                advance(len(batch))
    finally:
        for handle in handles:
            handle.remove()
    return moments


def consumer_of(module: nn.Module, member: Member, covariance: Tensor, scale: Tensor | None) -> Consumer:
    """A refittable layer that reads a group; ``scale`` [out] multiplies its outputs."""
    weight = matrix(module)
    if scale is not None:
        weight = weight * scale[:, None]
    if group_count(module) > 1:  # outputs of one group see the inputs of that group alone: others cannot help it out
        side = len(covariance) // group_count(module)
        blocks = [covariance[at : at + side, at : at + side] for at in range(0, len(covariance), side)]
        covariance = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    inverse = torch.cholesky_inverse(cholesky(covariance))
    return Consumer(weight, inverse, channel_columns(member, kernel_size(module)))


def channel_columns(member: Member, per_channel: int) -> Tensor:
    """Columns of the consumer's matrix that belong to each channel of the group, [C, positions * kernel positions]."""
    index = torch.tensor(member.index)
    return (index[:, :, None] * per_channel + torch.arange(per_channel)).flatten(1)


def _eliminate(consumers: list[Consumer], fixed: Tensor, group: Group) -> Tensor:
    """Remove all channels, a few at a time; the running maximum of the error at each removal is the score.

    Up to ``STEPS`` channels go one by one; of more, a ``STEPS``-th of them together, which share their joint error as they would alone.
    ``fixed`` [C] is error that does not depend on which other channels are left.
    """
    scores = torch.zeros(group.channels, dtype=torch.float64)
    alive = torch.ones(group.channels, dtype=torch.bool)
    reached, size, several = 0.0, group.channels, -(-group.channels // STEPS)
    while bool(alive.any()):
        left = alive.nonzero().flatten()
        error = fixed[left].clone()
        for c in consumers:
            error += _errors(c, c.columns[left][:, None])
        cheapest = error.argsort(stable=True)[:several]
        chosen, alone = left[cheapest], error[cheapest]
        if len(chosen) > 1:
            joint = float(fixed[chosen].sum()) + sum(float(_errors(c, c.columns[chosen][None])) for c in consumers)
            alone = alone * (joint / max(float(alone.sum()), 1e-300))
        for channel, own in zip(chosen.tolist(), alone.tolist(), strict=True):
            reached = max(math.nextafter(reached, math.inf), own)  # a rise, however small, keeps the order of removal
            scores[channel] = reached
        alive[chosen] = False
        shrink = 2 * int(alive.sum()) < size
        size = int(alive.sum()) if shrink else size
        for c in consumers:
            remove(c, c.columns[chosen].flatten())
            if shrink:
                _compact(c, alive)
    return scores


def _errors(consumer: Consumer, sets: Tensor) -> Tensor:
    """What removing sets of channels costs, each set as if it went alone: [S], for their columns [S, channels, r]."""
    own = sets.flatten(1)
    block = consumer.inverse[own[:, :, None], own[:, None, :]]  # [S, columns, columns]
    weight = consumer.weight[:, own].permute(1, 2, 0)  # [S, columns, out]
    errors: Tensor = (weight * torch.linalg.solve(block, weight)).sum((1, 2))
    return errors


def _compact(consumer: Consumer, alive: Tensor) -> None:
    """Drop columns that are gone from W and P: those of half the channels are three quarters of the work that is left."""
    there = torch.ones(consumer.weight.shape[1], dtype=torch.bool)
    there[consumer.columns[~alive & (consumer.columns[:, 0] >= 0)].flatten()] = False
    consumer.weight, consumer.inverse = consumer.weight[:, there], consumer.inverse[there][:, there]
    moved = there.cumsum(0) - 1
    consumer.columns = torch.where(alive[:, None], moved[consumer.columns], -1)


def remove(consumer: Consumer, gone: Tensor) -> None:
    """Update W and P for columns that are gone: the others take over what they can of them."""
    block = consumer.inverse[gone][:, gone]
    solved = torch.linalg.solve(block, consumer.inverse[gone])  # [r, D]
    consumer.weight -= consumer.weight[:, gone] @ solved
    consumer.inverse -= consumer.inverse[:, gone] @ solved
