"""The architecture record: what must be known to build a network again, narrower or not, before its weights are read.

It hangs on the module as the plain attribute ``architecture``, so it survives ``copy.deepcopy`` and never enters the state dict.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gleanet.core.errors import ModelError
from gleanet.core.records import Preprocess


@dataclass(frozen=True)
class Architecture:
    """How a network is made.

    Attributes:
        factory: a built-in name ("resnet20") or "package.module:function".
        kwargs: what the factory was called with ("num_classes", "activation"), plain JSON values.
        widths: module path of a pruned convolution ("layer1.0.conv1"), or of a norm without tensors -> its number of channels; absent: as
            the factory makes it. The sizes of all other layers are those of their tensors.
        input_shape: (channels, height, width) of one image.
        preprocess: how pixels become the input.
        classes: class names in the order of the logits; empty when unknown.
        activations: module path -> spec (see ``activations.spec``), only where it differs from what the factory makes; ``save`` fills it.
    """

    factory: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    input_shape: tuple[int, int, int] = (3, 32, 32)
    preprocess: Preprocess = field(default_factory=Preprocess)
    classes: tuple[str, ...] = ()
    activations: dict[str, dict[str, Any]] = field(default_factory=dict)


def has_architecture(net: nn.Module) -> bool:
    """Whether the network carries an architecture record."""
    return isinstance(getattr(net, "architecture", None), Architecture)


def architecture_of(net: nn.Module) -> Architecture:
    """The record the network carries.

    Raises:
        ModelError: it carries none (it was not made by ``build``, ``load`` or a stage that passes the record on).
    """
    record = getattr(net, "architecture", None)
    if not isinstance(record, Architecture):
        raise ModelError(
            f"this {type(net).__name__} has no architecture record, so a file could not say how to rebuild it: "
            'make it with build("resnet20") or build("package.module:function"), or give it a record with set_architecture'
        )
    return record


def set_architecture(net: nn.Module, record: Architecture) -> None:
    """Hang ``record`` on the network, in place."""
    net.__dict__["architecture"] = record
