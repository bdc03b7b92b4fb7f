"""Criterion ``residual``: as ``local_residual``, weighed by how much an error of each group matters at the network's outputs.

``local_residual`` counts errors where they arise. What becomes of them on the way differs by more than 10 between the stages of a ResNet:
an early error is averaged over many positions, and later layers are refitted to correct it. For each group, half of its channels are
taken out of a copy, the next layer is refitted in closed form, and the outputs are compared with the original's; the ratio of that error
to the one that was foreseen is the group's factor. It hardly depends on how many channels go, so one probe is enough. What the factors
bring is measured by benchmarks/pruning_steps.py (docs/evidence.md); factors from gradients, of the logits or Fisher's, made the choice
worse. Without them more parameters stay at the same MACs, in the last layers.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gleanet.core.progress import SILENT, Progress
from gleanet.nn.trace import evaluating
from gleanet.prune.groups import Group, Grouping, Member
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.layers import weight_of
from gleanet.prune.least_squares import Moments, as_weight, image_batches
from gleanet.prune.residual import InputMoments, consumer_of, input_moments, remove, residual_scores
from gleanet.prune.values import tensors

KEPT = 0.5  # of each group's channels, while it is probed
IMAGES = 256
PASSES = 3  # probing all groups costs at most as much as this many passes over the calibration images


def weighed_residual_scores(
    model: nn.Module,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> dict[str, Tensor]:
    """What the criterion ``local_residual`` gives, in units of the error at the network's outputs.

    Args:
        model: the network; not changed.
        grouping: its groups.
        calibration: batches of images float [B, C, H, W].
        seed: draws the positions that are sampled.
        progress: told about every image, and about every group twice.
        keep: scores and factors that are known already are not computed again.

    Returns:
        float64 [C] by group name; larger is more important; comparable between groups.
    """
    batches = image_batches(calibration, grouping)
    moments = input_moments(model, grouping, batches, seed, progress)
    found = residual_scores(model, grouping, batches, moments=moments, progress=progress, keep=keep)
    return weigh(model, grouping, found, moments, batches, progress=progress, keep=keep)


def weigh(
    model: nn.Module,
    grouping: Grouping,
    scores: Mapping[str, Tensor],
    moments: InputMoments,
    batches: Sequence[Tensor],
    *,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> dict[str, Tensor]:
    """Scores in units of the error at the network's outputs.

    Args:
        model: the network; not changed.
        grouping: its groups.
        scores: what the criterion ``local_residual`` gave, float64 [C] by group.
        moments: of the input of every layer that reads a group.
        batches: images [B, C, H, W].
        progress, keep: as for :func:`weighed_residual_scores`.

    Returns:
        the scores of each group times its factor; a group whose probe foresees no error has the median of the others' factors.
    """
    images, probe = _some(batches, len(grouping.groups)), copy.deepcopy(model)
    kept = keep.read("factors")
    with evaluating(probe), progress.task("Probe groups", len(grouping.groups), "groups") as advance:
        original = _outputs(probe, images)
        for group in grouping.groups:
            if group.name not in kept:
                kept[group.name] = torch.tensor(_factor(probe, group, scores[group.name], moments, images, original), dtype=torch.float64)
                keep.write("factors", kept)
            advance(1)
    factors = {name: float(factor) for name, factor in kept.items() if factor > 0}
    usual = float(torch.tensor(list(factors.values())).median()) if factors else 1.0
    return {name: score * factors.get(name, usual) for name, score in scores.items()}


def _factor(
    probe: nn.Module, group: Group, score: Tensor, moments: InputMoments, images: list[Tensor], original: list[list[Tensor]]
) -> float:
    """Error at the outputs without half of a group's channels, in parts of the error that the criterion foresees; 0: it foresees none."""
    gone = score.argsort(descending=True, stable=True)[max(1, round(KEPT * group.channels)) :]
    foreseen = float(score[gone].sum())
    if foreseen <= 0:
        return 0.0
    with _without(probe, group, gone.tolist(), moments):
        return _error(original, _outputs(probe, images)) / foreseen


def _some(batches: Sequence[Tensor], groups: int) -> list[Tensor]:
    """As many of the images as may be spent on each group."""
    left = max(1, min(IMAGES, PASSES * sum(map(len, batches)) // max(1, groups)))
    some = []
    for batch in batches:
        if left > 0:
            some.append(batch[:left])
            left -= len(some[-1])
    return some


def _outputs(net: nn.Module, images: list[Tensor]) -> list[list[Tensor]]:
    """Every output tensor of the network for every batch; copies, since a network may work in place."""
    return [[tensor.clone() for tensor in tensors(net(batch.clone()))] for batch in images]


def _error(original: list[list[Tensor]], found: list[list[Tensor]]) -> float:
    """Squared error of the outputs, summed over heads, each relative to its variance; a shift of all logits of an image is no error."""
    total = 0.0
    for head, other in zip(zip(*original, strict=True), zip(*found, strict=True), strict=True):
        one, two = torch.cat(head).double(), torch.cat(other).double()
        one, two = one - one.mean(-1, keepdim=True), two - two.mean(-1, keepdim=True)
        total += float((two - one).square().sum() / (one - one.mean(0)).square().sum().clamp(min=1e-30))
    return total


@contextmanager
def _without(net: nn.Module, group: Group, gone: list[int], moments: InputMoments) -> Iterator[None]:
    """The network with channels of one group taken from all layers that read it, in place, and back again.

    Layers that can be refitted are; to the others the channels are constant.
    """
    undo: list[Callable[[], object]] = []
    for member in group.consumers():
        module, seen = net.get_submodule(member.path), moments[member.path]
        if isinstance(seen, Moments):
            undo += _refit(module, member, gone, seen)
        else:
            undo.append(_hold(module, member.positions(gone), seen.mean()))
    try:
        yield
    finally:
        for step in reversed(undo):
            step()


def _refit(module: nn.Module, member: Member, gone: list[int], seen: Moments) -> list[Callable[[], object]]:
    """Take channels from a layer's weight, let the others take over, restore the mean of its output; returns what undoes it."""
    weight, layer = weight_of(module), consumer_of(module, member, seen.covariance(), None)
    before = weight.detach().clone()
    whole = layer.weight.clone()
    remove(layer, layer.columns[gone].flatten())
    weight.copy_(as_weight(layer.weight, module))
    shift = ((whole - layer.weight) @ seen.mean()).to(weight)
    if not isinstance(module, nn.Linear):
        shift = shift.reshape(-1, *[1] * (weight.dim() - 2))
    return [lambda: weight.copy_(before), module.register_forward_hook(lambda _module, _inputs, output: output + shift).remove]


def _hold(module: nn.Module, positions: list[int], mean: Tensor) -> Callable[[], object]:
    """Show a layer the mean in place of some of its input channels; returns what undoes it."""

    def constant(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        dim = inputs[0].dim() - 1 if isinstance(module, nn.Linear) else 1
        x = inputs[0].movedim(dim, -1).clone()
        x[..., positions] = mean[positions].to(x)
        return (x.movedim(-1, dim), *inputs[1:])

    return module.register_forward_pre_hook(constant).remove
