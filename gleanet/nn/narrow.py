"""From a plain network and the tensors of a pruned one to the pruned one's structure.

A pruned network is its factory's network with fewer channels here and there, so a checkpoint needs no description of what was cut: the
shapes of its tensors say it. What holds channels but no tensor (an instance norm without scale and shift) is in the record's widths.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMS = (*BATCH_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
PRINTED = (*CONVS, *TRANSPOSED, *NORMS, nn.Linear, nn.GroupNorm, nn.PReLU)  # layers whose repr tells all that is not in their tensors


def narrow(net: nn.Module, state: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """Give every layer the sizes of its tensors in ``state``, in place; values are left to be copied.

    Args:
        net: as its factory makes it, with the activations it had when ``state`` was taken.
        state: tensors by name. A bias that ``net`` has not is added (removal folds constants into one).
        widths: module path -> channels, for layers without tensors; those of other layers are not read.
    """
    for path, module in net.named_modules():
        found = {name: state[f"{path}.{name}"] for name in ("weight", "bias", "running_mean") if f"{path}.{name}" in state}
        weight = found.get("weight")
        if weight is not None and isinstance(module, (*CONVS, *TRANSPOSED)) and weight.dim() == module.weight.dim():
            _resize_conv(module, weight.shape)
        elif weight is not None and isinstance(module, nn.Linear) and weight.dim() == 2:
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, (*NORMS, nn.GroupNorm, nn.PReLU)):
            one = next(iter(found.values()), None)
            _resize_entries(module, one.numel() if one is not None else widths.get(path))
        else:
            continue
        _resize_tensors(module, found)


def width(module: nn.Module) -> int | None:
    """Channels that a layer gives, or that a norm or an activation treats one by one; None for all else."""
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        return module.out_channels
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, NORMS):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    return module.num_parameters if isinstance(module, nn.PReLU) else None


def _resize_conv(module: nn.Module, shape: torch.Size) -> None:
    """Weights are [out, in / groups, ...], transposed ones [in, out / groups, ...]. Depthwise: a group for each input channel."""
    assert isinstance(module, (*CONVS, *TRANSPOSED))
    transposed = isinstance(module, TRANSPOSED)
    if module.groups > 1 and module.groups == module.in_channels and not (transposed and module.in_channels != module.out_channels):
        module.groups = max(1, shape[0] // (module.out_channels // module.in_channels))
    first, second = shape[0], shape[1] * module.groups
    module.out_channels, module.in_channels = (second, first) if transposed else (first, second)


def _resize_entries(module: nn.Module, count: int | None) -> None:
    if count is None:
        return
    if isinstance(module, nn.GroupNorm):  # whole groups went, so those that stay have the size they had
        module.num_groups = max(1, count * module.num_groups // module.num_channels)
        module.num_channels = count
    elif isinstance(module, nn.PReLU):
        module.num_parameters = count
    else:
        assert isinstance(module, NORMS)
        module.num_features = count


def _resize_tensors(module: nn.Module, found: Mapping[str, Tensor]) -> None:
    for name, tensor in found.items():
        own = getattr(module, name, None)
        if name == "running_mean" and isinstance(own, Tensor) and own.shape != tensor.shape:
            module.running_mean, module.running_var = torch.zeros(tensor.shape), torch.ones(tensor.shape)
        elif name != "running_mean" and hasattr(module, name) and (own is None or own.shape != tensor.shape):
            setattr(module, name, nn.Parameter(torch.zeros(tensor.shape)))
