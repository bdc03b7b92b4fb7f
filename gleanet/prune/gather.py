"""Images caught from a training loop: what a criterion and a refit need, without one more line in that loop."""

from typing import Any

import torch
from torch import Tensor, nn


class Gather:
    """Copies of the first ``count`` images that a network is trained on, taken by a hook on its forward.

    Args:
        model: the network in training; its first argument is a batch of images [B, C, H, W].
        count: how many to keep.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self.images: list[Tensor] = []
        self._count = count

        # a closure and not a method: a copy of the network then brings no copy of this object with it
        def see(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            missing = self._count - self.held
            if module.training and torch.is_grad_enabled() and missing > 0 and isinstance(inputs[0], Tensor):
                self.images.append(inputs[0][:missing].detach().clone())

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
