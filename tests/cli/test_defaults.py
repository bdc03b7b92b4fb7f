"""The defaults of a command's options are those of its settings: the line that repeats a run says only what differs from them."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from gleanet.cli import jobs
from gleanet.core.settings import PruneSettings, ShrinkSettings, TrainSettings


def flat(settings: Any) -> Iterator[tuple[str, object]]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from flat(value)
        else:
            yield field.name, value


@pytest.mark.parametrize(
    ("command", "settings"),
    [(jobs.shrink, ShrinkSettings("m", "d")), (jobs.train, TrainSettings("m", "d")), (jobs.prune, PruneSettings("m", "d"))],
)
def test_a_command_and_its_settings_have_the_same_defaults(command: Callable[..., None], settings: Any) -> None:
    options = inspect.signature(command).parameters
    known: dict[str, object] = {}
    for name, value in flat(settings):
        if name in options and name not in ("model", "data"):
            known.setdefault(name, value)  # `shrink --calibration` is that of pruning, which comes first
    assert {"epochs", "seed", "lr"} <= known.keys()
    assert {name: options[name].default for name in known} == known
