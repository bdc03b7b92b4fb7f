"""CIFAR ResNets (K. He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2), with option-A or option-B shortcuts.

Names and arithmetic equal those of Y. Idelbayev's public implementation, so its checkpoints load.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import ModelError
from gleanet.nn.activations import activation as activation_row

STAGES = (16, 32, 64)
Shortcut = Literal["A", "B"]


class Padded(nn.Module):
    """Option A: subsample, and pad with zero channels equally on both sides. No parameters."""

    def __init__(self, stride: int, missing: int) -> None:
        super().__init__()
        self.stride, self.missing = stride, missing

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.missing == 0:
            return x
        before = self.missing // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))


class Block(nn.Module):
    """conv-bn-act-conv-bn, plus the shortcut, then act. [N, inputs, H, W] -> [N, outputs, H/stride, W/stride]."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, act: Callable[[], nn.Module], shortcut: Shortcut = "A") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = act()
        self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = act()
        if shortcut == "A" or (stride == 1 and inputs == outputs):
            self.shortcut: nn.Module = Padded(stride, outputs - inputs)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.act2(y + self.shortcut(x))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """Three stages of ``blocks`` blocks with 16, 32 and 64 channels, global average pooling, linear head: depth 6 * blocks + 2.

    Args:
        blocks: blocks per stage (3: ResNet-20, 9: ResNet-56).
        num_classes: width of the head.
        activation: a name of the table ``ACTIVATIONS``; every use is its own module.
        shortcut: where a block changes the shape: "A" pads with zeros, "B" projects with a 1x1 convolution and batch-norm.
        widths: path of an inner convolution ("layer2.0.conv1") -> its output channels, default the stage's.

    Input [N, 3, H, W] float, any H and W >= 4; output [N, num_classes].

    Raises:
        ModelError: unknown activation, or a width for a path that is not an inner convolution, or out of range.
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int = 10,
        activation: str = "relu",
        shortcut: Shortcut = "A",
        widths: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        act = activation_row(activation)
        inner = _inner_widths(blocks, widths or {})
        self.conv1 = nn.Conv2d(3, STAGES[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0])
        self.act = act()
        inputs = STAGES[0]
        for stage, outputs in enumerate(STAGES, start=1):
            made = []
            for index in range(blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                made.append(Block(inputs, inner[f"layer{stage}.{index}.conv1"], outputs, stride, act, shortcut))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*made))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(STAGES[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # type: ignore[operator]
        return self.linear(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]


def _inner_widths(blocks: int, widths: Mapping[str, int]) -> dict[str, int]:
    inner = {f"layer{stage}.{index}.conv1": channels for stage, channels in enumerate(STAGES, start=1) for index in range(blocks)}
    for path, channels in widths.items():
        if path not in inner:
            raise ModelError(
                f"widths: {path!r} is not an inner convolution of this network: use layerS.B.conv1, S 1 to 3, B 0 to {blocks - 1}"
            )
        if channels < 1:
            raise ModelError(f"widths: {path} needs at least 1 channel, got {channels}")
    return inner | dict(widths)
