"""The built-in networks by name. A new one is a file beside this and a row here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from gleanet.nn.networks.densenet import DenseNet
from gleanet.nn.networks.mobilenet import MobileNetV2
from gleanet.nn.networks.resnet import Basic, Bottleneck, ResNet
from gleanet.nn.networks.resnet_cifar import CifarResNet
from gleanet.nn.networks.squeezenet import SqueezeNet
from gleanet.nn.networks.vgg import Vgg

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)


@dataclass(frozen=True)
class Network:
    """How a built-in network is made, and what it is made for.

    Attributes:
        make: takes num_classes and activation, gives the network with weights as torch's constructors leave them.
        input_shape: (channels, height, width) of the images it was published for.
        classes: number of logits where none is asked for.
        activation: the published one, a name of ``ACTIVATIONS``.
        takes_widths: ``make`` also takes widths of inner convolutions.
    """

    make: Callable[..., nn.Module]
    input_shape: tuple[int, int, int] = CIFAR
    classes: int = 10
    activation: str = "relu"
    takes_widths: bool = False


def _large(make: Callable[..., nn.Module], activation: str = "relu") -> Network:
    return Network(make, IMAGENET, 1000, activation)


_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}

NETWORKS: dict[str, Network] = {
    "resnet8": Network(partial(CifarResNet, 1), (3, 16, 16), takes_widths=True),  # made for the digits
    **{name: Network(partial(CifarResNet, blocks), takes_widths=True) for name, blocks in _BLOCKS.items()},
    **{
        f"{name}_b": Network(partial(CifarResNet, _BLOCKS[name], shortcut="B"), takes_widths=True)
        for name in ("resnet20", "resnet56", "resnet110")
    },
    "resnet18": _large(partial(ResNet, Basic, (2, 2, 2, 2))),
    "resnet34": _large(partial(ResNet, Basic, (3, 4, 6, 3))),
    "resnet50": _large(partial(ResNet, Bottleneck, (3, 4, 6, 3))),
    "resnet18_cifar": Network(partial(ResNet, Basic, (2, 2, 2, 2), small=True)),
    "vgg16_bn": _large(Vgg),
    "vgg16_bn_cifar": Network(partial(Vgg, small=True)),
    "mobilenet_v2": _large(MobileNetV2, "relu6"),
    "mobilenet_v2_cifar": Network(partial(MobileNetV2, small=True), activation="relu6"),
    "squeezenet1_1": _large(SqueezeNet),
    "squeezenet1_1_cifar": Network(partial(SqueezeNet, small=True)),
    "densenet40": Network(partial(DenseNet, 12)),
}
