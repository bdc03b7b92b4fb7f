"""Rows of our own for the tests: real interpreters and real processes, small scripts."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gleanet.frameworks.catalogue import Framework

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
Row = Callable[..., Framework]


@pytest.fixture
def row(tmp_path: Path) -> Row:
    """``row(script, **changes)``: a framework whose adapter is this text and that runs in the interpreter of the tests."""

    def make(script: str = "", **changes: object) -> Framework:
        adapter = tmp_path / "adapter_of_the_test.py"
        adapter.write_text(script, encoding="utf-8")
        values = {
            "name": "mine",
            "title": "Mine",
            "package": "numpy",
            "pythons": (HERE,),
            "install": (),
            "adapter": str(adapter),
            "here": True,
        }
        return Framework(**{**values, **changes})  # type: ignore[arg-type]

    return make
