"""Changing modules of a network by path; every function returns a copy and leaves its argument alone."""

import copy
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.nn.activations import activation, is_activation
from gleanet.nn.dry import shapes_only
from gleanet.nn.modes import mode


def replace_activations(
    model: nn.Module,
    to: str | nn.Module | Callable[..., nn.Module],
    paths: Collection[str] | None = None,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] | None = None,
    *,
    example_input: Tensor | None = None,
) -> nn.Module:
    """A copy of ``model`` with other activation functions; weights, mode and architecture record are kept.

    Args:
        model: any module.
        to: a name of ``ACTIVATIONS``, with factors if wanted ("beamish(alpha=1,beta=2)"), a module (each place gets its own copy) or a
            function that makes one. With ``example_input`` the function gets the number of channels at its place:
            ``lambda channels: BeaMish(learnable=True, channels=channels)``.
        paths: replace these modules ("layer1.0.act1"), and every activation inside these ("layer1").
        kinds: replace modules of these types; without ``paths`` and ``kinds``, every activation of the table.
        example_input: an input of the network, [N, C, H, W], with which the channels are counted.

    Returns:
        The copy. With both ``paths`` and ``kinds``: those at or inside the paths that are of the kinds. Weights stay as they are: a network
        that is to be trained from the start is better built with its activation, whose gain its initialisation then has.

    Raises:
        ModelError: unknown name or path, or nothing to replace.
    """
    known = {path for path, _ in model.named_modules() if path}
    if paths is not None:
        unknown = sorted(set(paths) - known)
        if unknown:
            raise ModelError(f"no module {unknown[0]!r} in this {type(model).__name__}: see model.named_modules()")
    chosen = [path for path, module in model.named_modules(remove_duplicate=False) if path and _is_chosen(path, module, paths, kinds)]
    if not chosen:
        raise ModelError(f"this {type(model).__name__} has no activation module to replace (functions called in forward cannot be swapped)")
    make = _maker(to, {} if example_input is None else _channels(model, chosen, example_input))
    result = copy.deepcopy(model)
    reference = next(model.parameters(), None)
    for path in chosen:
        new = make(path).train(model.get_submodule(path).training)
        set_module(result, path, new if reference is None else new.to(reference.device))
    return result


def _is_chosen(
    path: str, module: nn.Module, paths: Collection[str] | None, kinds: type[nn.Module] | tuple[type[nn.Module], ...] | None
) -> bool:
    inside = paths is None or any(path.startswith(f"{given}.") for given in paths)
    if kinds is not None:
        return isinstance(module, kinds) and (inside or path in (paths or ()))
    if paths is not None and path in paths:  # named itself: whatever it is, unless it only holds others
        return next(module.children(), None) is None
    return inside and is_activation(module)


def set_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put ``new`` at ``path``, in place."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def _maker(to: str | nn.Module | Callable[..., nn.Module], channels: Mapping[str, int]) -> Callable[[str], nn.Module]:
    """From a path to the new module there."""
    if isinstance(to, nn.Module):
        prototype = to
        return lambda path: copy.deepcopy(prototype)
    make: Callable[..., nn.Module] = activation(to) if isinstance(to, str) else to
    if channels and not isinstance(to, str):
        return lambda path: make(channels[path])
    return lambda path: make()


def _channels(model: nn.Module, paths: Collection[str], example_input: Tensor) -> dict[str, int]:
    """Dimension 1 of what reaches each of these modules."""
    found: dict[str, int] = {}

    def note(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, given: found.update({path: given[0].shape[1]})

    hooks = [model.get_submodule(path).register_forward_pre_hook(note(path)) for path in paths]
    try:
        with mode(model, training=False), shapes_only(model), torch.no_grad():
            model(example_input)
    finally:
        for hook in hooks:
            hook.remove()
    return {path: found.get(path, 1) for path in paths}
