"""The public API: these names, each of which resolves, whatever was imported before."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import gleanet as gn

NAMES = (
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
)
ROOMS_OVER_NAMES = ("measure", "prune", "quantize")  # folders whose name a public function has too


def test_the_public_names_are_these() -> None:
    assert tuple(gn.__all__) == NAMES
    assert dir(gn) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_name_resolves_to_something_of_that_name(name: str) -> None:
    value = getattr(gn, name)
    if name == "__version__":
        assert value[0].isdigit()
    else:
        assert callable(value)
        assert value.__name__ == {"load_data": "load", "measure": "compare"}.get(name, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shrunk'"):
        getattr(gn, "shrunk")  # noqa: B009


def test_type_checkers_see_the_same_names_from_the_same_rooms() -> None:
    """The imports under TYPE_CHECKING, the table of homes and ``__all__`` agree."""
    tree = ast.parse(Path(gn.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"gleanet.{home}" for name, home in gn._HOMES.items()}
    assert {*seen, "__version__"} == set(NAMES)


@pytest.mark.parametrize("name", ROOMS_OVER_NAMES)
def test_a_function_keeps_its_name_after_the_room_of_that_name_is_imported(name: str) -> None:
    room = importlib.import_module(f"gleanet.{name}")
    assert isinstance(room, ModuleType)
    assert getattr(gn, name) is getattr(room, {"measure": "compare"}.get(name, name))


def test_a_function_keeps_its_name_when_the_rooms_are_imported_first() -> None:
    names = ", ".join(ROOMS_OVER_NAMES)
    rooms = "".join(f"import gleanet.{name}; " for name in ROOMS_OVER_NAMES)
    code = f"{rooms}from gleanet import {names}; assert all(callable(name) for name in ({names})), ({names})"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 0
