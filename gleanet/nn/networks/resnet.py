"""ResNet-18, -34 and -50 (K. He et al., "Deep Residual Learning for Image Recognition", 2015, table 1), with option-B shortcuts.

Parameters have torchvision's names, so its state dicts load. In a bottleneck block the 3x3 convolution has the stride, as there.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gleanet.nn.activations import activation as activation_row

WIDTHS = (64, 128, 256, 512)
Act = Callable[[], nn.Module]


class Basic(nn.Module):
    """3x3, 3x3, plus the shortcut, then act. [N, inputs, H, W] -> [N, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, act: Act) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width), act()
        self.conv2, self.bn2, self.act2 = _conv(width, width, 3), nn.BatchNorm2d(width), act()
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.act2(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width, plus the shortcut, then act. [N, inputs, H, W] -> [N, 4 * width, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, act: Act) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = _conv(inputs, width, 1), nn.BatchNorm2d(width), act()
        self.conv2, self.bn2, self.act2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width), act()
        self.conv3, self.bn3, self.act3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width), act()
        self.downsample = _projection(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Four stages of blocks with 64, 128, 256 and 512 channels (four times that after bottlenecks), average pooling, linear head.

    Args:
        block: Basic or Bottleneck.
        counts: blocks of each stage.
        num_classes: width of the head.
        activation: a name of the table ``ACTIVATIONS``; every use is its own module.
        small: for 32 x 32 pixels: a 3x3 stem of stride 1 and no max-pooling, as K. Liu's public pytorch-cifar has it.

    Input [N, 3, H, W] float; output [N, num_classes].

    Raises:
        ModelError: unknown activation.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        counts: Sequence[int],
        num_classes: int = 1000,
        activation: str = "relu",
        small: bool = False,
    ) -> None:
        super().__init__()
        act = activation_row(activation)
        self.conv1 = _conv(3, 64, 3) if small else _conv(3, 64, 7, stride=2)
        self.bn1, self.act = nn.BatchNorm2d(64), act()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for stage, (width, count) in enumerate(zip(WIDTHS, counts, strict=True), start=1):
            made = []
            for index in range(count):
                made.append(block(inputs, width, 2 if stage > 1 and index == 0 else 1, act))
                inputs = width * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*made))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
