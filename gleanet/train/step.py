"""The loss of one training step: this process's images, weighed so that the mean over all processes is the mean over the whole batch."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from gleanet.core.settings import Precision
from gleanet.train.recipe import Recipe, loss
from gleanet.train.team import Team


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """A block in which convolutions and linear layers compute in ``precision``; weights, norms' statistics and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def best_precision(device: torch.device) -> Precision:
    """bfloat16 where a GPU has units for it, else float32."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast else "float32"


def batch_loss(
    team: Team, model: nn.Module, teacher: nn.Module | None, batch: tuple[Tensor, Tensor], whole: int, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Loss of this process's part of a batch.

    Args:
        team: whose gradients are averaged.
        model: what :meth:`Team.together` gave.
        teacher: gives soft targets where the recipe distills.
        batch: the part, float [B, 3, H, W] and int64 [B] on the network's device; B may be 0 where the batch is smaller than the team.
        whole: images of the batch over all processes.
        recipe: loss and precision.

    Returns:
        what to call ``team.backward`` with, and this process's share of the mean loss over the whole batch, without a gradient.
    """
    x, y = batch
    with autocast(x.device, recipe.precision):
        soft = None
        if teacher is not None and recipe.distill > 0:
            with torch.no_grad():
                soft = _wide(teacher(x))
        logits = _wide(model(x))
    # without images: no loss, but gradients of zero, for which the others wait
    value = loss(logits, y, recipe, soft) if len(x) else logits.sum()
    if team.size == 1:
        return value, value.detach()
    share = len(x) / whole
    return value * (share * team.size), value.detach() * share


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype == torch.bfloat16 else logits
