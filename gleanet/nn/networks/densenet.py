"""CIFAR DenseNet without bottleneck and compression (G. Huang et al., CVPR 2017, section 4.2). Names follow torchvision's DenseNet."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gleanet.nn.activations import activation as activation_row

Act = Callable[[], nn.Module]
STEM = 24  # twice the growth rate, as the pruning literature has it (Network Slimming, HRank); the paper's own table used 16


class DenseLayer(nn.Module):
    """norm-act-conv, whose output is appended. [N, inputs, H, W] -> [N, inputs + growth, H, W]."""

    def __init__(self, inputs: int, growth: int, act: Act) -> None:
        super().__init__()
        self.norm1, self.act1 = nn.BatchNorm2d(inputs), act()
        self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv1(self.act1(self.norm1(x)))], 1)


class Transition(nn.Module):
    """norm-act-conv 1x1, then average pooling by two; as many channels out as in."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(width), act()
        self.conv, self.pool = nn.Conv2d(width, width, 1, bias=False), nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(self.act(self.norm(x))))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """Three dense blocks with a transition between them, average pooling, linear head.

    Args:
        layers: 3x3 convolutions in each block; depth is 3 * layers + 4.
        growth: channels that each appends.
        num_classes: width of the head.
        activation: a name of the table ``ACTIVATIONS``; every use is its own module.

    Input [N, 3, H, W] float, any H and W >= 4; output [N, num_classes].

    Raises:
        ModelError: unknown activation.
    """

    def __init__(self, layers: int, growth: int = 12, num_classes: int = 10, activation: str = "relu") -> None:
        super().__init__()
        act = activation_row(activation)
        width = STEM
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, width, 3, padding=1, bias=False))
        for number in (1, 2, 3):
            block = nn.Sequential()
            for index in range(layers):
                block.add_module(f"denselayer{index + 1}", DenseLayer(width, growth, act))
                width += growth
            self.features.add_module(f"denseblock{number}", block)
            if number < 3:
                self.features.add_module(f"transition{number}", Transition(width, act))
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.act, self.pool, self.classifier = act(), nn.AdaptiveAvgPool2d(1), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.act(self.features(x))), 1))  # type: ignore[no-any-return]
