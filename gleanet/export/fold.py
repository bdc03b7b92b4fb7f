"""Batch-norm folding: at inference a batch-norm after a convolution is part of the convolution.

With running mean m, variance v, scale g, shift b (per channel) and eps, batch-norm computes y -> a (y - m) + b with a = g / sqrt(v + eps).
For y = W x + c this is a W x + (a (c - m) + b), so the folded layer has

    W' = a W   (each output channel scaled),        c' = a (c - m) + b.

Computed in float64 and rounded once. B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 3.2, folds in the same way before quantizing.
"""

import copy
from collections import Counter
from typing import cast

import torch
from torch import fx, nn

from gleanet.core.errors import ModelError

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of ``model``, in eval mode, whose batch-norms are folded into the layers before them and replaced by ``nn.Identity``.

    Module paths and classes stay as they are; the convolutions gain a bias. A batch-norm stays when it does not follow a convolution or
    linear layer directly, when that layer's output is used elsewhere too, when either runs more than once, or when it keeps no running
    statistics.

    Args:
        model: any module that ``torch.fx`` can trace. The wiring is read from the trace, the module itself is kept.

    Raises:
        ModelError: the forward method cannot be traced.
    """
    copied = copy.deepcopy(model).eval()
    for layer_path, norm_path in foldable(copied):
        layer, norm = copied.get_submodule(layer_path), copied.get_submodule(norm_path)
        _fold(layer, cast(nn.BatchNorm2d, norm))
        parent, _, name = norm_path.rpartition(".")
        setattr(copied.get_submodule(parent), name, nn.Identity())
    return copied


def foldable(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """(layer path, batch-norm path) of each pair that can be folded, in the order they run.

    Raises:
        ModelError: the forward method cannot be traced.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # the trace runs the user's forward method, which may raise anything
        raise ModelError(f"{type(model).__name__} cannot be traced by torch.fx: {' '.join(str(error).split())[:200]}") from error
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(model.get_submodule(str(node.target)), _NORMS):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer, norm = model.get_submodule(str(before.target)), model.get_submodule(str(node.target))
        once = calls[str(before.target)] == 1 and calls[str(node.target)] == 1
        if once and isinstance(layer, _LAYERS) and getattr(norm, "running_var", None) is not None:
            pairs.append((str(before.target), str(node.target)))
    return tuple(pairs)


def _fold(layer: nn.Module, norm: nn.BatchNorm2d) -> None:
    weight = cast(nn.Parameter, layer.weight)
    bias = cast(nn.Parameter | None, layer.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        scale = (norm.weight.double() if norm.affine else torch.ones_like(mean)) / torch.sqrt(variance + norm.eps)
        shift = norm.bias.double() if norm.affine else torch.zeros_like(mean)
        old = bias.double() if bias is not None else torch.zeros_like(mean)
        new_bias = scale * (old - mean) + shift
        new_weight = weight.double() * _per_output(layer, scale)
        layer.weight = nn.Parameter(new_weight.to(weight.dtype))
        layer.bias = nn.Parameter(new_bias.to(weight.dtype))


def _per_output(layer: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    """``scale`` [C] shaped to multiply the output channels of the layer's weight."""
    weight = cast(nn.Parameter, layer.weight)
    if not isinstance(layer, _TRANSPOSED):
        return scale.reshape(-1, *[1] * (weight.dim() - 1))
    # transposed: weight is [in, out / groups, ...], and the input channels are split over the groups
    groups = layer.groups
    per_group = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return per_group.reshape(weight.shape[0], -1, *[1] * (weight.dim() - 2))
