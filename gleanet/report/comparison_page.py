"""The page of a comparison of frameworks: one HTML file that needs nothing else, made from the run's record alone."""

from dataclasses import dataclass
from importlib.resources import files as files_of_package
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gleanet.core.files import write_bytes
from gleanet.core.framework_entries import Attributes, Cell, Conclusion, Entry, attributes_of, conclusions_of, entries_of
from gleanet.core.records import Run
from gleanet.report import comparison, units
from gleanet.report.tables import Table

REPORT = "report.html"
BUSY = 0.5  # load beyond our own process from which times are called disturbed


@dataclass(frozen=True)
class Bar:
    """One row of the picture: ``share`` of the longest bar in percent."""

    label: str
    share: float
    text: str
    strong: bool


@dataclass(frozen=True)
class ComparisonPage:
    """Everything the page says, as finished strings."""

    answer: str
    context: tuple[str, ...]
    bars: tuple[Bar, ...]
    correctness: Table
    training: Table
    inference: Table
    costs: Table
    absent: Table
    conclusions: tuple[Conclusion, ...]
    attributes: Attributes
    facts: tuple[tuple[str, str], ...]


def render_comparison(run: Run, folder: Path) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Raises:
        StoreError: the record is of another command, or the folder cannot be written.
    """
    target = folder / REPORT
    write_bytes(target, comparison_document(run).encode())
    return target


def comparison_document(run: Run) -> str:
    """The page as text."""
    here = files_of_package("gleanet.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["link"] = _link
    template = environment.from_string((here / "comparison.html.j2").read_text("utf-8"))
    css = Markup((here / "page.css").read_text("utf-8") + (here / "comparison.css").read_text("utf-8"))  # ours, so it may pass unescaped
    return template.render(page=comparison_page(run), css=css).lstrip()


def comparison_page(run: Run) -> ComparisonPage:
    """What the page says about this run."""
    entries = entries_of(run)
    return ComparisonPage(
        answer=answer(entries),
        context=_context(run),
        bars=_bars(entries),
        correctness=comparison.correctness_table(entries),
        training=comparison.time_table(entries, run),
        inference=comparison.inference_table(entries),
        costs=comparison.cost_table(entries),
        absent=comparison.absent_table(entries),
        conclusions=conclusions_of(run),
        attributes=attributes_of(run),
        facts=_facts(run),
    )


def answer(entries: tuple[Entry, ...]) -> str:
    """The first sentence: how many compute the right thing, and how far apart they are."""
    trains = [entry for entry in entries if entry.trains and entry.check is not None]
    right = [entry for entry in trains if entry.status == "ok"]
    first = f"{len(right)} of {len(trains)} ways to train the same network compute the right gradients"
    timed = sorted((entry for entry in right if entry.step), key=lambda entry: entry.step.cpu.p50_ms if entry.step else 0.0)
    if len(timed) < 2:
        return f"{first}."
    fast, slow = timed[0], timed[-1]
    ratio = slow.step.cpu.p50_ms / fast.step.cpu.p50_ms if slow.step and fast.step else 1.0
    return f"{first}; a step takes {units.times(ratio)} as much processor time in {slow.label} as in {fast.label}."


def _context(run: Run) -> tuple[str, ...]:
    settings, machine = run.settings, run.machine
    lines = [
        f"{run.data.get('title', 'unknown data')}.",
        f"{settings.get('threads')} thread(s) on {machine.get('cpu', 'an unknown CPU')}, {settings.get('rounds')} interleaved rounds "
        f"of {settings.get('steps')} steps of 64 images.",
    ]
    blas = run.results.get("openblas")
    if blas is not None:
        lines.append(f"Theano and PyTensor with {'no BLAS library' if blas == 'none' else 'OpenBLAS'}.")
    load = float(run.results.get("load", 0.0))
    if load > float(settings.get("threads", 1)) + BUSY:
        lines.append(f"The machine was not quiet (load up to {load:.1f}): only large differences mean something; places say which do.")
    return tuple(lines)


def _bars(entries: tuple[Entry, ...]) -> tuple[Bar, ...]:
    """Processor time of a step, the fastest first."""
    found = [(entry.step.cpu.p50_ms, entry) for entry in entries if entry.step and entry.status == "ok"]
    timed = sorted(found, key=lambda pair: pair[0])
    longest = timed[-1][0] if timed else 1.0
    return tuple(
        Bar(entry.label, 100 * value / longest, units.milliseconds(value), entry.name in ("theano-0.9", "tensorflow-1.2", "cntk"))
        for value, entry in timed
    )


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    settings = " ".join(f"--{key} {value}" for key, value in run.settings.items() if key != "names" and value is not None)
    names = " ".join(run.settings.get("names", ()))
    return (
        ("Command", f"gleanet {run.command} {names} {settings}".replace("  ", " ")),
        ("Started", run.started),
        ("Took", units.duration(run.seconds)),
        *((str(key), units.plain(value)) for key, value in run.machine.items()),
        *((str(key), str(value)) for key, value in run.versions.items()),
    )


def _link(cell: Cell) -> str:
    """The address of a cell's source; empty where it is none that a page should link to."""
    return cell.source if cell.source.startswith(("https://", "http://")) else ""
