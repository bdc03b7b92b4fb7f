"""``build``: from what a user calls a network to an ``nn.Module`` with its architecture record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gleanet.core.errors import CheckpointError, ModelError
from gleanet.nn.architecture import Architecture, architecture_of, has_architecture, set_architecture
from gleanet.nn.checkpoint import is_checkpoint, load, read_header
from gleanet.nn.cost import class_count
from gleanet.nn.factory import NAMES, accepts, is_builtin, make
from gleanet.nn.networks import NETWORKS
from gleanet.nn.normact import split_norm_acts
from gleanet.nn.surgery import replace_activations
from gleanet.nn.weights import load_weights


def build(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    activation: str | None = None,
    widths: Mapping[str, int] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Make a network, optionally with a checkpoint's weights.

    Args:
        name: a name of ``NAMES`` (resnet20, resnet50, vgg16_bn_cifar, ...); a ``.gleanet`` file; or "package.module:function" of the
            user's own code, which is imported (the current directory counts) and must return an ``nn.Module``.
        weights: a state dict (``.th``, ``.pt``, ``.pth``, ``.safetensors``), or a ``.gleanet`` file of the same network, whose widths and
            activations then hold.
        num_classes: logits; default as published (10 or 1000), or what the file has. A function of the user's gets it if it takes an
            argument of that name.
        activation: a name of ``ACTIVATIONS``; default as published, or what the file has.
        widths: path of an inner convolution ("layer1.0.conv1") -> channels; CIFAR ResNets only.
        seed: of the initial weights; None: torch's global generator.

    Returns:
        The network on the CPU with attribute ``architecture``; in evaluation mode if it has a file's weights, else in training mode.

    Raises:
        ModelError: unknown or unusable network, or another number of classes.
        CheckpointError: the file cannot be used for it.
    """
    name = str(name)
    if not is_builtin(name) and (Path(name).is_file() or name.endswith(".gleanet")):
        net = _from_file(name, None, activation, widths)
    elif weights is not None and is_checkpoint(weights):
        net = _from_file(weights, name, activation, widths)
    else:
        net = _fresh(name, num_classes, activation, widths, seed)
        if weights is not None:
            load_weights(net, weights).eval()
        # after the weights, whose names are those of the network as its author wrote it
        return net if is_builtin(name) else split_norm_acts(net)
    if num_classes is not None and is_builtin(architecture_of(net).factory):  # of other networks we do not know the input's size
        check_classes(net, num_classes)
    return net


def input_size(name: str | Path, weights: str | Path | None = None) -> int | None:
    """Side of the images that a network was made for, in pixels, as far as a built-in name or a file of ours tells; None where none does.

    Raises:
        CheckpointError: a file of ours that cannot be read.
    """
    for given in (name, weights):
        if given is not None and is_builtin(str(given)):
            return NETWORKS[str(given)].input_shape[1]
        if given is not None and is_checkpoint(given):
            return read_header(given).architecture.input_shape[1]
    return None


def check_classes(net: nn.Module, num_classes: int) -> None:
    """Run one blank image of the record's input shape and compare the number of logits.

    Raises:
        ModelError: they differ.
    """
    found = class_count(net, torch.zeros(1, *architecture_of(net).input_shape))
    if found != num_classes:
        raise ModelError(
            f"the network tells {found} classes apart, {num_classes} are asked for: use data with {found} classes or another network",
            slug="model-classes",
        )


def _from_file(path: str | Path, factory: str | None, activation: str | None, widths: Mapping[str, int] | None) -> nn.Module:
    if widths:
        raise ModelError(f"{path} fixes the widths itself: leave widths out")
    if factory is not None and is_builtin(factory) and read_header(path).architecture.factory != factory:
        raise CheckpointError(f"{path} holds a {read_header(path).architecture.factory}, not a {factory}")
    net = load(path, factory=factory)
    return net if activation is None else replace_activations(net, activation)


def _fresh(name: str, num_classes: int | None, activation: str | None, widths: Mapping[str, int] | None, seed: int | None) -> nn.Module:
    if is_builtin(name):
        row = NETWORKS[name]
        kwargs: dict[str, Any] = {
            "num_classes": row.classes if num_classes is None else num_classes,
            "activation": activation or row.activation,
        }
        net = make(name, kwargs, widths, seed)
        set_architecture(net, Architecture(name, kwargs, dict(widths or {}), row.input_shape))
        return net
    if ":" not in name:
        raise ModelError(
            f"unknown network {name!r}: choose one of {', '.join(NAMES)}, a .gleanet file, or package.module:function", slug="model-unknown"
        )
    if widths:
        raise ModelError(f"{name} is not a built-in network: leave widths out")
    kwargs = {"num_classes": num_classes} if num_classes is not None and accepts(name, "num_classes") else {}
    net = make(name, kwargs, seed=seed)
    if not has_architecture(net):
        set_architecture(net, Architecture(name, kwargs))
    return net if activation is None else replace_activations(net, activation)
