"""What one image costs: multiply-accumulates and parameters, layer by layer."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.nn.dry import shapes_only
from gleanet.nn.modes import mode
from gleanet.nn.narrow import CONVS, TRANSPOSED


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer; used twice, its MACs count twice and its parameters once. ``out_shape`` is without the batch."""

    path: str
    kind: str
    macs: int
    params: int
    out_shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """MACs of one image, all parameters of the network, and its convolutions and linear layers in the order they ran."""

    macs: int
    params: int
    layers: tuple[LayerCost, ...]


def cost(model: nn.Module, example_input: Tensor) -> Cost:
    """Count by running one image through the network's code; its layers compute nothing.

    MACs of convolutions (grouped and transposed too) and linear layers; bias, norm and activations not counted. Calls of ``F.conv2d``
    outside a module are not seen.

    Args:
        model: any module with one input; left as it was (mode, hooks, running statistics).
        example_input: [N, ...]; only the first image is used, so the result is for one image whatever N is.

    Returns:
        Cost for one image; ``params`` counts every parameter, norms and biases included.

    Raises:
        ModelError: the network does not accept the example.
    """
    found: dict[str, LayerCost] = {}
    handles = [
        module.register_forward_hook(_counter(path, module, found))
        for path, module in model.named_modules()
        if isinstance(module, (*CONVS, *TRANSPOSED, nn.Linear))
    ]
    try:
        with mode(model, training=False), torch.no_grad(), shapes_only(model):
            model(example_input[:1])
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"the network does not accept an input of shape {list(example_input.shape)}: {first}", slug="model-input"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    layers = tuple(found.values())
    return Cost(sum(layer.macs for layer in layers), sum(p.numel() for p in model.parameters()), layers)


def _counter(path: str, module: nn.Module, found: dict[str, LayerCost]) -> Any:
    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # the weights each output position uses: weight is [out, in/groups, ...]; transposed, each input position: [in, out/groups, ...]
        positions = inputs[0] if isinstance(module, TRANSPOSED) else output
        macs = positions[0].numel() * prod(weight.shape[1:])
        before = found.get(path)
        found[path] = LayerCost(
            path=path,
            kind=type(module).__name__.lower(),
            macs=macs + (before.macs if before else 0),
            params=sum(p.numel() for p in module.parameters(recurse=False)),
            out_shape=tuple(output.shape[1:]),
        )

    return count


def class_count(model: nn.Module, example_input: Tensor) -> int:
    """How many logits the network gives for one image.

    Raises:
        ModelError: it does not accept the example, or its output is not [N, K].
    """
    try:
        with mode(model, training=False), torch.no_grad(), shapes_only(model):
            logits = model(example_input[:1])
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ModelError(
            f"the network does not accept an input of shape {list(example_input.shape)}: {first}", slug="model-input"
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"not a classifier: for one image the network gives {shown}, expected logits [1, classes]")
    return int(logits.shape[1])
