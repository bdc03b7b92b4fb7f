"""Groups: slices of tensors that must be removed together (DESIGN: *group*, *channel*)."""

from dataclasses import dataclass

import torch
from torch import fx, nn

from gleanet.core.errors import ModelError
from gleanet.prune.channels import CONVS, FIXED, Labels, Role, follow
from gleanet.prune.trace import trace


@dataclass(frozen=True)
class Member:
    """Where a group's channels lie in one dimension of one module.

    ``role`` is "out" (rows of a convolution's or linear layer's weight, and its bias), "norm" (entries of a batch-norm) or "in"
    (columns of the next layer's weight). ``index[c]`` holds the positions of channel ``c``: one, or several where a flatten
    spreads a channel over many features. Example: 16 channels of 7x7 flattened into a linear layer -> 16 tuples of 49 positions.
    """

    path: str
    role: Role
    index: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Group:
    """Channels that can be removed one by one, each with all its slices. ``residual``: it passes through an add of two branches."""

    name: str
    channels: int
    members: tuple[Member, ...]
    residual: bool

    def producers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role == "out")

    def consumers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role == "in")


@dataclass(frozen=True)
class LeftAlone:
    """A layer whose output channels are not pruned, and why."""

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
    labels = follow(traced)
    groups, left = _assemble(labels)
    kept_out = [g for g in groups if g.residual and not residual]
    left += [LeftAlone(m.path, "residual width (ask for residual=True)") for g in kept_out for m in g.producers()]
    chosen = tuple(g for g in groups if residual or not g.residual)
    if not chosen:
        why = "; ".join(f"{item.path}: {item.reason}" for item in left[:3]) or "it has no convolution followed by another layer"
        raise ModelError(f"nothing in {type(model).__name__} can be pruned ({why})")
    return Grouping(chosen, tuple(left), traced)


def _assemble(labels: Labels) -> tuple[list[Group], list[LeftAlone]]:
    """Sort the joined labels into groups: channels whose slices lie in the same modules belong together."""
    slices: dict[int, dict[tuple[str, Role], list[int]]] = {}
    for path, role, carried in labels.places:
        for position, label in enumerate(carried):
            slices.setdefault(labels.root(label), {}).setdefault((path, role), []).append(position)
    order = [root for root in slices if root != FIXED]
    families: dict[tuple[tuple[str, Role, int], ...], list[int]] = {}
    for root in order:
        key = tuple((path, role, len(positions)) for (path, role), positions in slices[root].items())
        families.setdefault(key, []).append(root)
    added = {labels.root(label) for label in labels.added}

    groups: list[Group] = []
    for key, roots in families.items():
        producers = [path for path, role, _ in key if role == "out"]
        if not producers or all(role != "in" for _, role, _ in key):
            continue
        members = tuple(Member(path, role, tuple(tuple(slices[r][path, role]) for r in roots)) for path, role, _ in key)
        name = producers[0] if all(g.name != producers[0] for g in groups) else f"{producers[0]}#{len(groups)}"
        groups.append(Group(name, len(roots), members, residual=any(r in added for r in roots)))
    return groups, _left_alone(labels)


def _left_alone(labels: Labels) -> list[LeftAlone]:
    left = []
    reasons = {labels.root(label): reason for label, reason in labels.reasons.items()}
    for path, role, carried in labels.places:
        fixed = [label for label in carried if labels.root(label) == FIXED]
        if role == "out" and fixed:
            reason = next((labels.reasons[label] for label in fixed if label in labels.reasons), None)
            left.append(LeftAlone(path, reason or reasons.get(FIXED) or "it is added to channels that cannot be removed"))
    return left


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, CONVS) and module.groups > 1 and module.groups == module.in_channels == module.out_channels
