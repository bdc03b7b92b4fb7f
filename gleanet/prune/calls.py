"""What functions and methods that a network calls do to its channels' labels. Layers are in ``channels``."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from gleanet.prune.labels import NONE, Labels, distinct, per_channel, repeated, varies
from gleanet.prune.trace import call_name


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


@dataclass
class Counts:
    """Numbers in the code that count channels, with the labels they count: all sizes of a tensor, or one number made from them."""

    shapes: dict[fx.Node, Tensor] = field(default_factory=dict)
    numbers: dict[fx.Node, Tensor] = field(default_factory=dict)

    def behind(self, node: fx.Node) -> list[Tensor]:
        """Labels that the numbers among a node's arguments count."""
        known = {**self.shapes, **self.numbers}
        counted = [known[parent] for parent in node.all_input_nodes if parent in known]
        return [x for x in counted if any(varies(x, dim) for dim in range(x.dim()))]


def follow_call(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The labels of what a function or method gives, from the labels of what it takes (numbers are numbers)."""
    name, inputs = call_name(node), tensors((args, kwargs))
    if not _is_torchs(node):
        return give_up(labels, node, inputs, f"{name} is not known")
    if name in MEASURING and inputs:
        return _measure(labels, counts, node, name, args, kwargs)
    if not inputs:
        return _number(labels, counts, node, args, kwargs)
    if name in SIZING:
        return _resize(labels, counts, node, name, args, kwargs)
    if name in PARTING:
        return _part(labels, counts, node, name, args, kwargs)
    if name == "getitem":
        return _index(labels, counts, node, args)
    if counted := counts.behind(node):
        return give_up(labels, node, [*inputs, *counted], "the code computes with its number of channels")
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


def tensors(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors(item)] if isinstance(value, (list, tuple)) else []


def like(node: fx.Node, channels: Tensor | None) -> Any:
    """Labels of the shape of a node's value: [N, C, ...] with one label a channel, or none at all; None for what is no tensor."""
    meta = node.meta.get("tensor_meta")
    if isinstance(meta, (tuple, list)) and not hasattr(meta, "shape"):
        return tuple(torch.full((), NONE).expand(m.shape) if hasattr(m, "shape") else None for m in meta)
    if meta is None:
        return None
    shape = tuple(meta.shape)
    if channels is None:
        return torch.full((), NONE).expand(shape)
    return channels.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def give_up(labels: Labels, node: fx.Node, inputs: list[Tensor], reason: str) -> Any:
    """Fix all that goes in; what comes out carries no labels."""
    for tensor in inputs:
        labels.fix(tensor, reason)
    return like(node, None)


def run(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call what the node calls, on labels or numbers."""
    if node.op == "call_method":
        method = "reshape" if node.target == "view" else str(node.target)  # labels are not laid out as the activations are
        return getattr(args[0], method)(*args[1:], **kwargs)
    function: Callable[..., Any] = node.target  # type: ignore[assignment]
    return function(*args, **kwargs)


def split_dims(labels: Labels, moved: Tensor, shrinking: set[int]) -> Tensor:
    """Tie labels so that a tensor whose sizes the code gives stays a box when channels go.

    Args:
        labels: all labels.
        moved: labels after the operation.
        shrinking: dimensions whose size follows the number of channels; one of them takes the loss, and along the others that channels
            were split over (the groups of a channel shuffle) all must lose the same.
    """
    spread = [dim for dim in range(moved.dim()) if varies(moved, dim)]
    able = [dim for dim in spread if dim in shrinking]
    if spread and len(able) != 1:
        sizes = " x ".join(str(moved.shape[dim]) for dim in spread)
        labels.fix(moved, f"the code gives it a fixed size ({sizes}); write -1 there")
    elif len(spread) > 1:
        for dim in set(spread) - set(able):
            labels.join(moved, moved.narrow(dim, 0, 1).expand_as(moved))
    return moved


def note_offset(labels: Labels, x: Tensor, emitted: Any) -> None:
    """Remember channels for which zero comes out as something else."""
    if isinstance(emitted, Tensor) and bool(emitted.any()):
        labels.offset.update(distinct(x))


def _is_torchs(node: fx.Node) -> bool:
    if node.op == "call_method":
        return True
    home = getattr(node.target, "__module__", None) or "torch"  # functions of torch's C++ core name no module
    return home.split(".")[0] in ("torch", "_operator", "builtins", "math", "gleanet")


def _measure(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, x = run(node, args, kwargs), tensors(args)[0]
    if isinstance(value, Tensor):
        return give_up(labels, node, [x], f".{args[1]} is not known to keep channels apart")
    if isinstance(value, torch.Size):
        counts.shapes[node] = x
    elif name == "size":
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        if varies(x, dim % x.dim()):
            counts.numbers[node] = x
    elif name == "numel" and any(varies(x, dim) for dim in range(x.dim())):
        counts.numbers[node] = x
    return value


def _number(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Arithmetic on numbers, a size out of several, or a new tensor of given sizes."""
    parent = node.args[0] if node.args else None
    if call_name(node) == "getitem" and isinstance(parent, fx.Node) and parent in counts.shapes:
        x = counts.shapes[parent]
        picked = range(x.dim())[args[1]]
        if any(varies(x, dim) for dim in ([picked] if isinstance(picked, int) else picked)):
            (counts.numbers if isinstance(picked, int) else counts.shapes)[node] = x
        return args[0][args[1]]
    counted = counts.behind(node)
    if "tensor_meta" in node.meta:
        return give_up(labels, node, counted, "the code computes with its number of channels")
    if counted:
        counts.numbers[node] = counted[0]
    return run(node, args, kwargs)


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


def _resize(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """view, reshape, unflatten, expand: sizes written as numbers hold, those that count channels and -1 follow the channels."""
    moved, sizes, first = repeated(run(node, args, kwargs)), list(node.args[1:]), 0
    if name == "unflatten":
        first = int(args[1] if len(args) > 1 else kwargs["dim"]) % args[0].dim()
        sizes = sizes[1:]
    sizes = sizes or [value for key, value in node.kwargs.items() if key in ("shape", "size", "sizes")]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = list(sizes[0])
    if len(sizes) == 1 and isinstance(sizes[0], fx.Node) and sizes[0] in counts.shapes:
        whole = counts.shapes[sizes[0]]
        return split_dims(labels, moved, {dim for dim in range(whole.dim()) if varies(whole, dim)})
    follows = {first + i for i, size in enumerate(sizes) if size == -1 or (isinstance(size, fx.Node) and size in counts.numbers)}
    if name == "unflatten":  # the other dimensions are as they were
        follows |= set(range(first)) | set(range(first + len(sizes), moved.dim()))
    return split_dims(labels, moved, follows)


def _part(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """chunk and split: parts of equal size must lose the same channels; cuts at fixed positions hold everything."""
    parts, x = run(node, args, kwargs), args[0]
    dim = int(kwargs.get("dim", next(iter(args[2 if name != "unbind" else 1 :]), 0))) % x.dim()
    if not varies(x, dim):
        return parts
    given = node.args[1] if len(node.args) > 1 else next((value for key, value in node.kwargs.items() if key != "dim"), None)
    sizes = list(given) if isinstance(given, (list, tuple)) else [given]
    proportional = name in ("chunk", "tensor_split") and isinstance(given, int)
    proportional = proportional or (name == "split" and all(isinstance(s, fx.Node) and s in counts.numbers for s in sizes))
    if not proportional or len({part.shape for part in parts}) > 1:
        return give_up(labels, node, [x], f"{name} cuts it at fixed positions")
    for part in parts[1:]:
        labels.join(parts[0], part)
    return parts


def _index(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """x[...]: a slice of channels holds all positions that it counts; slices of other dimensions hold nothing."""
    x, index = args
    if not isinstance(x, Tensor):
        return x[index]
    places = list(index) if isinstance(index, tuple) else [index]
    if tensors(places) or any(isinstance(place, list) for place in places) or counts.behind(node):
        return give_up(labels, node, [x], "it is indexed by a tensor or a computed position")
    if Ellipsis in places:
        at, given = places.index(Ellipsis), sum(place is not None for place in places) - 1
        places[at : at + 1] = [slice(None)] * (x.dim() - given)
    for dim, place in enumerate(place for place in places if place is not None):
        if place != slice(None) and varies(x, dim):
            labels.fix(x.narrow(dim, 0, _counted(place, x.shape[dim])), "the code takes channels by their position")
    return repeated(operator.getitem(x, index))


def _counted(place: Any, size: int) -> int:
    """How many leading positions must stay for an index or slice to find the same channels; all, when it counts from the end."""
    if isinstance(place, int):
        return place + 1 if place >= 0 else size
    numbers = [n for n in (place.start, place.stop) if n is not None]
    if place.step not in (None, 1) or any(n < 0 for n in numbers):
        return size
    return min(size, max(numbers, default=0))
