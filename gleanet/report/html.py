"""The report: one HTML file that needs nothing else. It is made from the run's record alone, so an old run can be rendered again."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as files_of_package
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gleanet.core.files import write_bytes
from gleanet.core.records import Run
from gleanet.core.store import ARTEFACTS, RECORD
from gleanet.report import charts, curves, tables, view

REPORT = "report.html"


@dataclass(frozen=True)
class Picture:
    """One chart in two widths, with the words that stand in for it."""

    wide: Markup
    narrow: Markup
    alt: str


@dataclass(frozen=True)
class Pictures:
    """The charts of a page, None where the run has no figures for one; ``lines`` names the lines of the learning curves, in their order."""

    tradeoff: Picture | None
    widths: Picture | None
    accuracy: Picture | None
    loss: Picture | None
    times: Picture | None
    sensitivity: Picture | None
    lines: tuple[str, ...]


def render(run: Run, folder: Path) -> Path:
    """Write ``report.html`` into the run's folder and return its path. Links go to the artefacts that are there.

    Raises:
        StoreError: the folder cannot be written.
    """
    present = [name for name in (*ARTEFACTS, RECORD) if name != REPORT and (folder / name).is_file()]
    target = folder / REPORT
    write_bytes(target, document(run, present).encode())
    return target


def document(run: Run, files: Sequence[str] = ()) -> str:
    """The page as text; ``files`` are the names of the artefacts to link to (default: those the record names)."""
    here = files_of_package("gleanet.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["split"] = tables.split
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    template = environment.from_string((here / "page.html.j2").read_text("utf-8"))
    css = Markup((here / "page.css").read_text("utf-8"))  # ours, so it may pass unescaped
    return template.render(page=view.page(run, files), pictures=pictures(run), css=css).lstrip()


def picture(run: Run) -> str:
    """The picture of accuracy against latency as an SVG file of its own, light and dark.

    Raises:
        ValueError: the run has fewer than two rows with both figures.
    """
    svg = charts.tradeoff(run.rows, charts.WIDE, chosen=tables.final(run.rows))
    if svg is None:
        raise ValueError(f"run {run.id} has nothing to draw")
    return charts.standalone(svg)


def pictures(run: Run) -> Pictures:
    """Every chart for which the run has figures."""
    chosen = tables.final(run.rows)
    trained = [curve for curve in run.curves if len(curve.points) > 1]
    best, timed = view.answer(run), curves.picked(curves.width_curves(run.table))
    return Pictures(
        tradeoff=_picture(
            [charts.tradeoff(run.rows, shape, chosen=chosen) for shape in (charts.WIDE, charts.NARROW)],
            f"Accuracy against latency of every candidate. {best} The figures are in the tables.",
        ),
        widths=_picture(
            [charts.widths(run.widths, shape) for shape in (charts.WIDE, charts.NARROW)],
            "Channels per layer before and after: " + ", ".join(f"{w.layer} {w.before} to {w.after}" for w in run.widths) + ".",
        ),
        accuracy=_learning(run, "accuracy"),
        loss=_learning(run, "loss"),
        times=_picture(
            [charts.width_times(timed, shape) for shape in (charts.WIDE, charts.NARROW)],
            f"Time of a layer against its width: {', '.join(f'{c.side} of {c.name}' for c in timed)}. The figures are in the table.",
        ),
        sensitivity=_picture(
            [charts.sensitivity(run.sensitivity, shape) for shape in (charts.WIDE, charts.NARROW)],
            "Precision of the logits with one layer quantized, the most sensitive first: "
            + ", ".join(f"{one.layer} {one.alone_db:.1f} dB" for one in run.sensitivity[: charts.MAX_BARS])
            + ".",
        ),
        lines=tuple(curve.name for curve in trained),
    )


def _learning(run: Run, what: str) -> Picture | None:
    trained = [curve for curve in run.curves if len(curve.points) > 1]
    ends = (
        f"{curve.name} ends at {100 * points[-1]:.1f} %" if what == "accuracy" else f"{curve.name} ends at {points[-1]:.3f}"
        for curve in trained
        if (points := [value for point in curve.points if (value := getattr(point, what)) is not None])
    )
    words = f"{'Test accuracy' if what == 'accuracy' else 'Training loss'} over the epochs: {', '.join(ends)}."
    return _picture([charts.learning(trained, what, shape) for shape in (charts.WIDE, charts.NARROW)], words)


def _picture(svgs: Sequence[str | None], words: str) -> Picture | None:
    wide, narrow = svgs
    return None if wide is None or narrow is None else Picture(Markup(wide), Markup(narrow), words)  # Altair has escaped the names in it
