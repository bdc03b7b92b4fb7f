"""Commands that only look: doctor, runs and plans."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.jobs import print_run
from gleanet.cli.terminal import print_facts, print_json, print_table, print_text
from gleanet.core import host, index, store
from gleanet.core.errors import DataError, ModelError
from gleanet.core.records import Interface
from gleanet.report import Table

runs = typer.Typer(name="runs", help="Past runs.", no_args_is_help=True)

plans = typer.Typer(name="plans", help="Saved pruning plans.", no_args_is_help=True)

PlanFile = Annotated[Path, typer.Argument(help="A plan.json, as `gleanet prune` leaves it.")]
Root = Annotated[Path, typer.Option(help="Folder that holds the run folders.")]


def doctor(json: o.Json = False) -> int:
    """This machine: cores, instruction sets, GPU, runtimes, data found.

    Example: [bold]gleanet doctor[/]
    """
    from gleanet.data import available

    machine, runtimes = host.machine(), host.runtimes()
    try:
        data, trouble = available(), None
    except DataError as error:
        data, trouble = (), str(error)
    if json:
        print_json({"machine": machine, "versions": host.versions(), "runtimes": runtimes, "data": data, "data_error": trouble})
        return 0
    print_facts(
        (
            ("CPU", f"{machine['cpu']} ({machine['arch']})"),
            ("cores for this process", machine["cores"]),
            ("memory", f"{machine['memory_gb']} GB"),
            ("instruction sets", " ".join(machine["isa"]) or "none that matter"),
            ("int8", _int8(machine["isa"])),
            ("GPU", machine["gpu"] or "none"),
            ("system", machine["os"]),
            ("versions", ", ".join(f"{k} {v}" for k, v in host.versions().items())),
            ("runtimes", ", ".join(f"{k} {v}" for k, v in runtimes.items()) or "none"),
            ("data", trouble or ", ".join(data)),
        )
    )
    return 0


def _int8(isa: list[str]) -> str:
    """What the instruction sets mean for 8-bit networks (ONNX Runtime's quantization guide, "data type selection")."""
    if {"AVX512_VNNI", "AVX_VNNI"} & set(isa):
        return "VNNI: unsigned x signed 8-bit products are exact and fast"
    if {"DOTPROD", "I8MM"} & set(isa):
        return "ARM dot products: signed 8-bit types are exact and fast"
    if "AVX2" in isa or "AVX512F" in isa:
        return "no VNNI: unsigned x signed 8-bit sums can saturate; 7-bit weights or unsigned weights avoid it"
    return "no 8-bit dot products: measure before you expect a gain"


@runs.command("list")
def list_runs(
    root: Root = store.RUNS,
    limit: Annotated[int, typer.Option(min=1, help="Runs in the table; --json has them all.")] = 50,
    json: o.Json = False,
) -> int:
    """Past runs, newest first.

    Example: [bold]gleanet runs list[/]
    """
    found = index.listing(root)
    if json:
        print_json([{key: value for key, value in vars(entry).items() if key not in ("folder", "note") or value} for entry in found])
    elif not found:
        print_text(f"no runs in {root}")
    else:
        cells = tuple((e.id, e.command, e.model, e.data, e.status, e.started, f"{e.seconds:.0f} s") for e in found[:limit])
        older = f"{len(found) - limit:,} more, older: --limit {len(found)} shows all" if len(found) > limit else ""
        print_table(
            Table(("Run", "Command", "Model", "Data", "Status", "Started", "Took"), cells, older), last=("Started", "Took", "Data", "Model")
        )
    return 0


@runs.command("search")
def search_runs(
    words: Annotated[list[str], typer.Argument(help="Words, or beginnings of words, that a run must all hold.")],
    root: Root = store.RUNS,
    json: o.Json = False,
) -> int:
    """Past runs by words: in their names, settings, data, classes, methods, verdicts, notes.

    Example: [bold]gleanet runs search resnet20 global[/]
    """
    found = index.search(words, root)
    if json:
        print_json(found)
    elif not found:
        print_text(f"no run in {root} holds all of: {' '.join(words)}")
    else:
        cells = tuple((e.id, e.command, e.model, e.status, e.started, " ".join(e.note.split())) for e in found)
        print_table(Table(("Run", "Command", "Model", "Status", "Started", "Found"), cells), last=("Started", "Model", "Status"))
    return 0


@runs.command("show")
def show_run(
    run: Annotated[str, typer.Argument(help="Folder or id of a run, or the beginning of its id.")],
    root: Root = store.RUNS,
    json: o.Json = False,
) -> int:
    """One past run.

    Example: [bold]gleanet runs show runs/demo[/]
    """
    record = store.find(run, root=root).read()
    if json:
        print_json(record)
    else:
        print_run(record)
    return 0


@runs.command("report")
def report_runs(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders or ids of runs, or beginnings of their ids.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: report.html of the run; of several, side-by-side.html.")
    ] = None,
    root: Root = store.RUNS,
    json: o.Json = False,
) -> int:
    """The report of a run, written anew from its record; or two and more runs side by side.

    Example: [bold]gleanet runs report runs/demo[/]

    Side by side: [bold]gleanet runs report runs/one runs/other --out both.html[/]
    """
    from gleanet.report import render_again, render_side_by_side

    found = [store.find(name, root=root) for name in run]
    page = (
        render_again(found[0], out, interface=_interface(found[0]))
        if len(found) == 1
        else render_side_by_side(found, out or Path("side-by-side.html"))
    )
    if json:
        print_json({"report": str(page)})
    else:
        print_text(f"report: {page}")
    return 0


def _interface(folder: store.RunFolder) -> Interface | None:
    """How the file that a run delivers is called, read from the file itself: records of older versions do not say."""
    from gleanet.measure.interface import read_interface

    delivered = next((path for name in ("model.int8.onnx", "model.onnx") if (path := folder.path(name)).is_file()), None)
    if delivered is None or folder.read().interface is not None:
        return None
    with suppress(ModelError):  # damaged: the report then has no code for it
        return read_interface(delivered)
    return None


@plans.command("show")
def show_plan(plan: PlanFile, json: o.Json = False) -> int:
    """One plan: which channels stay, and what that costs.

    Example: [bold]gleanet plans show runs/demo/plan.json[/]
    """
    from gleanet.prune import Plan

    found = Plan.load(plan)
    if json:
        print_json(found)
    else:
        print_text(str(found))
    return 0


@plans.command("diff")
def diff_plans(one: PlanFile, other: PlanFile, json: o.Json = False) -> int:
    """Two plans of one network: widths, channels that both keep, MACs.

    Example: [bold]gleanet plans diff runs/one/plan.json runs/other/plan.json[/]
    """
    from gleanet.prune import Plan

    found = Plan.load(one).diff(Plan.load(other))
    if json:
        print_json(found)
    else:
        print_text(str(found))
    return 0
