"""``gleanet sweep``: a grid of runs, here or on a Ray cluster."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from gleanet.cli import jobs, stages
from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_json, print_table, print_text
from gleanet.core.errors import SettingsError
from gleanet.core.settings import PruneSettings, QuantizeSettings, ShrinkSettings, TrainSettings
from gleanet.report import Table

if TYPE_CHECKING:
    from gleanet.core.sweeps import SweepSettings
    from gleanet.sweep.options import Commands, Option

COMMANDS: dict[str, tuple[Callable[..., int], Any]] = {
    "train": (jobs.train, TrainSettings),
    "shrink": (jobs.shrink, ShrinkSettings),
    "prune": (jobs.prune, PruneSettings),
    "quantize": (stages.quantize, QuantizeSettings),
}
OURS = ("out", "resume", "json", "config", "seed", "help")  # what the sweep itself gives to each cell


def sweep(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.toml", help="The grid; see examples/ and docs/sweeps.md.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Run the cells on a Ray cluster: auto (that of this machine), HOST:PORT, or local (one for this sweep)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, check the file, run nothing.")] = False,
    out: o.Out = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this sweep (its folder or id); with FILE.toml, as that says now. Finished cells stay.")
    ] = None,
    json: o.Json = False,
) -> int:
    """Run a grid of train, shrink, prune or quantize over seeds; one table at the end.

    Example: [bold]gleanet sweep examples/activations.toml[/]

    On a Ray cluster: [bold]gleanet sweep examples/activations.toml --ray auto[/]

    What would run: [bold]gleanet sweep examples/activations.toml --dry-run[/]
    """
    from gleanet.report.sweeps import sweep_table
    from gleanet.sweep.place import place
    from gleanet.sweep.run import sweep as run_sweep

    if file is None and (resume is None or dry_run):
        raise SettingsError("FILE.toml is missing: gleanet sweep examples/activations.toml")
    known = {name: options_of(function) for name, (function, _) in COMMANDS.items()}
    settings = None if file is None else _checked(file, known)
    if settings is not None and dry_run:
        return _list(settings, known, json)
    how = "" if ray is None else f" --ray {ray}"
    with TerminalProgress() as progress:
        folder, record = run_sweep(
            settings, lambda resources: place(ray, resources, progress), known, out=out, resume=resume, how=how, progress=progress
        )
    if json:
        print_json({"folder": str(folder), "sweep": record})
    else:
        print_table(sweep_table(record))
        print_text(f"folder: {folder}")
    return 1 if any(cell.status == "failed" for cell in record.cells) else 0


def _list(settings: "SweepSettings", known: "Commands", json: bool) -> int:
    from gleanet.sweep.grid import cells, shape
    from gleanet.sweep.inputs import settled

    planned = cells(settled(settings)[0], known[settings.command])
    if json:
        print_json({"cells": [{"name": cell.name, "labels": cell.labels, "seed": cell.seed, "words": cell.words} for cell in planned]})
        return 0
    axes = tuple(settings.grid)
    print_table(Table(("Cell", *axes, "seed"), tuple((c.name, *c.labels.values(), str(c.seed)) for c in planned), shape(settings)))
    return 0


def _checked(file: Path, known: "Commands") -> "SweepSettings":
    """The sweep of a file; the command line of every cell is one that its command accepts.

    Raises:
        SettingsError: the first that is not.
    """
    from gleanet.sweep.file import read
    from gleanet.sweep.grid import cells

    settings = read(file, known)
    seen: set[tuple[str, ...]] = set()
    for cell in cells(settings, known[settings.command]):
        words = cell.words[2:]  # without command and seed
        if words not in seen:
            seen.add(words)
            _accepts(settings.command, words, f"{file}: {cell.title()}")
    return settings


def _accepts(command: str, words: Sequence[str], where: str) -> None:
    """Let the command's own parser and settings look at its words."""
    function, kind = COMMANDS[command]
    try:
        given = _parser(function).make_context(command, list(words)).params
        _filled(kind, given)
    except typer.TyperException as error:
        raise SettingsError(f"{where}: {error.format_message()}") from error
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error


def _filled(kind: Any, given: Mapping[str, Any]) -> Any:
    """Settings made as the command makes them: each field from the option of its name."""
    values = {}
    for item in fields(kind):
        if is_dataclass(item.default):
            values[item.name] = _filled(type(item.default), given)
        elif item.name == "epochs" and given.get("one_shot"):
            values[item.name] = 0.0
        elif item.type is str and given[item.name] is None:
            raise SettingsError(f"{item.name} is missing: give it in [options] or in [grid]")
        elif item.name in given:
            values[item.name] = given[item.name]
    return kind(**values)


def options_of(function: Callable[..., int]) -> dict[str, "Option"]:
    """How each option of a command is said, from its own declaration."""
    from gleanet.sweep.options import Option

    found = {}
    for parameter in _parser(function).params:
        if parameter.param_type_name == "argument":
            found[str(parameter.name)] = Option("")
        elif parameter.name not in OURS:
            off = parameter.secondary_opts[0] if parameter.secondary_opts else ""
            found[str(parameter.name)] = Option(parameter.opts[0], bool(parameter.is_flag), off)
    return found


def _parser(function: Callable[..., int]) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return get_command(app)
