"""Whether torchrun has started this process, and as which of how many: read from the variables that it sets. Imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gleanet.core.errors import SettingsError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """One of ``size`` processes that torchrun has started on one machine or several.

    Attributes:
        rank: which one, 0 to ``size`` - 1; 0 writes the files and speaks for all.
        size: how many on all machines.
        local_rank, local_size: the same on this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def nodes(self) -> int:
        return self.size // self.local_size

    def command(self, arguments: str) -> str:
        """The line that starts ``gleanet ARGUMENTS`` in as many processes again."""
        if self.nodes == 1:
            return f"torchrun --nproc-per-node {self.size} -m gleanet {arguments}"
        return f"the same torchrun options on every machine and -m gleanet {arguments}"


def launch(environment: Mapping[str, str] | None = None) -> Launch | None:
    """How torchrun has started this process; None where it has not, or where this process is the only one.

    Args:
        environment: the variables; None: those of this process.

    Raises:
        SettingsError: a variable is not what torchrun sets, or the machines have different numbers of processes.
    """
    given = os.environ if environment is None else environment
    if not all(name in given for name in VARIABLES):
        return None
    numbers = {name: given[name] for name in VARIABLES[:4]}
    wrong = next((name for name, text in numbers.items() if not text.isdigit()), None)
    if wrong is not None:
        raise SettingsError(f"the variable {wrong} is {numbers[wrong]!r}: start with torchrun, which sets it to a number")
    rank, size, local_rank, local_size = map(int, numbers.values())
    if not (rank < size and local_rank < local_size <= size):
        raise SettingsError(
            f"RANK {rank} of WORLD_SIZE {size}, LOCAL_RANK {local_rank} of {local_size}: start with torchrun, which sets these"
        )
    if size == 1:
        return None
    if size % local_size or given.get("GROUP_WORLD_SIZE", str(size // local_size)) != str(size // local_size):
        raise SettingsError(f"{size} processes, {local_size} of them on this machine: give every machine the same --nproc-per-node")
    return Launch(rank, size, local_rank, local_size)
