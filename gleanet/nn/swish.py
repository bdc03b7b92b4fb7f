"""Swish with a slope: x * sigmoid(beta * x) (P. Ramachandran, B. Zoph, Q. Le, "Searching for Activation Functions", 2017)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import SettingsError


def swish(x: Tensor, beta: float) -> Tensor:
    """x * sigmoid(beta * x), elementwise; one node in a ``torch.fx`` trace. Shape and dtype of ``x``."""
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(beta * x)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # torch.sigmoid is 0 where the sigmoid is below the smallest normal float32; its logarithm is not lost there
    return (wide * F.logsigmoid(beta * wide).exp()).to(x.dtype)


torch.fx.wrap("swish")


class Swish(nn.Module):
    """f(x) = x * sigmoid(beta * x). beta = 1 is SiLU; large beta tends to ReLU. 16-bit inputs are computed in float32.

    Args:
        beta: the slope, > 0.

    Raises:
        SettingsError: beta is not a positive number.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(beta) and beta > 0):
            raise SettingsError(f"Swish: beta must be a positive number, got {beta}")
        self.beta = float(beta)

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return swish(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta:.6g}"
