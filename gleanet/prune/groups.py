"""Groups: slices of tensors that must be removed together (DESIGN: *group*, *channel*)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from gleanet.core.errors import ModelError
from gleanet.nn.trace import evaluating, trace
from gleanet.prune.channels import follow
from gleanet.prune.labels import Labels, Role


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
    for path in (m.path for g in kept_out for m in g.producers()):
        left.setdefault(path, []).append("its width passes through a residual add (ask for residual=True)")
    chosen = tuple(g for g in groups if g not in kept_out)
    if not chosen:
        why = (
            "; ".join(f"{path}: {reasons[0]}" for path, reasons in list(left.items())[:3])
            or "it has no convolution followed by another layer"
        )
        raise ModelError(f"nothing in {type(model).__name__} can be pruned ({why})")
    return Grouping(chosen, tuple(LeftAlone(path, "; ".join(reasons)) for path, reasons in left.items()), traced)


def _assemble(labels: Labels) -> tuple[list[Group], dict[str, list[str]]]:
    """Sort the joined labels into groups: channels whose slices lie in the same modules, equally many in each, belong together."""
    table = labels.table()
    places = {place: table[carried].numpy() for place, carried in labels.places.items()}
    reasons = labels.reasons()
    family = _families(places, list(reasons), len(table))
    added, offset = (set(table[list(some)].tolist()) for some in (labels.added, labels.offset))

    members: dict[int, list[Member]] = {}
    channels: dict[int, NDArray[np.int64]] = {}  # the roots of each family, in the order of the first place that carries them
    ranks: dict[int, NDArray[np.int64]] = {}  # where in that order each root is, the roots ascending
    known: dict[bytes, tuple[tuple[int, ...], ...]] = {}
    for (path, role), roots in places.items():
        for number in np.unique(family[roots][family[roots] > 0]).tolist():
            own = roots[family[roots] == number]
            if number not in channels:
                channels[number] = own[np.sort(np.unique(own, return_index=True)[1])]
                ranks[number] = np.argsort(np.argsort(channels[number]))
            positions = np.nonzero(family[roots] == number)[0][np.argsort(own, kind="stable")].reshape(len(ranks[number]), -1)
            members.setdefault(number, []).append(Member(path, role, _tuples(positions[ranks[number]], known)))

    groups: list[Group] = []
    names: dict[str, int] = {}
    left = _left_alone(places, reasons)
    for number, parts in members.items():
        producers = [member.path for member in parts if member.role == "out"]
        if all(member.role != "in" for member in parts) or len(channels[number]) == 1:
            why = "its channels are one, or all tied to each other" if len(channels[number]) == 1 else "no layer reads it"
            for path in producers:
                left.setdefault(path, []).append(why)
            continue
        names[producers[0]] = names.get(producers[0], 0) + 1
        name = producers[0] if names[producers[0]] == 1 else f"{producers[0]}#{names[producers[0]]}"
        here = set(channels[number].tolist())
        groups.append(Group(name, len(here), tuple(parts), not added.isdisjoint(here), not offset.isdisjoint(here)))
    return groups, left


def _tuples(index: NDArray[np.int64], known: dict[bytes, tuple[tuple[int, ...], ...]]) -> tuple[tuple[int, ...], ...]:
    """Rows as tuples; equal ones are made once, since most members of a group carry its channels alike."""
    key = index.shape[1].to_bytes(4, "little") + index.tobytes()
    if key not in known:
        known[key] = tuple(map(tuple, index.tolist()))
    return known[key]


def _families(places: dict[tuple[str, Role], NDArray[np.int64]], fixed: list[int], count: int) -> NDArray[np.int64]:
    """A number for each root [count]: equal for roots that occur in the same places equally often, 0 for those that cannot be removed.

    All roots start as one family; each place splits families into those that it does not carry, carries once, twice, ...
    """
    family = np.ones(count, dtype=np.int64)
    following = 2
    for roots in places.values():
        carried, times = np.unique(roots, return_counts=True)
        _, split = np.unique(np.stack([family[carried], times]), axis=1, return_inverse=True)
        family[carried] = following + split.reshape(-1)
        following = int(family.max()) + 1
    family[fixed] = 0
    return family


def _left_alone(places: dict[tuple[str, Role], NDArray[np.int64]], reasons: dict[int, str]) -> dict[str, list[str]]:
    """Why channels of a layer stay, by its path."""
    left: dict[str, list[str]] = {}
    for (path, role), roots in places.items():
        fixed = roots[np.isin(roots, list(reasons))]
        if role == "out" and len(fixed):
            part = "" if len(fixed) == len(roots) else f"{len(fixed)} of {len(roots)} channels: "
            left[path] = [part + reasons[int(fixed[0])]]
    return left
