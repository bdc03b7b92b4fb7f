"""The TOML file of a sweep: read, and checked before anything runs."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gleanet.core.errors import SettingsError
from gleanet.core.sweeps import Choice, Resources, SweepSettings, Value
from gleanet.core.toml import read_toml
from gleanet.sweep.options import Commands, Option, flags

Point = Value | dict[str, Value]


@dataclass(frozen=True)
class _File:
    command: str
    options: dict[str, Value] = field(default_factory=dict)
    grid: dict[str, list[Point]] = field(default_factory=dict)
    seeds: int | list[int] = 1
    baseline: dict[str, Value] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    retries: int = 2


def read(path: Path, commands: Commands) -> SweepSettings:
    """The sweep that a file describes.

    Args:
        commands: the commands that can be swept, with the options of each.

    Raises:
        SettingsError: not TOML, an unknown key or option (with the nearest right one), a value of the wrong type, an empty axis, two
            values with the same name, a baseline that is not in the grid.
    """
    raw = read_toml(path, str(path))
    try:
        return _settings(raw, commands)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _settings(raw: dict[str, Any], commands: Commands) -> SweepSettings:
    _known(raw, _File.__dataclass_fields__, "key")
    _known(_table(raw, "resources"), Resources.__dataclass_fields__, "key of [resources]")
    if "command" not in raw:
        raise SettingsError(f"command is missing: one of {', '.join(commands)}")
    try:
        given = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error).replace("$.", "")) from error
    _known([given.command], commands, "command")
    known = commands[given.command]
    options = _options(given.options, known, given.command)
    grid = {name.replace("-", "_"): _axis(name, points, known, given.command) for name, points in given.grid.items()}
    _apart(options, grid)
    every = [options, *(choice.options for choices in grid.values() for choice in choices)]
    if given.resources.gpus == 0 and any(one.get("device") == "cuda" for one in every):
        raise SettingsError("device is cuda, and a cell has no GPU: set gpus = 1 in [resources]")
    return SweepSettings(
        command=given.command,
        options=options,
        grid=grid,
        seeds=tuple(range(max(0, min(given.seeds, 10**6)))) if isinstance(given.seeds, int) else tuple(given.seeds),
        baseline=_baseline(given.baseline, grid),
        resources=given.resources,
        retries=given.retries,
    )


def _known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.5)
            raise SettingsError(f"unknown {what} {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"))


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{name} must be a table: [{name}]")
    return found


def _options(given: Mapping[str, Value], known: Mapping[str, Option], command: str) -> dict[str, Value]:
    options = {name.replace("-", "_"): value for name, value in given.items()}
    if "seed" in options:
        raise SettingsError("seed belongs to each cell: give seeds = N or a list of them, at the top of the file")
    _known(options, known, f"option of gleanet {command}")
    flags(options, known)
    return options


def _axis(name: str, points: list[Point], known: Mapping[str, Option], command: str) -> tuple[Choice, ...]:
    """The choices of one axis: values of the option of that name, or tables that set several options each."""
    if not points:
        raise SettingsError(f"[grid] {name} is empty: give a list of values")
    plain = [point for point in points if not isinstance(point, dict)]
    if plain and len(plain) < len(points):
        raise SettingsError(f"[grid] {name} has values and tables: use one kind")
    if plain:
        _options({name: plain[0]}, known, command)
        choices = [Choice(label(value), _options({name: value}, known, command)) for value in plain]
    else:
        choices = [_variant(name, dict(point), known, command) for point in points if isinstance(point, dict)]
    for choice in choices:
        if [other.label for other in choices].count(choice.label) > 1:
            raise SettingsError(f"[grid] {name} has {choice.label} twice")
    return tuple(choices)


def _variant(axis: str, point: dict[str, Value], known: Mapping[str, Option], command: str) -> Choice:
    name = point.pop("name", None)
    if not isinstance(name, str) or not name:
        raise SettingsError(f'[grid] {axis}: a table needs a name, as in {{name = "plain", criterion = "l2"}}')
    return Choice(name, _options(point, known, command))


def label(value: Value) -> str:
    """A value as columns and file names show it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.12g}" if isinstance(value, float) else str(value)


def _apart(options: Mapping[str, Value], grid: Mapping[str, tuple[Choice, ...]]) -> None:
    """Every option is set in one place."""
    owner = dict.fromkeys(options, "[options]")
    for axis, choices in grid.items():
        for name in dict.fromkeys(name for choice in choices for name in choice.options):
            if name in owner:
                raise SettingsError(f"{name} is set by {owner[name]} and by [grid] {axis}: leave one out")
            owner[name] = f"[grid] {axis}"


def _baseline(given: Mapping[str, Value], grid: Mapping[str, tuple[Choice, ...]]) -> dict[str, str]:
    baseline = {axis.replace("-", "_"): label(value) for axis, value in given.items()}
    _known(baseline, grid, "axis of the grid in baseline")
    for axis, name in baseline.items():
        _known([name], [choice.label for choice in grid[axis]], f"value of {axis} in baseline")
    return baseline
