"""Criteria: how much each channel of a group matters, as plain functions from a group's tensors to scores ``[C]``.

A user's own criterion is any callable of the same form. Scores of a group's producers are added, so that a channel which passes
through an add is judged by all layers that write to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gleanet.core.errors import SettingsError
from gleanet.prune.groups import Group
from gleanet.prune.layers import BATCH_NORMS, channel_rows


@dataclass(frozen=True)
class GroupTensors:
    """A group with the network it belongs to: what a criterion may look at. Tensors are detached; dimension 0 is the channel."""

    group: Group
    model: nn.Module
    generator: torch.Generator

    @property
    def channels(self) -> int:
        return self.group.channels

    def filters(self) -> list[torch.Tensor]:
        """Weights of the layers that produce the channels, each [C, weights of one channel]."""
        return [channel_rows(self.model.get_submodule(member.path), torch.tensor(member.index)) for member in self.group.producers()]

    def norm_scales(self) -> list[torch.Tensor]:
        """Absolute scales (gamma) of the channels in each batch-norm, each [C]; the mean of several tied positions."""
        scales = []
        for member in self.group.members:
            module = self.model.get_submodule(member.path)
            if isinstance(module, BATCH_NORMS) and module.affine:
                scales.append(module.weight.detach()[torch.tensor(member.index, device=module.weight.device)].abs().mean(1))
        return scales


Criterion = Callable[[GroupTensors], torch.Tensor]


def l1(group: GroupTensors) -> torch.Tensor:
    """Sum of absolute filter weights (H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1)."""
    return torch.stack([rows.abs().sum(1) for rows in group.filters()]).sum(0)


def l2(group: GroupTensors) -> torch.Tensor:
    """Euclidean norm of the filter (Y. He et al., "Soft Filter Pruning", IJCAI 2018, section 3.2)."""
    return torch.stack([rows.norm(dim=1) for rows in group.filters()]).sum(0)


def bn_scale(group: GroupTensors) -> torch.Tensor:
    """Absolute batch-norm scale (Z. Liu et al., "Network Slimming", ICCV 2017); the filter norm where a group has no batch-norm."""
    scales = group.norm_scales()
    return torch.stack(scales).sum(0) if scales else l2(group)


def fpgm(group: GroupTensors) -> torch.Tensor:
    """Sum of distances to the layer's other filters (Y. He et al., "Filter Pruning via Geometric Median", CVPR 2019, equation 4)."""
    return torch.stack([torch.cdist(rows, rows).sum(1) for rows in group.filters()]).sum(0)


def random(group: GroupTensors) -> torch.Tensor:
    """Uniform in [0, 1): the control that any criterion has to beat (D. Mittal et al., "Studying the Plasticity in Deep CNNs", 2018)."""
    return torch.rand(group.channels, generator=group.generator)


CRITERIA: dict[str, Criterion] = {"l1": l1, "l2": l2, "bn_scale": bn_scale, "fpgm": fpgm, "random": random}


def scores(groups: tuple[Group, ...], model: nn.Module, criterion: Criterion, seed: int) -> dict[str, torch.Tensor]:
    """Score every group, float64 [C] each, by name; ``seed`` feeds criteria that draw.

    Raises:
        SettingsError: the criterion returns something that is not one finite number a channel.
    """
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for group in groups:
        score = torch.as_tensor(criterion(GroupTensors(group, model, generator))).detach().double().cpu()
        if score.shape != (group.channels,) or not bool(torch.isfinite(score).all()):
            what = f"shape {tuple(score.shape)}" if score.shape != (group.channels,) else "numbers that are not finite"
            raise SettingsError(f"the criterion gave {what} for group {group.name}: it must give {group.channels} finite numbers")
        result[group.name] = score
    return result
