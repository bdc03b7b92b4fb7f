"""gleanet makes a trained convolutional image classifier small and fast, and says with trustworthy numbers what that cost.

This file is the table of contents of the public API. It is lazy: ``import gleanet`` imports no torch; a name is imported from the room
in ``_HOMES`` when it is first used. `tests/test_public_names.py` holds the names.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gleanet.core.errors import GleanetError as GleanetError
    from gleanet.data import load as load_data
    from gleanet.export import export_onnx as export_onnx
    from gleanet.measure import compare as measure
    from gleanet.nn import BeaMish as BeaMish
    from gleanet.nn import build as build
    from gleanet.nn import cost as cost
    from gleanet.nn import load as load
    from gleanet.nn import replace_activations as replace_activations
    from gleanet.nn import save as save
    from gleanet.pipeline import latency_table as latency_table
    from gleanet.prune import FCR as FCR
    from gleanet.prune import Plan as Plan
    from gleanet.prune import apply as apply
    from gleanet.prune import plan as plan
    from gleanet.prune import prune as prune
    from gleanet.prune import zero as zero
    from gleanet.quantize import quantize as quantize

    __version__: str

# ONNX Runtime 1.32 and later report their use to Microsoft while they run, also while we time them; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "FCR",
    "BeaMish",
    "GleanetError",
    "Plan",
    "__version__",
    "apply",
    "build",
    "cost",
    "export_onnx",
    "latency_table",
    "load",
    "load_data",
    "measure",
    "plan",
    "prune",
    "quantize",
    "replace_activations",
    "save",
    "zero",
]

_HOMES = {
    "FCR": "prune:FCR",
    "BeaMish": "nn:BeaMish",
    "GleanetError": "core.errors:GleanetError",
    "Plan": "prune:Plan",
    "apply": "prune:apply",
    "build": "nn:build",
    "cost": "nn:cost",
    "export_onnx": "export:export_onnx",
    "latency_table": "pipeline:latency_table",
    "load": "nn:load",
    "load_data": "data:load",
    "measure": "measure:compare",
    "plan": "prune:plan",
    "prune": "prune:prune",
    "quantize": "quantize:quantize",
    "replace_activations": "nn:replace_activations",
    "save": "nn:save",
    "zero": "prune:zero",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("gleanet")
    if name not in _HOMES:
        raise AttributeError(f"module 'gleanet' has no attribute {name!r}")
    room, attribute = _HOMES[name].split(":")
    value: object = getattr(import_module(f"gleanet.{room}"), attribute)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return __all__


class _Contents(ModuleType):
    """The type of this module: ``gleanet.prune`` is the function, also after something has imported the room ``gleanet/prune``.

    Python binds every imported submodule to its parent under its own name, which would put the room over the function.
    Rooms are imported from, as in ``from gleanet.prune.groups import find_groups``, and never need that binding.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Contents
