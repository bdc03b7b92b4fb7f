"""Operations that count: sizes read from tensors, and reshapes, cuts and slices that use numbers, read or written."""

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from gleanet.nn.trace import call_name
from gleanet.prune.labels import Labels, repeated, varies
from gleanet.prune.values import give_up, run, split_dims, tensors


@dataclass
class Counts:
    """Numbers in the code that count channels.

    ``shapes``: sizes of a tensor, with its labels and the dimensions they are of. ``numbers``: single numbers, with the labels they count.
    """

    shapes: dict[fx.Node, tuple[Tensor, tuple[int, ...]]] = field(default_factory=dict)
    numbers: dict[fx.Node, Tensor] = field(default_factory=dict)

    def behind(self, node: fx.Node) -> list[Tensor]:
        """Labels that the numbers among a node's arguments count."""
        numbers = [self.numbers[parent] for parent in node.all_input_nodes if parent in self.numbers]
        shapes = [self.shapes[parent] for parent in node.all_input_nodes if parent in self.shapes]
        return numbers + [x for x, dims in shapes if any(varies(x, dim) for dim in dims)]


def measure(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """size, shape, numel and other attributes: noted, where they count channels."""
    value, x = run(node, args, kwargs), tensors(args)[0]
    if isinstance(value, Tensor):
        return give_up(labels, node, [x], f".{args[1]} is not known to keep channels apart")
    if isinstance(value, torch.Size):
        counts.shapes[node] = x, tuple(range(x.dim()))
    elif name == "size":
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        if varies(x, dim % x.dim()):
            counts.numbers[node] = x
    elif name == "numel" and any(varies(x, dim) for dim in range(x.dim())):
        counts.numbers[node] = x
    return value


def number(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Arithmetic on numbers, a size out of several, or a new tensor of given sizes."""
    parent = node.args[0] if node.args else None
    if call_name(node) == "getitem" and isinstance(parent, fx.Node) and parent in counts.shapes:
        x, dims = counts.shapes[parent]
        picked = dims[args[1]]
        if isinstance(picked, tuple):
            counts.shapes[node] = x, picked
        elif varies(x, picked):
            counts.numbers[node] = x
        return args[0][args[1]]
    counted = counts.behind(node)
    if "tensor_meta" in node.meta:
        return give_up(labels, node, counted, "the code computes with its number of channels")
    if counted:
        counts.numbers[node] = counted[0]
    return run(node, args, kwargs)


def resize(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """view, reshape, unflatten, expand: sizes written as numbers hold, those that count channels and -1 follow the channels."""
    moved, sizes, first = repeated(run(node, args, kwargs)), list(node.args[1:]), 0
    if name == "unflatten":
        first = int(args[1] if len(args) > 1 else kwargs["dim"]) % args[0].dim()
        sizes = sizes[1:]
    sizes = sizes or [value for key, value in node.kwargs.items() if key in ("shape", "size", "sizes")]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = list(sizes[0])
    if len(sizes) == 1 and isinstance(sizes[0], fx.Node) and sizes[0] in counts.shapes:
        whole, dims = counts.shapes[sizes[0]]
        return split_dims(labels, moved, {at for at, dim in enumerate(dims) if varies(whole, dim)})
    follows = {first + i for i, size in enumerate(sizes) if size == -1 or (isinstance(size, fx.Node) and size in counts.numbers)}
    if name == "unflatten":  # the other dimensions are as they were
        follows |= set(range(first)) | set(range(first + len(sizes), moved.dim()))
    return split_dims(labels, moved, follows)


def part(labels: Labels, counts: Counts, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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


def index(labels: Labels, counts: Counts, node: fx.Node, args: tuple[Any, ...]) -> Any:
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
