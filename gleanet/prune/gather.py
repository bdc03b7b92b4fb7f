"""Images caught from a training loop: what a criterion and a refit need, without one more line in that loop."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Gather:
    """Copies of the first ``count`` images that a network is trained on, taken by a hook on its forward.

    Args:
        model: the network in training; its first argument is a batch of images [B, C, H, W].
        count: how many to keep.
        processes: where several processes train one network, each on every n-th image of a batch: all of them then keep the images of
            all, in the order of the batch, which is what one process would keep.
    """

    def __init__(self, model: nn.Module, count: int, processes: dist.ProcessGroup | None = None) -> None:
        self.images: list[Tensor] = []
        self._count = count

        # a closure and not a method: a copy of the network then brings no copy of this object with it
        def see(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            missing = self._count - self.held
            if module.training and torch.is_grad_enabled() and missing > 0 and isinstance(inputs[0], Tensor):
                batch = inputs[0].detach() if processes is None else _whole(inputs[0].detach(), processes)
                self.images.append(batch[:missing].clone())

        self._handle = model.register_forward_pre_hook(see)

    @property
    def held(self) -> int:
        return sum(len(batch) for batch in self.images)

    @property
    def enough(self) -> bool:
        return self.held >= self._count

    def close(self) -> None:
        """Take the hook off the network."""
        self._handle.remove()


def _whole(part: Tensor, processes: dist.ProcessGroup) -> Tensor:
    """The batch of which each process has every n-th image; parts differ by one image at most."""
    size, rank = dist.get_world_size(processes), dist.get_rank(processes)
    lengths = torch.zeros(size, dtype=torch.int64, device=part.device)
    lengths[rank] = len(part)
    dist.all_reduce(lengths, group=processes)
    longest = int(lengths.max())
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded, group=processes)
    mixed = torch.stack(parts, 1).flatten(0, 1)  # image i of process r is image i * n + r of the batch
    there = torch.stack([torch.arange(longest, device=part.device) < length for length in lengths], 1).flatten()
    last = part.is_contiguous(memory_format=torch.channels_last) if part.dim() == 4 else False
    return mixed[there].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
