"""Networks as users hand them over: taken out of wrappers, refused where they have no values, copied whatever they hold."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from gleanet.core.errors import ModelError

WRAPPERS = (nn.DataParallel, DistributedDataParallel, AveragedModel)
DEEPEST = 4  # nested lists and dictionaries in which a module's kept tensors are looked for


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel, torch.compile and AveragedModel, in any nesting."""
    while True:
        # the class of torch.compile's wrapper is not imported: that would import torch._dynamo, which takes seconds
        inner = model.module if isinstance(model, WRAPPERS) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def usable(model: nn.Module) -> nn.Module:
    """The network without its wrappers; where inner modules are wrapped, a copy without those.

    Raises:
        ModelError: it has lazy modules that were never run, or parameters without values (meta device).
    """
    model = unwrap(model)
    for path, module in model.named_modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if is_lazy(tensor):
                raise ModelError(
                    f"{path or 'the network'} is a {type(module).__name__} that was never run, so it has no weights: "
                    "run one batch through the network first"
                )
            if tensor.device.type == "meta":
                raise ModelError(
                    f"{f'{path}.' if path else ''}{name} is on the meta device and has no values: "
                    "make the network on the CPU, or load its weights with load_state_dict(..., assign=True)"
                )
    return model if all(unwrap(module) is module for module in model.modules()) else clone(model)


def clone(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the network; inner modules are taken out of their wrappers.

    ``copy.deepcopy`` refuses tensors with a gradient history, which modules hold that keep outputs of their last forward pass: those are
    copied without it.

    Raises:
        ModelError: something in the network cannot be copied.
    """
    memo: dict[int, Any] = {}
    try:
        for module in model.modules():
            for tensor in _tensors(list(module.__dict__.values()), DEEPEST):
                if not tensor.is_leaf:
                    memo[id(tensor)] = tensor.detach().clone()
            if unwrap(module) is not module:
                memo[id(module)] = copy.deepcopy(unwrap(module), memo)
        copied: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:  # whatever the modules hold: locks, open files, loggers, ...
        first = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise ModelError(f"{type(model).__name__} cannot be copied ({first}): remove what its modules keep beside their tensors") from error
    return copied


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, depth - 1)
