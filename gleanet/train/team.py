"""Who takes part in a training: this process alone, or several that share every batch (:mod:`gleanet.train.distributed`)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


class Team(Protocol):
    """The processes that train one network. What is collective must be called by all of them, in the same order."""

    @property
    def rank(self) -> int:
        """Which of them this process is; 0 writes the files."""

    @property
    def size(self) -> int:
        """How many they are."""

    @property
    def processes(self) -> dist.ProcessGroup | None:
        """For what exchanges on its own; None where there is nobody to exchange with."""

    def together(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """What a training step calls instead of ``model`` for the length of a block: gradients are then the mean over all processes, and
        batch norm sees the batch of all. A :meth:`guard` too. Collective."""

    def backward(self, value: Tensor) -> None:
        """Gradients of a loss that came out of :meth:`together`. Collective."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is set in one process at least. Collective."""

    def total(self, values: Tensor) -> Tensor:
        """Sums over the processes, float64 on the CPU. Collective."""

    def shared(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the process of rank 0, which alone calls it. Collective."""

    def guard(self) -> AbstractContextManager[None]:
        """A block in which the death of another process is a :class:`gleanet.core.errors.PeerLost`, and a network with parameters that
        never get a gradient a :class:`gleanet.core.errors.ModelError`."""


class Alone:
    """One process: nothing to share."""

    rank, size, processes = 0, 1, None

    def together(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        return nullcontext(model)

    def backward(self, value: Tensor) -> None:
        value.backward()  # type: ignore[no-untyped-call]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        return flags

    def total(self, values: Tensor) -> Tensor:
        return values.double().cpu()

    def shared(self, make: Callable[[], T]) -> T:
        return make()

    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


ALONE: Team = Alone()
