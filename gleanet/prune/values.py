"""The labels that stand for one node's value: made, run through an operation, given up."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gleanet.prune.labels import NONE, Labels, distinct, varies


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
