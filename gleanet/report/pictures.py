"""Every picture of a run in two widths, with the words that stand in for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gleanet.core.records import Accuracy, Latency, Run, loads_plain
from gleanet.report import charts, curves, tables, tradeoff, view
from gleanet.report.frontier import verdict

SHAPES = (charts.WIDE, charts.NARROW)


@dataclass(frozen=True)
class Picture:
    """One chart in two widths, with the words that stand in for it."""

    wide: Markup
    narrow: Markup
    alt: str


@dataclass(frozen=True)
class Pictures:
    """The charts of a page, None where the run has no figures for one; ``lines`` names the lines of the learning curves, in their order."""

    frontier: Picture | None
    tradeoff: Picture | None
    candidates: Picture | None
    widths: Picture | None
    accuracy: Picture | None
    loss: Picture | None
    times: Picture | None
    sensitivity: Picture | None
    ranges: Picture | None
    lines: tuple[str, ...]


def pictures(run: Run) -> Pictures:
    """Every chart for which the run has figures."""
    chosen = tables.final(run.rows)
    timed = curves.picked(curves.width_curves(run.table))
    calibrator = _calibrator(run)
    return Pictures(
        frontier=None
        if run.frontier is None
        else _picture(
            [tradeoff.frontier(run.frontier, shape) for shape in SHAPES],
            f"Accuracy against latency of every delivered file. {verdict(run.frontier)} The figures are in the table.",
        ),
        tradeoff=_picture(
            [tradeoff.steps(run.rows, shape, chosen=chosen) for shape in SHAPES],
            f"Accuracy against latency of every step. {view.answer(run)} The figures are in the table of steps.",
        ),
        candidates=_picture(
            [tradeoff.candidates(run.trials, shape, base=float_figures(run)) for shape in SHAPES],
            f"Accuracy against latency of {len(run.trials)} quantization candidates. The figures are in the table of what was tried.",
        ),
        widths=_picture(
            [charts.widths(run.widths, shape) for shape in SHAPES],
            "Channels per layer before and after: " + ", ".join(f"{w.layer} {w.before} to {w.after}" for w in run.widths) + ".",
        ),
        accuracy=_learning(run, "accuracy"),
        loss=_learning(run, "loss"),
        times=_picture(
            [charts.width_times(timed, shape) for shape in SHAPES],
            f"Time of a layer against its width: {', '.join(f'{c.side} of {c.name}' for c in timed)}. The figures are in the table.",
        ),
        sensitivity=_picture(
            [charts.sensitivity(run.sensitivity, shape) for shape in SHAPES],
            "Precision of the logits with one layer quantized, the most sensitive first: "
            + ", ".join(f"{one.layer} {one.alone_db:.1f} dB" for one in run.sensitivity[: charts.MAX_BARS])
            + ".",
        ),
        ranges=_picture(
            [charts.ranges(run.ranges, calibrator, shape) for shape in SHAPES],
            f"What calibration saw of each tensor, and what {calibrator} keeps of it. The figures are in the table of ranges.",
        ),
        lines=tuple(curve.name for curve in run.curves if len(curve.points) > 1),
    )


def float_figures(run: Run) -> tuple[Accuracy, tuple[Latency, ...]] | None:
    """Accuracy and times of the file that was quantized, on the images of the choice; None in records of older versions."""
    found = run.results.get("quantization")
    accuracy = found.get("float_accuracy") if isinstance(found, dict) else None
    if not isinstance(found, dict) or accuracy is None:
        return None
    return loads_plain(accuracy, Accuracy, "float_accuracy"), loads_plain(
        found.get("float_latencies"), tuple[Latency, ...], "float_latencies"
    )


def _calibrator(run: Run) -> str:
    """The calibrator of the chosen method; where that one clips nothing, the last of the list, to show what clipping would do."""
    names = list(dict.fromkeys(name for one in run.ranges for name in one.ranges))
    chosen = next((trial.method for trial in run.trials if trial.verdict == "chosen"), "")
    return next((name for name in names if chosen.removesuffix("-qop").endswith(name)), names[-1] if names else "")


def _learning(run: Run, what: str) -> Picture | None:
    trained = [curve for curve in run.curves if len(curve.points) > 1]
    ends = (
        f"{curve.name} ends at {100 * points[-1]:.1f} %" if what == "accuracy" else f"{curve.name} ends at {points[-1]:.3f}"
        for curve in trained
        if (points := [value for point in curve.points if (value := getattr(point, what)) is not None])
    )
    words = f"{'Test accuracy' if what == 'accuracy' else 'Training loss'} over the epochs: {', '.join(ends)}."
    return _picture([charts.learning(trained, what, shape) for shape in SHAPES], words)


def _picture(svgs: Sequence[str | None], words: str) -> Picture | None:
    wide, narrow = svgs
    return None if wide is None or narrow is None else Picture(Markup(wide), Markup(narrow), words)  # Altair has escaped the names in it
