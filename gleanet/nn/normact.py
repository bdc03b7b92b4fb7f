"""Batch-norms that also activate, as timm's ``BatchNormAct2d``, taken apart, so that pruning and export see a norm and an activation.

Such a class inherits from ``nn.BatchNorm2d``, holds what follows the norm as ``drop`` and ``act``, and computes all in its own ``forward``.
"""

from torch import nn


def split_norm_acts(net: nn.Module) -> nn.Module:
    """Replace each batch-norm that also activates by its parts, in place: ``x.weight`` is ``x.0.weight`` from then on.

    The tensors are shared, not copied. ``gleanet.build`` does this by itself, after it has read the weights by their original names.

    Returns:
        ``net``, which gives the same logits.
    """
    for path, module in list(net.named_modules()):
        if path and isinstance(module, nn.BatchNorm2d) and _activates(module):
            net.set_submodule(path, nn.Sequential(_norm_of(module), *_behind(module)).train(module.training))
    return net


def _activates(module: nn.BatchNorm2d) -> bool:
    return type(module).forward is not nn.BatchNorm2d.forward and {name for name, _ in module.named_children()} == {"drop", "act"}


def _behind(module: nn.Module) -> list[nn.Module]:
    parts = module.get_submodule("drop"), module.get_submodule("act")
    return [part for part in parts if not isinstance(part, nn.Identity)]


def _norm_of(module: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A plain batch-norm around the same tensors."""
    norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    norm.weight, norm.bias = module.weight, module.bias
    norm.running_mean, norm.running_var, norm.num_batches_tracked = module.running_mean, module.running_var, module.num_batches_tracked
    return norm
