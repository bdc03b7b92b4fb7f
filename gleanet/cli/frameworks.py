"""Commands that compare frameworks: list, setup, run, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_error, print_json, print_table, print_text
from gleanet.core import store
from gleanet.core.errors import BadInput, GleanetError, SettingsError
from gleanet.core.framework_entries import COMMAND, entries_of
from gleanet.report import Table, attribute_table, comparison_tables, units

frameworks = typer.Typer(name="frameworks", help="The same network in Theano, CNTK, TensorFlow, PyTorch and others.", no_args_is_help=True)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Frameworks by name, as `gleanet frameworks list` shows them; NAME:MODE for one of several modes.", show_default=False
    ),
]


@frameworks.command("list")
def list_frameworks(
    attributes: Annotated[bool, typer.Option("--attributes", help="What each framework is and offers instead, with sources.")] = False,
    json: o.Json = False,
) -> int:
    """Each framework: versions, what it needs, whether it is installed, and why not.

    Example: [bold]gleanet frameworks list[/]
    """
    from gleanet.frameworks.attributes import attributes as attributes_of_all
    from gleanet.frameworks.catalogue import FRAMEWORKS
    from gleanet.frameworks.environments import folder, state

    if attributes:
        if json:
            print_json(attributes_of_all())
        else:
            print_table(attribute_table(attributes_of_all()))
        return 0

    found = [(row, state(row)) for row in FRAMEWORKS]
    if json:
        print_json(
            {
                "frameworks": [
                    {
                        "name": row.name,
                        "title": row.title,
                        "modes": row.modes,
                        "pythons": row.pythons,
                        "install": row.install,
                        "needs": [need.what for need in row.needs],
                        "trains": row.trains,
                        "environment": str(folder(row)),
                        "status": now.status,
                        "version": now.version,
                        "bytes": now.bytes,
                        "reason": now.reason,
                    }
                    for row, now in found
                ]
            }
        )
        return 0
    cells = tuple(
        (
            row.name,
            now.version or _pinned(row.install, row.package),
            ", ".join(row.modes) if row.modes != ("default",) else units.NONE,
            "trains" if row.trains else "infers",
            ", ".join(row.pythons),
            ", ".join(need.what for need in row.needs) or units.NONE,
            now.status,
            units.size(now.bytes),
            now.reason or units.NONE,
        )
        for row, now in found
    )
    print_table(
        Table(("Framework", "Version", "Modes", "What for", "Python", "Needs", "Installed", "On disk", "Why not"), cells),
        last=("Why not", "Needs", "On disk", "Python", "Modes"),
    )
    return 0


@frameworks.command()
def setup(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Every framework.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete their environments instead.")] = False,
    json: o.Json = False,
) -> int:
    """Make an isolated environment for each of these frameworks, with an interpreter of its own; call it again to go on.

    Example: [bold]gleanet frameworks setup theano jax[/]
    """
    from gleanet.frameworks import environments
    from gleanet.frameworks.catalogue import FRAMEWORKS, find

    if not names and not everything:
        raise SettingsError("name the frameworks to set up (`gleanet frameworks list` shows them), or --all")
    code, done = 0, []
    with TerminalProgress() as progress:
        for name in names or [row.name for row in FRAMEWORKS]:
            try:
                row = find(name)
                if remove:
                    gone = environments.remove(row)
                    done.append({"name": row.name, "removed": gone, "shared_by": environments.sharing(row)})
                else:
                    state = environments.setup(row, progress=progress)
                    done.append({"name": row.name, "status": state.status, "version": state.version, "bytes": state.bytes})
            except GleanetError as error:
                print_error(str(error))
                code = max(code, error.exit_code)
                done.append({"name": name, "status": "failed", "reason": str(error)})
    if json:
        print_json({"frameworks": done})
    else:
        for line in map(_outcome, done):
            print_text(line)
    return code


@frameworks.command()
def run(
    names: Names = None,
    steps: Annotated[int, typer.Option(help="Timed steps, and inferences, of a round.")] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds; each times every row once, in turn. 0: only check.")] = 5,
    threads: o.Threads = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    limit: Annotated[float, typer.Option(help="Seconds before one process is killed.")] = 600.0,
    data: Annotated[str | None, typer.Option(help="Data set. Default: original CIFAR-10 images where they are here, else digits.")] = None,
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Check and time the same network in each framework (default: in all that are installed).

    Example: [bold]gleanet frameworks run pytorch --steps 5 --rounds 2[/]
    """
    from gleanet.frameworks.runner import CompareSettings, compare
    from gleanet.report import render_comparison

    known, wrong = _sorted_out(names or ())
    if wrong and not known:
        return BadInput.exit_code
    settings = CompareSettings(known, steps, threads, device, rounds, limit, data)
    with TerminalProgress() as progress:
        record = compare(settings, out=out, resume=resume, progress=progress)
    page = render_comparison(record, Path(record.results["folder"]))
    entries = entries_of(record)
    if json:
        print_json({**record.results, "frameworks": entries, "data": record.data, "machine": record.machine})
    else:
        for each in comparison_tables(record):
            print_table(each)
        print_text(f"\nreport: {page}")
    for entry in entries:
        if entry.status in ("failed", "wrong"):
            print_error(f"{entry.label}: {entry.status}: {entry.reason}")
    missed = [entry for entry in entries if entry.status != "ok"]
    failed = len(missed) == len(entries) or (bool(known) and bool(missed))
    return BadInput.exit_code if wrong else int(failed)


@frameworks.command()
def report(
    run: Annotated[str | None, typer.Argument(help="A comparison's folder or id. Default: the newest one.", show_default=False)] = None,
    root: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = store.RUNS,
    json: o.Json = False,
) -> int:
    """The page of a comparison: what was measured, the paper's conclusions beside ours, and the attributes with their sources.

    Example: [bold]gleanet frameworks report[/]
    """
    from gleanet.report import render_comparison

    found = store.find(run, root=root) if run else _newest(root)
    page = render_comparison(found.read(), found.folder)
    if json:
        print_json({"report": str(page)})
    else:
        print_text(f"report: {page}")
    return 0


def _newest(root: Path) -> store.RunFolder:
    """The newest comparison under ``root``."""
    found = next((run for run in store.listing(root) if run.command == COMMAND), None)
    if found is None:
        raise BadInput(f"there is no comparison in {root}: make one with gleanet {COMMAND}")
    return store.find(found.id, root=root)


def _sorted_out(names: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The names that exist, and whether there were others: those are said, one line each, and the rest goes on."""
    from gleanet.frameworks.catalogue import rows

    good = []
    for name in names:
        try:
            rows([name])
            good.append(name)
        except SettingsError as error:
            print_error(str(error))
    return tuple(good), len(good) < len(names)


def _pinned(install: Sequence[Sequence[str]], package: str) -> str:
    """Version that the catalogue pins."""
    words = (word.partition("==") for words in install for word in words)
    return next((version for name, _, version in words if name.lower() == package.lower()), units.NONE)


def _outcome(done: dict[str, Any]) -> str:
    if "removed" in done:
        shared = f" (also that of {', '.join(done['shared_by'][1:])})" if len(done["shared_by"]) > 1 else ""
        return f"{done['name']}: {'removed' if done['removed'] else 'there was no environment'}{shared}"
    if done["status"] == "failed":
        return f"{done['name']}: failed"
    return f"{done['name']}: {done['status']}, version {done['version']}, {units.size(done['bytes'])} on disk"
