"""The tables of docs/evidence.md about frameworks, from ``results/frameworks.json``."""

from pathlib import Path

from gleanet.core.framework_entries import entries_of
from gleanet.core.records import Run, loads
from gleanet.report import Table, comparison_tables

RESULT = Path(__file__).parent / "results" / "frameworks.json"


def texts() -> dict[str, str]:
    """Name of a generated block -> its content; empty where there is no result file."""
    if not RESULT.is_file():
        return {}
    run = loads(RESULT.read_bytes(), Run, str(RESULT))
    return {"frameworks": "\n\n".join([*map(markdown, comparison_tables(run)), caption(run)])}


def markdown(table: Table) -> str:
    """A table with its caption."""
    lines = ["| " + " | ".join(table.header) + " |", "|" + " --- |" * len(table.header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in table.cells]
    return "\n".join(lines) + (f"\n\n{table.caption}" if table.caption else "")


def caption(run: Run) -> str:
    """Data, machine, settings and how quiet it was."""
    machine, settings = run.machine, run.settings
    right = sum(entry.status == "ok" for entry in entries_of(run))
    return (
        f"{right} rows. {run.data['title']}. {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['isa'])}; {machine['os']}; "
        f"{settings['threads']} thread(s), {settings['rounds']} rounds of {settings['steps']} steps; load of the machine up to "
        f"{run.results['load']:.1f}. The whole run took {run.seconds / 60:.0f} minutes."
    )
