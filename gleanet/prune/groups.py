"""Groups: slices of tensors that must be removed together (DESIGN: *group*, *channel*)."""

from dataclasses import dataclass

import torch
from torch import fx, nn

from gleanet.core.errors import ModelError
from gleanet.prune.channels import follow
from gleanet.prune.labels import NONE, Labels, Role
from gleanet.prune.trace import evaluating, trace


@dataclass(frozen=True)
class Member:
    """Where a group's channels lie in one dimension of one module.

    ``role`` is "out" (rows of a convolution's or linear layer's weight, and its bias), "norm" (entries of a norm, or of an activation
    with parameters for each channel) or "in" (columns of the next layer's weight). ``index[c]`` holds the positions of channel ``c``:
    one, or equally many for all channels where a flatten spreads a channel over many features or several channels are tied.
    Example: 16 channels of 7x7 flattened into a linear layer -> 16 tuples of 49 positions.
    """

    path: str
    role: Role
    index: tuple[tuple[int, ...], ...]

    def positions(self, channels: list[int]) -> list[int]:
        """All positions of some channels."""
        return [position for channel in channels for position in self.index[channel]]


@dataclass(frozen=True)
class Group:
    """Channels that can be removed one by one, each with all its slices.

    ``residual``: it passes through an add that ties two branches. ``offset``: a channel whose filters are zero still emits a constant
    (sigmoid(0) = 0.5), which removal folds into the next layer.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    residual: bool
    offset: bool = False

    def producers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role == "out")

    def consumers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role == "in")


@dataclass(frozen=True)
class LeftAlone:
    """A layer with output channels that are not pruned, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Grouping:
    """All groups of a network, what is left alone, and the trace both come from."""

    groups: tuple[Group, ...]
    left: tuple[LeftAlone, ...]
    traced: fx.GraphModule

    def named(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}

    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input image, [C, H, W]."""
        placeholder = next(node for node in self.traced.graph.nodes if node.op == "placeholder")
        return tuple(placeholder.meta["tensor_meta"].shape[1:])


def find_groups(model: nn.Module, example_input: torch.Tensor, *, residual: bool = False) -> Grouping:
    """Find the groups of a network.

    Args:
        model: any network that ``torch.fx`` can trace.
        example_input: float [N, C, H, W].
        residual: also the widths that pass through residual adds, not only the inner channels of blocks.

    Raises:
        ModelError: the network cannot be traced, or nothing in it can be pruned.
    """
    traced = trace(model, example_input)
    with evaluating(model):
        labels = follow(traced)
    groups, left = _assemble(labels)
    kept_out = [] if residual else [g for g in groups if g.residual]
    left += [LeftAlone(m.path, "its width passes through a residual add (ask for residual=True)") for g in kept_out for m in g.producers()]
    chosen = tuple(g for g in groups if g not in kept_out)
    if not chosen:
        why = "; ".join(f"{item.path}: {item.reason}" for item in left[:3]) or "it has no convolution followed by another layer"
        raise ModelError(f"nothing in {type(model).__name__} can be pruned ({why})")
    return Grouping(chosen, tuple(left), traced)


def _assemble(labels: Labels) -> tuple[list[Group], list[LeftAlone]]:
    """Sort the joined labels into groups: channels whose slices lie in the same modules, equally many in each, belong together."""
    slices: dict[int, dict[tuple[str, Role], list[int]]] = {}
    for place, carried in labels.places.items():
        for position, label in enumerate(carried):
            slices.setdefault(labels.root(label), {}).setdefault(place, []).append(position)
    families: dict[tuple[tuple[str, Role, int], ...], list[int]] = {}
    unused: set[int] = set()
    for root, where in slices.items():
        if root == NONE or labels.why_fixed(root) is not None:
            continue
        key = tuple((path, role, len(positions)) for (path, role), positions in where.items())
        if any(role == "in" for _, role, _ in key):
            families.setdefault(key, []).append(root)
        else:
            unused.add(root)

    added, offset = ({labels.root(label) for label in some} for some in (labels.added, labels.offset))
    groups: list[Group] = []
    names: dict[str, int] = {}
    for key, roots in families.items():
        first = next(path for path, role, _ in key if role == "out")
        names[first] = names.get(first, 0) + 1
        name = first if names[first] == 1 else f"{first}#{names[first]}"
        members = tuple(Member(path, role, tuple(tuple(slices[r][path, role]) for r in roots)) for path, role, _ in key)
        groups.append(Group(name, len(roots), members, not added.isdisjoint(roots), not offset.isdisjoint(roots)))
    single = [group for group in groups if group.channels == 1]
    left = [LeftAlone(m.path, "its channels are one, or all tied to each other") for group in single for m in group.producers()]
    left += _left_alone(labels, unused)
    return [group for group in groups if group.channels > 1], left


def _left_alone(labels: Labels, unused: set[int]) -> list[LeftAlone]:
    left = []
    others = dict.fromkeys(unused, "no layer reads it") | {NONE: "its channels are those of the network's input"}
    for (path, role), carried in labels.places.items():
        if role != "out":
            continue
        roots = [labels.root(label) for label in carried]
        reasons = [labels.why_fixed(root) or others.get(root) for root in roots]
        fixed = [reason for reason in reasons if reason is not None]
        if fixed:
            part = "" if len(fixed) == len(carried) else f"{len(fixed)} of {len(carried)} channels: "
            left.append(LeftAlone(path, part + fixed[0]))
    return left
