"""Kinds of layers, where each keeps its channels, and how one is made narrower. All that depends on a layer's type is here."""

import torch
from torch import Tensor, nn

from gleanet.nn.beamish import BeaMish
from gleanet.nn.narrow import BATCH_NORMS as BATCH_NORMS
from gleanet.nn.narrow import CONVS as CONVS
from gleanet.nn.narrow import NORMS as NORMS
from gleanet.nn.narrow import TRANSPOSED as TRANSPOSED

WEIGHTED = (*CONVS, *TRANSPOSED, nn.Linear)
SCALING = (*NORMS, nn.GroupNorm)  # their scale and shift belong to the channel, and fall to zero with it


def is_depthwise(module: nn.Module) -> bool:
    """Whether each input channel has filters of its own, so that channels pass through: one filter each, or (not transposed) several."""
    if isinstance(module, CONVS):
        return module.groups > 1 and module.groups == module.in_channels
    return isinstance(module, TRANSPOSED) and module.groups > 1 and module.groups == module.in_channels == module.out_channels


def group_count(module: nn.Module) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    groups: int = getattr(module, "groups", 1)
    return groups


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a layer that has one, with its gradient history."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def filters(module: nn.Module) -> Tensor:
    """A view of the weight with the output channels first: [out, in / groups, *kernel], or [out, in] of a linear layer.

    Transposed convolutions keep theirs as [in, out, *kernel]; grouped ones that are not depthwise have no such view (they are not pruned).
    """
    weight = weight_of(module).detach()
    return weight.transpose(0, 1) if isinstance(module, TRANSPOSED) and module.groups == 1 else weight


def channel_rows(module: nn.Module, index: Tensor) -> Tensor:
    """What produces each channel, as rows [C, weights of one channel], to read. ``index`` [C, r] holds the channels' positions."""
    rows = filters(module).flatten(1)
    if index.shape == (len(rows), 1) and bool((index[:, 0] == torch.arange(len(rows))).all()):
        return rows
    return rows[index.to(rows.device)].flatten(1)


def set_channel_rows(module: nn.Module, index: Tensor, rows: Tensor) -> None:
    """Write rows [C, weights of one channel] back to the positions ``index`` [C, r], in place."""
    view = filters(module)
    positions = index.to(view.device)
    view[positions] = rows.reshape(*positions.shape, *view.shape[1:])


def kernel_size(module: nn.Module) -> int:
    """Kernel positions of a convolution (9 for 3x3), 1 for a linear layer."""
    return weight_of(module)[0, 0].numel()


def widths(module: nn.Module) -> tuple[int, int]:
    """Output and input channels (features) of a layer with weights."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    assert isinstance(module, (*CONVS, *TRANSPOSED))
    return module.out_channels, module.in_channels


def per_channel_parameters(module: nn.Module) -> int:
    """How many parameters a norm or an activation holds for one channel."""
    return sum(1 for parameter in module.parameters(recurse=False) if parameter.dim() == 1)


def narrow(module: nn.Module, role: str, gone: list[int]) -> None:
    """Remove positions of one dimension of one layer, in place.

    Args:
        module: the layer.
        role: "out", "in" or "norm", as in :class:`gleanet.prune.groups.Member`.
        gone: the positions that go.
    """
    if role == "norm":
        _narrow_entries(module, gone)
    elif isinstance(module, nn.Linear):
        keep = _kept(widths(module)[role == "in"], gone)
        _select(module, "weight", keep, 0 if role == "out" else 1)
        if role == "out":
            _select(module, "bias", keep, 0)
            module.out_features = len(keep)
        else:
            module.in_features = len(keep)
    else:
        _narrow_conv(module, role, gone)


def _narrow_conv(module: nn.Module, role: str, gone: list[int]) -> None:
    assert isinstance(module, (*CONVS, *TRANSPOSED))
    transposed = isinstance(module, TRANSPOSED)
    if role == "in":
        keep = _kept(module.in_channels, gone)
        # a grouped convolution loses the same positions in each of its groups: those of the first group say which
        first = keep[keep < module.in_channels // module.groups]
        _select(module, "weight", first, 0 if transposed else 1)
        module.in_channels = len(keep)
        return
    keep = _kept(module.out_channels, gone)
    depthwise, multiplier = is_depthwise(module), module.out_channels // module.in_channels
    _select(module, "weight", keep, 1 if transposed and not depthwise else 0)
    _select(module, "bias", keep, 0)
    module.out_channels = len(keep)
    if depthwise:
        module.in_channels = module.groups = len(keep) // multiplier


def _narrow_entries(module: nn.Module, gone: list[int]) -> None:
    """Norms and activations with an entry for each channel: every vector they hold loses the same positions."""
    if isinstance(module, NORMS):
        keep = _kept(module.num_features, gone)
        module.num_features = len(keep)
    elif isinstance(module, nn.GroupNorm):
        keep = _kept(module.num_channels, gone)
        module.num_groups = len(keep) * module.num_groups // module.num_channels
        module.num_channels = len(keep)
    elif isinstance(module, nn.PReLU):
        keep = _kept(module.num_parameters, gone)
        module.num_parameters = len(keep)
    else:
        assert isinstance(module, BeaMish)
        assert module.channels is not None
        keep = _kept(module.channels, gone)
        module.channels = len(keep)
    for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if tensor.dim() == 1:
            _select(module, name, keep, 0)


def _kept(size: int, gone: list[int]) -> Tensor:
    mask = torch.ones(size, dtype=torch.bool)
    mask[gone] = False
    return mask.nonzero().flatten()


def _select(module: nn.Module, name: str, keep: Tensor, dim: int) -> None:
    tensor = getattr(module, name)
    if tensor is None:
        return
    smaller = tensor.detach().index_select(dim, keep.to(tensor.device))
    # index_select gives standard strides; a network in channels-last keeps its layout
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        smaller = smaller.contiguous(memory_format=torch.channels_last)
    setattr(module, name, nn.Parameter(smaller, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else smaller)
