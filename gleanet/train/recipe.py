"""What a training is: a frozen recipe, and its schedule, loss and parameter groups as pure functions."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import SettingsError
from gleanet.core.settings import Precision


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum, linear warm-up, cosine schedule to zero. Part of every result.

    Attributes:
        epochs: passes over the data, fractions allowed; 0 trains nothing.
        batch_size: images a step.
        lr: peak learning rate; None: found by a range test before the first step.
        momentum: of SGD, in [0, 1).
        weight_decay: on weights of convolutions and linear layers only, not on norms and biases.
        warmup: fraction of the steps in which the learning rate rises from near 0 to its peak.
        label_smoothing: in [0, 1).
        distill: weight of the teacher's term in the loss, in [0, 1]; used only where a teacher is given.
        temperature: of the distillation, > 0.
        augment: crop-and-flip augmentation.
        flip: mirror left and right; off for data where that changes the meaning (digits).
        precision: what convolutions and linear layers compute in: float32, or bf16 (autocast; the weights stay float32).

    Raises:
        SettingsError: a value is out of range.
    """

    epochs: float
    batch_size: int = 128
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    label_smoothing: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    augment: bool = True
    flip: bool = True
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 0 <= self.epochs < math.inf, "0 or more")
        _within("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _within("lr", self.lr, self.lr is None or 0 < self.lr < math.inf, "above 0, or left out for a range test")
        _within("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        _within("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "0 or more")
        _within("warmup", self.warmup, 0 <= self.warmup <= 1, "in [0, 1]")
        _within("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "in [0, 1)")
        _within("distill", self.distill, 0 <= self.distill <= 1, "in [0, 1]")
        _within("temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")
        _within("precision", self.precision, self.precision in ("float32", "bf16"), "float32 or bf16")


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Batches of one pass; the last one may be smaller."""
    return math.ceil(images / recipe.batch_size)


def total_steps(images: int, recipe: Recipe) -> int:
    """Optimizer steps of the whole training: at least 1 unless ``epochs`` is 0."""
    return 0 if recipe.epochs == 0 else max(1, round(recipe.epochs * steps_per_epoch(images, recipe)))


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Learning rate of optimizer step ``step`` (0-based) of ``total``: linear up to ``peak``, then half a cosine down to 0 at ``total``.

    Cosine annealing: I. Loshchilov, F. Hutter, "SGDR", ICLR 2017, eq. 5; warm-up: P. Goyal et al. 2017, section 2.2.
    """
    rise = min(math.ceil(warmup * total), max(0, total - 1))
    if step < rise:
        return peak * (step + 1) / (rise + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for the optimizer: weights of two or more dimensions decay; biases, norms and activation factors do not.

    Frozen parameters (``requires_grad`` False) are in neither.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2: the factor T^2 keeps the gradient's
    size when T changes.

    Args:
        logits: [B, K] of the student.
        teacher: [B, K], no gradient.
        temperature: T > 0.

    Returns:
        Scalar, 0 exactly when both distributions are equal.
    """
    student_log, teacher_log = F.log_softmax(logits / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True) * temperature**2


def loss(logits: Tensor, labels: Tensor, recipe: Recipe, teacher: Tensor | None = None) -> Tensor:
    """(1 - distill) * cross-entropy + distill * distillation; without a teacher, cross-entropy alone.

    Args:
        logits: [B, K] float.
        labels: [B] int64.
        recipe: gives ``label_smoothing`` (C. Szegedy et al., CVPR 2016, section 7), ``distill`` and ``temperature``.
        teacher: [B, K] logits of the teacher on the same images, or None.
    """
    if teacher is None or recipe.distill == 0:
        return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    soft = recipe.distill * distillation(logits, teacher, recipe.temperature)
    if recipe.distill == 1:
        return soft
    return soft + (1 - recipe.distill) * F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)


def optimizer(model: nn.Module, recipe: Recipe, lr: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum (none where ``momentum`` is 0) over :func:`parameter_groups`."""
    groups = parameter_groups(model, recipe.weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _within(name: str, value: object, fine: bool, allowed: str) -> None:
    if not fine:
        raise SettingsError(f"recipe: {name} is {value}, it must be {allowed}")
