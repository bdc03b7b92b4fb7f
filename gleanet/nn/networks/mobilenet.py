"""MobileNetV2 (M. Sandler et al., CVPR 2018, table 2). Parameters have torchvision's names, so its state dicts load."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gleanet.nn.activations import activation as activation_row

# widening inside the block, output channels, blocks, stride of the first block: the paper's t, c, n, s
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
Act = Callable[[], nn.Module]


class Inverted(nn.Module):
    """Widen (1x1), depthwise 3x3, narrow (1x1) without activation; plus the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, widening: int, act: Act) -> None:
        super().__init__()
        inner = inputs * widening
        layers = [_conv_bn_act(inputs, inner, 1, act)] if widening > 1 else []
        layers.append(_conv_bn_act(inner, inner, 3, act, stride, groups=inner))
        self.conv = nn.Sequential(*layers, nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)  # type: ignore[no-any-return]


class MobileNetV2(nn.Module):
    """Seventeen inverted residual blocks between a 3x3 stem and a 1x1 convolution to 1280 channels; average pooling, linear head.

    Args:
        num_classes: width of the head.
        activation: a name of the table ``ACTIVATIONS``, "relu6" in the paper; every use is its own module.
        small: for 32 x 32 pixels: stride 1 instead of 2 in the stem and in the second stage, as K. Liu's public pytorch-cifar has it.

    Input [N, 3, H, W] float; output [N, num_classes].

    Raises:
        ModelError: unknown activation.
    """

    def __init__(self, num_classes: int = 1000, activation: str = "relu6", small: bool = False) -> None:
        super().__init__()
        act = activation_row(activation)
        layers: list[nn.Module] = [_conv_bn_act(3, 32, 3, act, stride=1 if small else 2)]
        inputs = 32
        for stage, (widening, outputs, blocks, stride) in enumerate(STAGES):
            for block in range(blocks):
                first = 1 if small and stage == 1 else stride
                layers.append(Inverted(inputs, outputs, first if block == 0 else 1, widening, act))
                inputs = outputs
        self.features = nn.Sequential(*layers, _conv_bn_act(inputs, 1280, 1, act))
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))  # type: ignore[no-any-return]


def _conv_bn_act(inputs: int, outputs: int, kernel: int, act: Act, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act())
