"""Initial weights of the built-in networks."""

import torch
from torch import nn


def initialise(net: nn.Module, scale: float, generator: torch.Generator | None) -> None:
    """He initialisation, fan-in, normal: std = scale / sqrt(fan_in) for convolution and linear weights; biases zero. In place.

    He et al., "Delving Deep into Rectifiers", 2015, eq. 10; ``scale`` is the gain of the activation (sqrt(2) for ReLU). A network's
    ``initial_std`` (path -> std) says where its authors had another std.
    """
    published: dict[str, float] = getattr(net, "initial_std", {})
    with torch.no_grad():
        for path, module in net.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                std = published.get(path, scale / module.weight[0].numel() ** 0.5)
                module.weight.normal_(0.0, std, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
