"""SqueezeNet 1.1 (F. Iandola et al., arXiv 1602.07360; version 1.1 is the authors' later release, with 2.4 times less computation).

Parameters have torchvision's names, so its state dicts load. No batch-norm, as published.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gleanet.nn.activations import activation as activation_row

# squeeze and expand widths of the fire modules, and None where max-pooling lies
FIRES = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))


class Fire(nn.Module):
    """1x1 to few channels, from there 1x1 and 3x3 side by side, concatenated. [N, inputs, H, W] -> [N, 2 * expand, H, W]."""

    def __init__(self, inputs: int, squeeze: int, expand: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.squeeze, self.squeeze_activation = nn.Conv2d(inputs, squeeze, 1), act()
        self.expand1x1, self.expand1x1_activation = nn.Conv2d(squeeze, expand, 1), act()
        self.expand3x3, self.expand3x3_activation = nn.Conv2d(squeeze, expand, 3, padding=1), act()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """A 3x3 stem, eight fire modules, and a 1x1 convolution to the classes whose activations are averaged.

    Args:
        num_classes: number of logits.
        activation: a name of the table ``ACTIVATIONS``; every use is its own module, the one on the logits too.
        small: for 32 x 32 pixels: the stem has stride 1 and pads.

    Input [N, 3, H, W] float; output [N, num_classes].

    Raises:
        ModelError: unknown activation.
    """

    def __init__(self, num_classes: int = 1000, activation: str = "relu", small: bool = False) -> None:
        super().__init__()
        act = activation_row(activation)
        stem = nn.Conv2d(3, 64, 3, padding=1) if small else nn.Conv2d(3, 64, 3, stride=2)
        layers: list[nn.Module] = [stem, act(), _pool()]
        inputs = 64
        for fire in FIRES:
            if fire is None:
                layers.append(_pool())
            else:
                layers.append(Fire(inputs, *fire, act))
                inputs = 2 * fire[1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(inputs, num_classes, 1), act(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
