"""Where every channel goes: labels that travel through the network's own operations.

Each output channel of each convolution and linear layer gets a label. Labels are pushed through the traced graph in tensors of the
activations' shapes: operations that only move values (flatten, concat, permute, ...) are run on the labels themselves, so whatever
they do to channels is followed without a rule of its own. Where two labels meet (a residual add), their channels must live or die
together: the labels are joined. Where an operation counts channels (a grouped convolution, chunk, a view as a number of groups),
the channels that keep its parts equal are joined.

Dependency graphs with one rule per operation (G. Fang et al., "DepGraph", CVPR 2023) break on reshape and concat; labels do not.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from gleanet.nn.activations import is_activation
from gleanet.nn.beamish import BeaMish
from gleanet.nn.sizing import DECIDES
from gleanet.prune.calls import follow_call
from gleanet.prune.labels import Labels, distinct, per_channel, varies
from gleanet.prune.layers import CONVS, NORMS, TRANSPOSED, group_count, is_depthwise, widths
from gleanet.prune.sizes import Counts
from gleanet.prune.values import give_up, like, note_offset, split_dims, tensors

POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Upsample, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d,
    nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d,
)  # fmt: skip
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Softplus, nn.Softsign, nn.Threshold,
    nn.PReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip


def follow(traced: fx.GraphModule) -> Labels:
    """Push labels through the graph.

    Args:
        traced: in evaluation mode, with the shape of every value noted.

    Returns:
        the labels, joined where channels are tied, with the module dimensions that carry them.
    """
    labels, counts = Labels(), Counts()
    values: dict[fx.Node, Any] = {}
    modules = dict(traced.named_modules())
    shared = _shared_weights(modules)
    for node in traced.graph.nodes:
        args = fx.node.map_arg(node.args, lambda n: values[n])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
        if node.op == "placeholder":
            values[node] = like(node, None) if "tensor_meta" in node.meta else next(iter(node.args), None)
        elif node.op == "get_attr":
            values[node] = like(node, None)
        elif node.op == "call_module":
            path, inputs = str(node.target), tensors((args, kwargs))
            values[node] = _through_module(labels, node, modules[path], inputs)
            if path in shared:
                values[node] = give_up(labels, node, [*inputs, *tensors(values[node])], f"{path} shares its weight with another layer")
        elif node.op == "output":
            for tensor in tensors(args):
                labels.fix(tensor, "it is the network's output")
        else:
            values[node] = follow_call(labels, counts, node, args, kwargs)
        if node.meta.get(DECIDES) and node in counts.numbers:
            labels.fix(counts.numbers[node], "the code decides by its number of channels")
    return labels


def _shared_weights(modules: dict[str, nn.Module]) -> set[str]:
    """Layers whose weight is also another module's: narrowing would tear the two apart."""
    owners: dict[int, list[str]] = {}
    for path, module in modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(path)
    return {path for paths in owners.values() if len(paths) > 1 for path in paths}


def _through_module(labels: Labels, node: fx.Node, module: nn.Module, inputs: list[Tensor]) -> Any:
    name = f"{node.target} ({type(module).__name__})"
    if len(inputs) != 1 or not isinstance(like(node, None), Tensor):
        return give_up(labels, node, inputs, f"{name} takes or gives several values")
    x = inputs[0]
    if isinstance(module, nn.Linear):
        return _through_linear(labels, node, module, x)
    if isinstance(module, nn.Flatten):
        return module(x)
    if isinstance(module, nn.PixelShuffle):
        return split_dims(labels, module(x), {x.dim() - 3})
    if isinstance(module, nn.Unflatten):
        return _unflatten(labels, module, x)
    if isinstance(module, ELEMENTWISE) or is_activation(module):
        return _through_activation(labels, node, module, x)
    channels = per_channel(labels, x)
    if channels is None:
        return give_up(labels, node, inputs, f"{name} mixes its positions")
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        return _through_conv(labels, node, module, channels)
    if isinstance(module, NORMS):
        labels.put(str(node.target), "norm", channels)
        return x
    if isinstance(module, nn.GroupNorm):
        return _through_group_norm(labels, node, module, channels, x)
    if isinstance(module, POOLS):
        return like(node, channels)
    return give_up(labels, node, inputs, f"{name} is not known to keep channels apart")


def _unflatten(labels: Labels, module: nn.Unflatten, x: Tensor) -> Tensor:
    assert isinstance(module.dim, int)
    first, sizes = module.dim % x.dim(), list(module.unflattened_size)
    moved: Tensor = module(x)
    split = range(first, first + len(sizes))
    return split_dims(labels, moved, {dim for dim in range(moved.dim()) if dim not in split or sizes[dim - first] == -1})


def _through_activation(labels: Labels, node: fx.Node, module: nn.Module, x: Tensor) -> Any:
    if any(parameter.dim() == 1 and len(parameter) > 1 for parameter in module.parameters()):  # one entry for each channel
        channels = per_channel(labels, x)
        if channels is None or not isinstance(module, (nn.PReLU, BeaMish)):
            return give_up(labels, node, [x], f"{node.target} has parameters that are not one for each channel")
        labels.put(str(node.target), "norm", channels)
    else:
        parameter = next(module.parameters(), torch.zeros(()))
        note_offset(labels, x, module(torch.zeros(1, 1).to(parameter)))
    return x


def _through_conv(labels: Labels, node: fx.Node, module: nn.Module, channels: Tensor) -> Any:
    path, groups, (count, _) = str(node.target), group_count(module), widths(module)
    if "weight" not in module._parameters:
        return _hold(labels, node, count, channels, f"the weight of {path} is computed from others")
    if is_depthwise(module):  # channels pass through, each with filters of its own
        out = channels.repeat_interleave(count // groups)
        labels.put(path, "out", out)
        return like(node, out)
    if groups > 1 and isinstance(module, TRANSPOSED):
        return _hold(labels, node, count, channels, f"{path} is a grouped transposed convolution")
    out = labels.fresh(count)
    if groups > 1:  # every group of the convolution must keep the same positions, so that all shrink together
        for grid in (channels.reshape(groups, -1), out.reshape(groups, -1)):
            labels.join(grid[:1].expand_as(grid), grid)
    labels.put(path, "in", channels)
    labels.put(path, "out", out)
    return like(node, out)


def _hold(labels: Labels, node: fx.Node, count: int, inputs: Tensor, reason: str) -> Any:
    """A layer that cannot be narrowed on either side."""
    out = labels.fresh(count)
    labels.put(str(node.target), "out", out)
    return give_up(labels, node, [inputs, out], reason)


def _through_linear(labels: Labels, node: fx.Node, module: nn.Linear, x: Tensor) -> Any:
    path = str(node.target)
    if "weight" not in module._parameters or any(varies(x, dim) for dim in range(x.dim() - 1)):
        why = f"{path} (Linear) mixes its positions" if "weight" in module._parameters else f"the weight of {path} is computed from others"
        return _hold(labels, node, module.out_features, x, why)
    labels.put(path, "in", x.reshape(-1, x.shape[-1])[0])
    out = labels.fresh(module.out_features)
    labels.put(path, "out", out)
    return out.expand(tuple(node.meta["tensor_meta"].shape))


def _through_group_norm(labels: Labels, node: fx.Node, module: nn.GroupNorm, channels: Tensor, x: Tensor) -> Any:
    """Statistics are shared inside a group of the norm, so only whole groups can go; they take none of the others' values with them."""
    grid = channels.reshape(module.num_groups, -1)
    labels.join(grid, grid[:, :1].expand_as(grid))
    if len({labels.root(label) for label in distinct(channels)}) < 2:
        labels.fix(channels, f"{node.target} (GroupNorm) mixes all its channels")
    labels.put(str(node.target), "norm", channels)
    return x
