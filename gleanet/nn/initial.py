"""Initial weights of the built-in networks."""

import torch
from torch import nn


def initialise(net: nn.Module, scale: float, generator: torch.Generator | None) -> None:
    """He initialisation, fan-in, normal: std = scale / sqrt(fan_in) for convolution and linear weights; biases zero. In place.

    He et al., "Delving Deep into Rectifiers", 2015, eq. 10; ``scale`` is the gain of the activation (sqrt(2) for ReLU).
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0.0, scale / module.weight[0].numel() ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
