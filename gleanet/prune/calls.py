"""What functions and methods that a network calls do to its channels' labels. Layers are in ``channels``."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from gleanet.nn.trace import call_name
from gleanet.prune.labels import NONE, Labels, distinct, per_channel, repeated, varies
from gleanet.prune.sizes import Counts, index, measure, number, part, resize
from gleanet.prune.values import give_up, like, note_offset, run, split_dims, tensors


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# By bare name, so that F.relu, torch.relu and x.relu() are one entry; only functions of torch, operator and builtins are looked up.
ELEMENTWISE = _names(
    """
    relu relu_ relu6 leaky_relu rrelu elu selu celu gelu silu mish beamish hardswish hardsigmoid hardtanh softplus softsign tanhshrink
    softshrink hardshrink logsigmoid threshold sigmoid sigmoid_ tanh tanh_ exp neg abs square sqrt pow clamp clamp_ clip clamp_min
    clamp_max dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout float half double bfloat16 to type type_as
    clone detach contiguous positive zeros_like ones_like erf sin atan log1p expm1
    """
)
ADDING = _names("add add_ iadd sub sub_ isub subtract maximum minimum")
SCALING = _names("mul mul_ imul multiply")
DIVIDING = _names("truediv itruediv div div_ divide true_divide")
POOLING = _names(
    """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d interpolate upsample
    """
)
REDUCING = _names("mean sum amax amin var std")
MOVING = _names(
    """
    flatten cat concat concatenate stack permute transpose swapaxes swapdims movedim squeeze unsqueeze flip repeat expand_as
    pixel_unshuffle
    """
)
SIZING = _names("view reshape unflatten expand")
PARTING = _names("chunk split tensor_split unbind")
MEASURING = _names("size dim ndimension numel getattr")


def follow_call(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The labels of what a function or method gives, from the labels of what it takes (numbers are numbers)."""
    name, inputs = call_name(node), tensors((args, kwargs))
    if not _is_torchs(node):
        return give_up(labels, node, inputs, f"{name} is not known")
    if name in MEASURING and inputs:
        return measure(labels, counts, node, name, args, kwargs)
    if not inputs:
        return number(labels, counts, node, args, kwargs)
    if name in SIZING:
        return resize(labels, counts, node, name, args, kwargs)
    if name in PARTING:
        return part(labels, counts, node, name, args, kwargs)
    if name == "getitem":
        return index(labels, counts, node, args)
    if counted := counts.behind(node):
        return give_up(labels, node, [*inputs, *counted], "the code computes with its number of channels")
    if name in ("new_zeros", "new_ones"):
        return like(node, None)
    if name in ELEMENTWISE or (len(inputs) == 1 and name in ADDING | SCALING | DIVIDING):
        return _elementwise(labels, node, name, inputs, args, kwargs)
    if name in ADDING | SCALING | DIVIDING:
        return _meet(labels, node, name, inputs)
    if name in POOLING:
        channels = per_channel(labels, inputs[0])
        return give_up(labels, node, inputs, f"{name} mixes its positions") if channels is None else like(node, channels)
    if name in REDUCING:
        return _reduce(labels, node, name, inputs, args, kwargs)
    if name in MOVING:
        return repeated(run(node, args, kwargs))
    if name == "pad":
        return _pad(labels, node, inputs[0], args, kwargs)
    if name == "pixel_shuffle":
        return split_dims(labels, run(node, args, kwargs), {1})
    return give_up(labels, node, inputs, f"{name} is not known to keep channels apart")


def _is_torchs(node: fx.Node) -> bool:
    if node.op == "call_method":
        return True
    home = getattr(node.target, "__module__", None) or "torch"  # functions of torch's C++ core name no module
    return home.split(".")[0] in ("torch", "_operator", "builtins", "math", "gleanet")


def _elementwise(labels: Labels, node: fx.Node, name: str, inputs: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = inputs[0]
    if len(inputs) > 1 and name not in ("to", "type_as"):
        return give_up(labels, node, inputs, f"{name} of several tensors is not known")
    zeros = fx.node.map_aggregate((args, kwargs), lambda value: torch.zeros(1) if isinstance(value, Tensor) else value)
    note_offset(labels, x, run(node, *zeros))
    return x


def _meet(labels: Labels, node: fx.Node, name: str, inputs: list[Tensor]) -> Any:
    """Two tensors, position by position: their channels are tied, or one is spread over the channels of the other."""
    one, other = torch.broadcast_tensors(*inputs)  # type: ignore[no-untyped-call]
    shape = one.shape
    if name in DIVIDING and distinct(other) != [NONE]:
        return give_up(labels, node, inputs, f"{name} by its channels is not defined where they are zero")
    for small, wide, given in ((one, other, inputs[0]), (other, one, inputs[1])):
        sizes = [1] * (len(shape) - given.dim()) + list(given.shape)
        if any(size == 1 and varies(wide, dim) for dim, size in enumerate(sizes)):
            if name in ADDING:
                return give_up(labels, node, inputs, "one tensor is added to all its channels")
            labels.fix(small, "all channels are multiplied by it")
            return wide
    labels.join(one, other, add=name in ADDING)
    return one


def _reduce(labels: Labels, node: fx.Node, name: str, inputs: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A mean over positions keeps channels; a mean over channels cannot do without any of them."""
    x = inputs[0]
    given = next((v for v in (*args[1:], kwargs.get("dim"), kwargs.get("axis")) if v is not None and not isinstance(v, bool)), None)
    dims = list(range(x.dim())) if given is None else [given] if isinstance(given, int) else given
    if not all(isinstance(dim, int) for dim in dims) or any(varies(x, dim % x.dim()) for dim in dims):
        return give_up(labels, node, inputs, f"{name} is taken over channels")
    for dim in dims:
        x = x.narrow(dim, 0, 1)
    return x.reshape(node.meta["tensor_meta"].shape)


def _pad(labels: Labels, node: fx.Node, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    if given.get("mode", "constant") == "constant":
        if given.get("value"):
            return give_up(labels, node, [x], "it is padded with a value that is not zero")
        # zeros beside a channel's values change nothing; zeros in place of channels are no layer's
        slim = x
        sides = list(given["pad"])
        for dim in range(x.dim()):
            last = 2 * (x.dim() - 1 - dim)
            if last < len(sides) and not varies(x, dim):
                slim, sides[last : last + 2] = slim.narrow(dim, 0, 1), [0, 0]
        return F.pad(slim, sides, value=NONE).expand(node.meta["tensor_meta"].shape)
    channels = per_channel(labels, x)
    return give_up(labels, node, [x], "padding mixes its positions") if channels is None else like(node, channels)
