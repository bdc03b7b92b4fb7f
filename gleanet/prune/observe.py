"""Criteria that watch the network work on calibration images: ``taylor`` and ``activation``.

Both look at what the layers that consume a group read, so that a channel counts with all that was done to it on the way (norm,
non-linearity, shortcut, pooling, flatten), and a channel that is read in several places counts in each.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gleanet.core.errors import SettingsError
from gleanet.core.progress import SILENT, Progress
from gleanet.nn.trace import evaluating
from gleanet.prune.groups import Group, Grouping, Member
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.least_squares import image_batches, labelled_batches

DONE = "\0batches"  # how many batches the kept sums are of; no group has this name


def taylor_scores(
    model: nn.Module,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> dict[str, Tensor]:
    """First-order Taylor expansion of the loss: mean over images of (dE/dg)^2, where g = 1 is a gate that multiplies the channel.

    P. Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: the first-order form, equation 8, with a gate
    as in section 3.2, which the paper recommends over the second-order form; dE/dg is the sum of activation times gradient. The
    gate is where the channel is read, one for all its readers (with ReLU that is the gate behind batch-norm that the paper found
    best). The square is taken for each image, so that the scores do not depend on the size of the batches.

    Args:
        model: the network.
        grouping: its groups.
        calibration: batches of (images float [B, C, H, W], labels int [B]): E is the cross-entropy. Images alone: the network's own
            predictions are the labels.
        seed: not used.
        progress: told about every image.
        keep: batches whose part is known already are not looked at again.

    Returns:
        float64 [C] by group name; larger is more important; comparable between groups (squares of the loss).

    Raises:
        SettingsError: labels that are not one class an image, or that the network's output has no class for.
    """
    kept, batches = keep.read("taylor"), labelled_batches(calibration, grouping)
    done = int(kept.pop(DONE, 0))
    total = kept or {group.name: torch.zeros(group.channels, dtype=torch.float64) for group in grouping.groups}
    count = sum(len(images) for images, _ in batches)
    with progress.task("Score channels", count, "images") as advance:
        advance(sum(len(images) for images, _ in batches[:done]))
        for index, (images, labels) in enumerate(batches[done:], start=done + 1):
            _add_taylor(total, model, grouping, images, labels)
            keep.write("taylor", {**total, DONE: torch.tensor(index)})
            advance(len(images))
    return {name: score / count for name, score in total.items()}


def _add_taylor(total: dict[str, Tensor], model: nn.Module, grouping: Grouping, images: Tensor, labels: object) -> None:
    """Add what the images of one batch say, [C] for each group, in place."""
    gates: dict[str, list[Tensor]] = {}
    with evaluating(model), torch.enable_grad(), _gated(model, grouping, gates):
        loss = _loss(model(images), labels)
        flat = [gate for calls in gates.values() for gate in calls]
        gradients = dict(zip(map(id, flat), torch.autograd.grad(loss, flat, allow_unused=True), strict=True))
    for group in grouping.groups:
        seen = torch.zeros(len(images), group.channels, dtype=torch.float64)
        for member in group.consumers():
            for gradient in (gradients[id(gate)] for gate in gates.get(member.path, ())):
                if gradient is not None:  # rows that an image was spread over count as one
                    seen += gradient.double().cpu().reshape(len(images), -1, gradient.shape[-1]).sum(1)[:, _index(member)].sum(2)
        total[group.name] = total[group.name] + seen.square().sum(0)


def activation_scores(
    model: nn.Module,
    grouping: Grouping,
    calibration: Iterable[object],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> dict[str, Tensor]:
    """Mean absolute activation over images and positions, as the group's readers see it (P. Molchanov et al., "Pruning Convolutional
    Neural Networks for Resource Efficient Inference", ICLR 2017, section 2.2, Theta_MA; after H. Hu et al., "Network Trimming", 2016).

    Args:
        model, grouping, seed, progress: as for :func:`taylor_scores`.
        calibration: batches of images float [B, C, H, W]; labels beside them are ignored.
        keep: not used: this is one pass over the images.

    Returns:
        float64 [C] by group name, the mean of several readers; larger is more important.
    """
    seen, batches = {path: _Mean() for path in readers(grouping)}, image_batches(calibration, grouping)
    handles = [model.get_submodule(path).register_forward_pre_hook(mean.see) for path, mean in seen.items()]
    try:
        with evaluating(model), progress.task("Score channels", sum(map(len, batches)), "images") as advance:
            for batch in batches:
                model(batch)
                advance(len(batch))
    finally:
        for handle in handles:
            handle.remove()
    return {group.name: by_channel(group, {path: mean.value() for path, mean in seen.items()}) for group in grouping.groups}


def readers(grouping: Grouping) -> list[str]:
    """Paths of the layers that consume some group."""
    return sorted({member.path for group in grouping.groups for member in group.consumers()})


def by_channel(group: Group, values: dict[str, Tensor]) -> Tensor:
    """Values [positions] of each layer that reads a group, by path, as one value for each channel: the mean over positions and readers."""
    return torch.stack([values[member.path][_index(member)].mean(1) for member in group.consumers()]).mean(0)


def mean_magnitude(module: nn.Module, x: Tensor) -> Tensor:
    """Mean |x| of each position of a layer's input, [positions], at least float32."""
    dim = channel_dim(module, x)
    others = [d for d in range(x.dim()) if d != dim]
    # three times as fast as torch.linalg.vector_norm, which would cost a training loop more than the 3 % that it may
    total = x.detach().abs().sum(others, dtype=torch.promote_types(x.dtype, torch.float32))
    return total * (x.shape[dim] / x.numel())


def channel_dim(module: nn.Module, x: Tensor) -> int:
    """The dimension of a layer's input that holds its channels."""
    return x.dim() - 1 if isinstance(module, nn.Linear) else 1


class _Mean:
    """Running mean of :func:`mean_magnitude` over images."""

    def __init__(self) -> None:
        self.total, self.count = torch.zeros((), dtype=torch.float64), 0

    def see(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.total = self.total + mean_magnitude(module, inputs[0]).double().cpu() * len(inputs[0])
        self.count += len(inputs[0])

    def value(self) -> Tensor:
        return self.total / self.count


@contextmanager
def _gated(model: nn.Module, grouping: Grouping, gates: dict[str, list[Tensor]]) -> Iterator[None]:
    """Multiply what each reader reads by gates of one, a row [positions] for each row of the batch; noted by path, one a call."""

    def hook(path: str) -> RemovableHandle:
        def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            x, dim = inputs[0], channel_dim(module, inputs[0])
            gate = torch.ones(len(x), x.shape[dim], dtype=x.dtype, device=x.device, requires_grad=True)
            gates.setdefault(path, []).append(gate)
            return x * gate.reshape([size if d in (0, dim) else 1 for d, size in enumerate(x.shape)])

        return model.get_submodule(path).register_forward_pre_hook(multiply)

    handles = [hook(path) for path in readers(grouping)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _loss(output: object, labels: object) -> Tensor:
    """Cross-entropy, summed over images (and over the outputs of a network that has several)."""
    given = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else [output]
    found = [tensor for tensor in given if isinstance(tensor, Tensor) and tensor.dim() >= 2]
    if labels is None:
        return torch.stack([F.cross_entropy(logits, logits.argmax(1), reduction="sum") for logits in found]).sum()
    if len(found) != 1 or found[0].dim() != 2:
        raise SettingsError("criterion 'taylor' compares labels with logits [B, classes], and this network gives others: pass images alone")
    logits, classes = found[0], torch.as_tensor(labels, device=found[0].device)
    if classes.shape != logits.shape[:1] or classes.is_floating_point() or classes.is_complex():
        raise SettingsError(
            f"labels beside the calibration images have shape {list(classes.shape)} and type {classes.dtype}: criterion 'taylor' takes "
            f"one class an image, int [{len(logits)}], or images alone"
        )
    if int(classes.min()) < 0 or int(classes.max()) >= logits.shape[1]:
        raise SettingsError(f"labels go from {int(classes.min())} to {int(classes.max())}, but the network has {logits.shape[1]} classes")
    return F.cross_entropy(logits, classes.long(), reduction="sum")


def _index(member: Member) -> Tensor:
    return torch.tensor(member.index)
