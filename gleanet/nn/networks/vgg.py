"""VGG-16 (K. Simonyan, A. Zisserman, ICLR 2015, configuration D) with batch-norm behind every convolution.

Parameters of the large form have torchvision's names, so its state dicts load.
"""

import torch
from torch import Tensor, nn

from gleanet.nn.activations import activation as activation_row

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # max-pooling behind each


class Vgg(nn.Module):
    """Thirteen 3x3 convolutions in five stages, then linear layers on the flattened map.

    Args:
        num_classes: width of the head.
        activation: a name of the table ``ACTIVATIONS``; every use is its own module.
        small: for 32 x 32 pixels: one linear layer on the 512 channels that are left at one position, as K. Liu's public pytorch-cifar
            has it; otherwise two hidden layers of 4096 on 7 x 7 positions.

    Input [N, 3, H, W] float, H and W from 32 (large) or from 16 (small); output [N, num_classes].

    Raises:
        ModelError: unknown activation.
    """

    def __init__(self, num_classes: int = 1000, activation: str = "relu", small: bool = False) -> None:
        super().__init__()
        act = activation_row(activation)
        layers: list[nn.Module] = []
        inputs = 3
        for stage in STAGES:
            for width in stage:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), act()]
                inputs = width
            layers.append(nn.MaxPool2d(2, ceil_mode=small))  # rounding up: the last one leaves a map of 16 x 16 pixels its one position
        self.features = nn.Sequential(*layers)
        if small:
            self.avgpool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(inputs, num_classes))
        else:
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            hidden = [nn.Linear(inputs * 49, 4096), act(), nn.Dropout(), nn.Linear(4096, 4096), act(), nn.Dropout()]
            self.classifier = nn.Sequential(*hidden, nn.Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]
