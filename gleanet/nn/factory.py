"""From an architecture record's factory name to a network: the table of built-in names, or a function of the user's own code."""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gleanet.core.errors import GleanetError, ModelError
from gleanet.nn.activations import activation
from gleanet.nn.family import gain
from gleanet.nn.initial import initialise
from gleanet.nn.networks import NETWORKS

MAX_CLASSES = 100_000  # a file may name any number, and memory is asked for before its tensors are compared
NAMES: tuple[str, ...] = tuple(NETWORKS)


def is_builtin(name: str) -> bool:
    """Whether ``name`` is in the table of built-in networks."""
    return name in NETWORKS


def make(factory: str, kwargs: Mapping[str, Any], widths: Mapping[str, int] | None = None, seed: int | None = None) -> nn.Module:
    """Call a factory. A name outside the table is imported and run, so callers must have it from the user, never from a file alone.

    Args:
        factory: a built-in name, or "package.module:function" (the current directory is importable).
        kwargs: its arguments.
        widths: path of an inner convolution -> channels; the CIFAR ResNets take them.
        seed: of the initial weights; None: drawn from torch's global generator. Other factories initialise as they please.

    Raises:
        ModelError: unknown name, a module that cannot be imported, or something that is not an ``nn.Module``.
    """
    if is_builtin(factory):
        return _make_builtin(factory, kwargs, widths, seed)
    if factory.count(":") != 1:
        raise ModelError(
            f"unknown network {factory!r}: choose one of {', '.join(NAMES)}, a .gleanet file, or package.module:function",
            slug="model-unknown",
        )
    function = _find(factory)
    try:
        net = function(**kwargs)
    except GleanetError:
        raise
    except Exception as error:  # the user's own code: whatever it raises, the user needs its words in one line
        raise ModelError(f"{factory} failed: {type(error).__name__}: {_line(error)}") from error
    if not isinstance(net, nn.Module):
        raise ModelError(f"{factory} returned {type(net).__name__}, expected a torch.nn.Module")
    return net


def _make_builtin(name: str, kwargs: Mapping[str, Any], widths: Mapping[str, int] | None, seed: int | None) -> nn.Module:
    row = NETWORKS[name]
    given = {"num_classes": row.classes, "activation": row.activation, **kwargs}
    if type(given["num_classes"]) is not int or not 1 <= given["num_classes"] <= MAX_CLASSES:
        raise ModelError(f"num_classes must be a whole number from 1 to {MAX_CLASSES:,}, got {given['num_classes']!r:.40}")
    if widths and not row.takes_widths:
        raise ModelError(f"{name} takes no widths: prune it, or load a pruned one from its file")
    # torch's constructors draw from the global generator; our own initialisation replaces all they drew
    with torch.random.fork_rng(devices=[]):
        net = row.make(**given, **({"widths": widths} if widths else {}))
    initialise(net, gain(activation(given["activation"])()), None if seed is None else torch.Generator().manual_seed(seed))
    return net


def accepts(factory: str, argument: str) -> bool:
    """Whether the factory takes this keyword argument."""
    if is_builtin(factory):
        return argument in {"num_classes", "activation"}
    try:
        parameters = inspect.signature(_find(factory)).parameters.values()
    except ValueError:  # some built-in callables have no signature
        return False
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def _find(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    try:
        with _current_directory_importable():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"cannot import {module_name!r} for {factory}: {_line(error)}; run from the folder that holds it", slug="model-import"
        ) from error
    except Exception as error:
        raise ModelError(
            f"importing {module_name!r} for {factory} failed: {type(error).__name__}: {_line(error)}", slug="model-import"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(f"{module_name} has no function {function_name!r}", slug="model-import")
    return function


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
