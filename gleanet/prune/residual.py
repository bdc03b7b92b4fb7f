"""Criterion ``residual``: keep the channels that least squares can least do without (DESIGN 5.4).

For the layer that consumes a group, removing channel g and refitting the others leaves the error

    q_g = tr( W_g (P_gg)^-1 W_g^T ),   P = (Cov(patches) + ridge)^-1,

the group form of the optimal brain surgeon (B. Hassibi, D. Stork, NIPS 1992; E. Frantar et al., "Optimal Brain Compression", NeurIPS 2022).
Channels are removed one at a time, the cheapest first, with W and P updated in closed form after each; the error at which a
channel falls is its score. Errors are counted in units of the batch-norm output that follows, so that layers can be compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn

from gleanet.prune.groups import Group, Grouping, Member
from gleanet.prune.least_squares import ROWS, Moments, image_batches, matrix, refittable, ridged, rows_and_places, taps

RIDGE = 1e-3
LARGEST = 8192  # columns; beyond, a covariance no longer fits and only its diagonal blocks are used


@dataclass
class _Consumer:
    """One layer that reads the group: weights [out, D], inverse covariance [D, D], and each channel's columns [C, r]."""

    weight: torch.Tensor
    inverse: torch.Tensor
    columns: torch.Tensor


def residual_scores(
    model: nn.Module, grouping: Grouping, calibration: Iterable[object], *, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Score every group by backward elimination.

    Args:
        model: the network.
        grouping: its groups.
        calibration: batches of images float [B, C, H, W].
        seed: draws the positions that are sampled.

    Returns:
        float64 [C] by group name; larger is more important; comparable between groups.
    """
    batches = image_batches(calibration)
    paths = {m.path for g in grouping.groups for m in g.consumers() if refittable(model.get_submodule(m.path))}
    moments = _patch_moments(model, paths, batches, seed)
    scales = output_scales(grouping.traced)
    covariances = {path: moment.covariance() for path, moment in moments.items()}
    result = {}
    for group in grouping.groups:
        consumers = [
            _consumer(model, member, covariances[member.path], scales.get(member.path)) for member in group.consumers() if member.path in moments
        ]
        result[group.name] = _eliminate(consumers, group) if consumers else torch.ones(group.channels, dtype=torch.float64)
    return result


def output_scales(traced: fx.GraphModule) -> dict[str, torch.Tensor]:
    """gamma / sigma of the batch-norm that alone reads a layer's output, [out] float64, by the layer's path."""
    modules = dict(traced.named_modules())
    scales = {}
    for node in traced.graph.nodes:
        users = list(node.users)
        if node.op == "call_module" and len(users) == 1 and users[0].op == "call_module":
            norm = modules[str(users[0].target)]
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) and norm.running_var is not None:
                gamma = norm.weight.detach().double() if norm.affine else torch.ones(norm.num_features, dtype=torch.float64)
                scales[str(node.target)] = gamma / (norm.running_var.double() + norm.eps).sqrt()
    return scales


def _patch_moments(model: nn.Module, paths: set[str], batches: list[torch.Tensor], seed: int) -> dict[str, Moments]:
    """One pass over the images; hooks add what each layer sees to its moments."""
    generator = torch.Generator().manual_seed(seed)
    per_image = -(-ROWS // sum(len(b) for b in batches))
    moments: dict[str, Moments] = {}

    def hook(path: str) -> torch.utils.hooks.RemovableHandle:
        def see(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows, _ = rows_and_places(module, inputs[0], per_image, generator)
            moments.setdefault(path, Moments.empty(rows.shape[1])).add(rows)

        return model.get_submodule(path).register_forward_pre_hook(see)

    was_training = model.training
    handles = [hook(path) for path in sorted(paths)]
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return moments


def _consumer(model: nn.Module, member: Member, covariance: torch.Tensor, scale: torch.Tensor | None) -> _Consumer:
    module = model.get_submodule(member.path)
    weight = matrix(module)
    if scale is not None:
        weight = weight * scale[:, None]
    columns = channel_columns(member, taps(module))
    if len(covariance) > LARGEST:
        blocks = torch.zeros_like(covariance)
        grid = (columns[:, :, None], columns[:, None, :])
        blocks[grid] = covariance[grid]
        covariance = blocks
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ridged(covariance, RIDGE)))
    return _Consumer(weight, inverse, columns)


def channel_columns(member: Member, per_channel: int) -> torch.Tensor:
    """Columns of the consumer's matrix that belong to each channel of the group, [C, positions * taps]."""
    index = torch.tensor(member.index)
    return (index[:, :, None] * per_channel + torch.arange(per_channel)).flatten(1)


def _eliminate(consumers: list[_Consumer], group: Group) -> torch.Tensor:
    """Remove all channels one after another; the running maximum of the error at each removal is the score."""
    scores = torch.zeros(group.channels, dtype=torch.float64)
    alive = torch.ones(group.channels, dtype=torch.bool)
    reached = 0.0
    for rank in range(group.channels):
        left = alive.nonzero().flatten()
        error = torch.zeros(len(left), dtype=torch.float64)
        for c in consumers:
            columns = c.columns[left]
            block = c.inverse[columns[:, :, None], columns[:, None, :]]  # [C, r, r]
            weight = c.weight[:, columns].permute(1, 2, 0)  # [C, r, out]
            error += (weight * torch.linalg.solve(block, weight)).sum((1, 2))
        chosen = int(left[error.argmin()])
        # the tiny slope keeps the order of removal where the error does not grow
        reached = max(reached * (1 + 1e-9), float(error.min())) + 1e-300 * rank
        scores[chosen] = reached
        alive[chosen] = False
        for c in consumers:
            _remove(c, c.columns[chosen])
    return scores


def _remove(consumer: _Consumer, columns: torch.Tensor) -> None:
    """Update W and P for columns that are gone: the others take over what they can of them."""
    block = consumer.inverse[columns][:, columns]
    solved = torch.linalg.solve(block, consumer.inverse[columns])  # [r, D]
    consumer.weight -= consumer.weight[:, columns] @ solved
    consumer.inverse -= consumer.inverse[:, columns] @ solved
