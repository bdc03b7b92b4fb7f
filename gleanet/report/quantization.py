"""The tables about quantization: what was tried, what the runtime makes of each file, which layers are sensitive, what repaired them,
and the ranges that calibration found."""

import re
from collections.abc import Mapping, Sequence

from gleanet.core.records import LayerSensitivity, RepairStep, TensorRange, Trial
from gleanet.report import units
from gleanet.report.tables import Table, batches_of, p50

FEW = 12  # a table of so many methods is shown whole
_TIMES = re.compile(r"(^|: |; )[^:;]* ms at batch \d[^:;]*: (?=[\d.]+ of the float time)")
_INTERVAL = re.compile(r" \(95 % interval [^)]*\)")
_ORDER = ("chosen", "slower", "size only", "float", "not proved", "too inaccurate", "failed", "impossible")


def trial_table(trials: Sequence[Trial]) -> Table:
    """What was tried in quantization: the chosen method first, then those that lost, by verdict and speed.

    Why is the record's reason without the figures that stand in other columns.
    """
    batches = batches_of(trial.latencies for trial in trials)
    ordered = sorted(trials, key=lambda trial: (_ORDER.index(trial.verdict), p50(trial.latencies, None) or float("inf")))
    header: tuple[str, ...] = (
        "Method",
        "Verdict",
        "Why",
        "On disk",
        "Accuracy (95 % interval)",
        "Against float (95 % interval)",
        "Same answer",
        "SQNR",
    )
    header += tuple(f"p50, batch {batch}" for batch in batches)
    chosen = next((trial.method for trial in ordered if trial.verdict == "chosen"), None)
    measured = any(trial.memory is not None for trial in trials)
    cells = tuple(
        (
            trial.method,
            trial.verdict,
            why(trial.reason, chosen),
            units.size(trial.bytes),
            units.accuracy(trial.accuracy),
            units.change(trial.change),
            units.NONE if trial.agreement is None else units.percent(trial.agreement),
            units.NONE if trial.sqnr_db is None else f"{trial.sqnr_db:.1f} dB",
            *(units.milliseconds(p50(trial.latencies, batch)) for batch in batches),
            *([units.size(trial.memory)] if measured else []),
        )
        for trial in ordered
    )
    return Table(
        (*header, *(["Peak memory"] if measured else [])),
        cells,
        strong=0 if ordered and ordered[0].verdict == "chosen" else None,
        first=decisive(ordered),
        tags=tuple(trial.verdict for trial in ordered),
    )


def why(reason: str, chosen: str | None = None) -> str:
    """A reason without its list of times and without its interval; the chosen method's long name becomes words."""
    short = _INTERVAL.sub("", _TIMES.sub(r"\1", reason))
    return short if chosen is None else re.sub(rf"(?<![\w-]){re.escape(chosen)}(?![\w-])", "the chosen one", short)


def decisive(trials: Sequence[Trial]) -> tuple[int, ...]:
    """Which of many trials explain the choice: empty where there are few.

    The chosen one, the three next in speed, the two fastest that lose too much (what a wider bound would buy), the most accurate, the
    smallest, the file as given in other runtimes, and the first of each other verdict.
    """
    if len(trials) <= FEW:
        return ()
    places = range(len(trials))
    fast = sorted((i for i in places if trials[i].latencies), key=lambda i: p50(trials[i].latencies, None) or 0.0)
    kept = [i for i in places if trials[i].verdict in ("chosen", "float")]
    kept += [i for i in fast if trials[i].verdict == "slower"][:3]
    kept += [i for i in fast if trials[i].verdict in ("too inaccurate", "not proved")][:2]
    kept += [next(i for i in places if trials[i].verdict == verdict) for verdict in {t.verdict for t in trials} - {"impossible"}]
    accurate = [i for i in fast if trials[i].change is not None]
    kept += sorted(accurate, key=lambda i: -(c.delta if (c := trials[i].change) else 0.0))[:1]
    kept += sorted((i for i in fast if trials[i].bytes), key=lambda i: trials[i].bytes or 0)[:1]
    return tuple(sorted(set(kept)))


def node_table(trials: Sequence[Trial], before: Mapping[str, int]) -> Table:
    """Node types of the float file and of each quantized one, the most frequent first, and the layers that run in float."""
    cells = tuple(
        (trial.method, _counted(trial.nodes), ", ".join(trial.left_float) or units.NONE, ", ".join(trial.saturated) or units.NONE)
        for trial in trials
        if trial.nodes
    )
    if before and cells:
        cells = (("before", _counted(before), "all", units.NONE), *cells)
    header = ("Method", "Nodes as the runtime executes them", "Layers in float", "Layers whose sums saturate here")
    return Table(header, cells, "Node types before and after")


def sensitivity_table(found: Sequence[LayerSensitivity]) -> Table:
    """Each layer, the most sensitive first."""
    cells = tuple((one.layer, f"{one.alone_db:.1f} dB", f"{one.others_db:.1f} dB") for one in found)
    return Table(("Layer", "SQNR when it alone is quantized", "SQNR when only it is not"), cells, "Sensitivity of each layer")


def repair_table(steps: Sequence[RepairStep]) -> Table:
    """Each step that was tried, in order, with what it gained."""
    cells = tuple(
        (
            step.step,
            step.method,
            f"{step.gained_db:+.1f} dB" + ("" if step.gained_db > 0 or step.layers else ", taken back"),
            units.change(step.change),
            ", ".join(step.layers) or units.NONE,
        )
        for step in steps
    )
    return Table(("Step", "Method", "Gained", "Then against float (95 % interval)", "Layers in float"), cells, "Steps of the repair")


def range_table(ranges: Sequence[TensorRange]) -> Table:
    """What calibration saw of each tensor, and what each calibrator would clip to; the most clipped matter most."""
    found = dict.fromkeys(name for one in ranges for name in one.ranges)
    calibrators = [name for name in found if any(one.ranges.get(name) != (one.low, one.high) for one in ranges)]  # min-max is what was seen
    cells = tuple(
        (one.tensor, _span(one.low, one.high), *(_span(*one.ranges[name]) if name in one.ranges else units.NONE for name in calibrators))
        for one in ranges
    )
    kept = [min((kept_share(one, name) for name in one.ranges), default=1.0) for one in ranges]
    clipped = sorted(sorted(range(len(kept)), key=lambda row: kept[row])[:FEW]) if len(kept) > FEW + 2 else ()
    return Table(("Tensor", "Seen", *calibrators), cells, "Range of each tensor", first=tuple(clipped))


def kept_share(one: TensorRange, calibrator: str) -> float:
    """Share of the values' span that a calibrator keeps, at most 1."""
    low, high = one.ranges[calibrator]
    span = one.high - one.low
    return min(1.0, (min(high, one.high) - max(low, one.low)) / span) if span > 0 else 1.0


def _counted(nodes: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {number}" for kind, number in sorted(nodes.items(), key=lambda item: -item[1]))


def _span(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}".replace("-", units.MINUS)
