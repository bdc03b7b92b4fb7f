"""Labels of channels: which are tied to each other, which must stay and why, and which modules carry them."""

from typing import Literal

import torch
from torch import Tensor

NONE = 0  # what is no layer's channel: the image, zero padding, a tensor of the network's own
Role = Literal["out", "norm", "in"]
Places = dict[tuple[str, Role], Tensor]


class Labels:
    """Union-find over labels.

    ``places`` says which module dimension carries which labels, position by position, in the order of the graph. ``added`` holds
    labels that an add tied to others (residual widths), ``offset`` those whose channels do not emit zero when their filters are zero.
    """

    def __init__(self) -> None:
        self._parent = [NONE]
        self._reasons: dict[int, str] = {}  # by root: why its channels cannot be removed
        self.places: Places = {}
        self.added: set[int] = set()
        self.offset: set[int] = set()

    def fresh(self, count: int) -> Tensor:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def table(self) -> Tensor:
        """The root of every label."""
        table = torch.tensor(self._parent)
        while not torch.equal(table, table[table]):
            table = table[table]
        return table

    def reasons(self) -> dict[int, str]:
        """Why channels cannot be removed, by root; those of no layer included."""
        return {**self._reasons, NONE: "its channels are those of the network's input"}

    def join(self, one: Tensor, other: Tensor, *, add: bool = False) -> None:
        """Tie labels position by position (equal shapes). ``add``: by an add of two branches."""
        one, other = thin(one, other)
        size = len(self._parent)
        for pair in torch.unique(one.reshape(-1) * size + other.reshape(-1)).tolist():
            a, b = self.root(pair // size), self.root(pair % size)
            if a == b:
                continue
            if NONE in (a, b):
                self._reasons.setdefault(max(a, b), "it meets values that cannot be removed (zero padding, or a tensor that is no layer)")
                continue
            self._parent[b] = a
            if b in self._reasons:
                self._reasons.setdefault(a, self._reasons.pop(b))
            if add:
                self.added.add(a)

    def fix(self, labels: Tensor, reason: str) -> None:
        """Channels that must stay; the first reason is kept."""
        for label in distinct(labels):
            if label != NONE:
                self._reasons.setdefault(self.root(label), reason)

    def put(self, path: str, role: Role, labels: Tensor) -> None:
        """Note which labels [n] a module's dimension carries; a module called twice ties its two sets."""
        known = self.places.get((path, role))
        if known is None:
            self.places[path, role] = labels
        else:
            self.join(known, labels)


def thin(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape without the dimensions along which all of them repeat (stride 0): as much information, far fewer values."""
    result = list(tensors)
    for dim in range(tensors[0].dim()):
        if tensors[0].shape[dim] > 1 and all(t.stride(dim) == 0 for t in tensors):
            result = [t.narrow(dim, 0, 1) for t in result]
    return result


def distinct(labels: Tensor) -> list[int]:
    values: list[int] = torch.unique(thin(labels)[0]).tolist()
    return values


def varies(labels: Tensor, dim: int) -> bool:
    """Whether labels differ along a dimension."""
    if labels.shape[dim] < 2 or labels.stride(dim) == 0:
        return False
    slim = thin(labels)[0]
    return not bool((slim == slim.narrow(dim, 0, 1)).all())


def repeated(labels: Tensor) -> Tensor:
    """Equal labels, with stride 0 along every dimension in which they do not differ."""
    for dim in range(labels.dim()):
        if labels.shape[dim] > 1 and labels.stride(dim) != 0 and not varies(labels, dim):
            labels = labels.narrow(dim, 0, 1).expand_as(labels)
    return labels


def per_channel(labels: Labels, carried: Tensor) -> Tensor | None:
    """The label of each channel [C] of a tensor [N, C, ...], or None where one channel's positions carry labels that are not tied."""
    if carried.dim() < 2:
        return None
    rows = thin(carried.movedim(1, 0))[0].flatten(1)
    if rows.shape[1] == 1 or bool((rows == rows[:, :1]).all()):
        channels = rows[:, 0]
    else:
        rows = labels.table()[rows]
        if not bool((rows == rows[:, :1]).all()):
            return None
        channels = rows[:, 0]
    return channels.expand(carried.shape[1])
