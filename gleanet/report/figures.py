"""A page with one table and pictures of several lines: activation functions, and trainings that are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as files_of_package
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gleanet.core.comparison import Compared, FunctionShape
from gleanet.core.files import write_bytes
from gleanet.core.records import Curve, Run
from gleanet.core.stats import Interval
from gleanet.report import charts, units
from gleanet.report.html import REPORT
from gleanet.report.lines import Key, Line, keys, picture
from gleanet.report.pictures import Picture
from gleanet.report.tables import Table


@dataclass(frozen=True)
class FiguresPage:
    """All that the page shows, in its order, as finished strings and pictures."""

    title: str
    eyebrow: tuple[str, ...]
    context: tuple[str, ...]
    table: Table | None
    table_title: str
    notes: tuple[str, ...]
    keys: tuple[Key, ...]
    panels: tuple[Picture, ...]
    panels_title: str
    footer: str


def functions_page(shapes: Sequence[FunctionShape]) -> str:
    """A page with every function, drawn with its derivative, and the table of :func:`function_table`."""
    values = [Line(shape.name, tuple(zip(shape.x, shape.y, strict=True))) for shape in shapes]
    slopes = [Line(shape.name, tuple(zip(shape.x, shape.slope, strict=True))) for shape in shapes]
    return rendered(
        FiguresPage(
            title="Activation functions",
            eyebrow=("gleanet", f"{len(shapes)} functions"),
            context=("The area below the boundary is the integral of −f over x < 0; the gain keeps the second moment through a layer.",),
            table=function_table(shapes),
            table_title="Formulas",
            notes=(),
            keys=keys(values),
            panels=panels_of([(values, "x", "f(x)", "The functions"), (slopes, "x", "f'(x)", "Their derivatives")]),
            panels_title="Function and derivative",
            footer="Written by gleanet activations --plot.",
        )
    )


def function_table(shapes: Sequence[FunctionShape]) -> Table:
    """Name, formula, derivative, minimum, area, gain and reference as finished strings."""
    cells = tuple(
        (
            shape.name,
            shape.formula,
            shape.derivative,
            "none" if shape.minimum is None else f"{shape.minimum[1]:.5f} at {shape.minimum[0]:.5f}",
            f"{shape.area:.5f}",
            f"{shape.gain:.4f}",
            shape.reference,
        )
        for shape in shapes
    )
    return Table(("Name", "Formula", "Derivative", "Minimum", "Area", "Gain", "Reference"), cells)


def comparison_table(rows: Sequence[Compared], baseline: str) -> Table:
    """One line for each activation: accuracy and difference with 95 % intervals over seeds, time of a training, latencies."""
    batches = sorted({latency.batch for row in rows for latency in row.latencies})
    header = ("Activation", "Accuracy (95 % interval)", f"Difference to {baseline} (95 % interval)", "Seeds", "One training")
    cells = tuple(
        (
            row.activation,
            interval_percent(row.mean),
            "baseline" if row.activation == baseline else interval_points(row.difference),
            f"{len(row.accuracies)}" + (f", {row.failed} diverged" if row.failed else ""),
            units.NONE if row.seconds is None else units.duration(row.seconds),
            *(units.milliseconds(next((t.p50_ms for t in row.latencies if t.batch == batch), None)) for batch in batches),
        )
        for row in rows
    )
    caption = "Means over seeds with Student's 95 % interval; differences are paired by seed; p50 of the exported network, interleaved"
    return Table((*header, *(f"p50, batch {batch}" for batch in batches)), cells, caption)


def render_comparison(run: Run, rows: Sequence[Compared], baseline: str, folder: Path) -> Path:
    """Write the report of a comparison into the run's folder and return its path."""
    losses, accuracies = (_lines(run.curves, what) for what in ("loss", "accuracy"))
    machine = run.machine.get("cpu", "")
    page = FiguresPage(
        title=f"{run.model} with {len(rows)} activation functions",
        eyebrow=("gleanet", run.model, str(run.data.get("title", "")), run.started.replace("T", " ")[:16]),
        context=(
            f"{run.data.get('trained on', 0):,} training images, {run.data.get('test', 0):,} test images; the same images in the same "
            "order, the same draws of the initial weights and the same steps for every activation of a seed.",
            f"Timed on {machine}. The whole run took {units.duration(run.seconds)}.",
        ),
        table=comparison_table(rows, baseline),
        table_title="Accuracy and cost",
        notes=run.notes,
        keys=keys(losses),
        panels=panels_of(
            [
                (accuracies, "Epoch", "Accuracy, %", "Accuracy on a part of the test images, mean over seeds"),
                (losses, "Epoch", "Training loss", "Training loss, mean over seeds"),
            ]
        ),
        panels_title="Training",
        footer=f"Written by gleanet {run.versions.get('gleanet', '')} from run.json.",
    )
    target = folder / REPORT
    write_bytes(target, rendered(page).encode())
    return target


def _lines(curves: Sequence[Curve], what: str) -> list[Line]:
    scale = 100 if what == "accuracy" else 1
    return [Line(c.name, tuple((p.epoch, scale * v) for p in c.points if (v := getattr(p, what)) is not None)) for c in curves]


def panels_of(wanted: Sequence[tuple[Sequence[Line], str, str, str]]) -> tuple[Picture, ...]:
    """Pictures of (lines, title of the x axis, of the y axis, what it shows in words), without those that have nothing to draw."""
    made = []
    for lines, x_title, y_title, words in wanted:
        wide, narrow = (picture(lines, x_title, y_title, shape) for shape in (charts.WIDE, charts.NARROW))
        if wide is not None and narrow is not None:
            made.append(Picture(Markup(wide), Markup(narrow), words))  # Altair has escaped the titles in it
    return tuple(made)


def interval_percent(found: Interval | None) -> str:
    """``91.20 % (90.11 to 92.29)`` for a mean of fractions."""
    if found is None:
        return units.NONE
    between = "" if found.low is None or found.high is None else f" ({100 * max(0.0, found.low):.2f} to {100 * min(1.0, found.high):.2f})"
    return f"{100 * found.mean:.2f} %{between}"


def interval_points(found: Interval | None) -> str:
    """``+1.20 points (+0.11 to +2.29)`` for a mean of differences."""
    if found is None:
        return units.NONE
    between = "one seed" if found.low is None or found.high is None else f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    return f"{100 * found.mean:+.2f} points ({between})".replace("-", units.MINUS)


def rendered(page: FiguresPage) -> str:
    """The page as one HTML document."""
    here = files_of_package("gleanet.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "figures.html.j2").read_text("utf-8"))
    css = Markup((here / "page.css").read_text("utf-8"))  # ours, so it may pass unescaped
    return template.render(**vars(page), css=css)
