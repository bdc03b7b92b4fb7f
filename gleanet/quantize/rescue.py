"""Where a fast method loses too much: repair it, and let the repaired file take part in the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx

from gleanet.core.errors import GleanetError
from gleanet.core.records import LayerSensitivity, RepairStep, Trial
from gleanet.measure.runtimes import DEFAULT
from gleanet.quantize.calibrate import Ranges, calibrate
from gleanet.quantize.candidates import Bench, settled
from gleanet.quantize.kept import found, keep
from gleanet.quantize.reasons import SAME_SPEED, Verdicts, speed_ratio
from gleanet.quantize.repair import Case, Repaired, repair
from gleanet.quantize.sensitivity import sensitivity
from gleanet.quantize.trial import Tried, failed, judge_file

WORTH = 1.1  # what is within the bound must be this many times slower before a faster method is repaired: layers in float cost time


@dataclass(frozen=True)
class Rescue:
    """A repaired method as one more candidate, what was done to it, and how sensitive its layers are, where that was needed."""

    tried: Tried
    steps: tuple[RepairStep, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()


def rescue(bench: Bench, verdicts: Verdicts, tried: Sequence[Tried]) -> Rescue | None:
    """The fastest method that loses too much, repaired; None where none is clearly faster than the best within the bound."""
    one = to_repair(verdicts, tried)
    if one is None:
        return None
    method = replace(one.method, name=f"{one.method.name}+repair")
    known = found(bench.folder, method)
    if known is not None:
        return Rescue(known[0], known[1].steps, known[1].sensitivity)
    source, progress = bench.source, bench.progress

    def judged(model: onnx.ModelProto) -> Tried:
        return settled(bench, verdicts, judge_file(source, method, model, bench.folder))

    def ranges(model: onnx.ModelProto) -> Ranges:
        if model is source.prepared:
            return source.statistics.ranges(method.calibrator)
        (statistics,) = calibrate([model], [source.samples], file=source.path, preprocess=source.preprocess, threads=bench.threads)
        return statistics.ranges(method.calibrator)

    case = Case(
        method=method,
        source=source.model,
        prepared=source.prepared,
        samples=source.samples,
        calibrate=ranges,
        judge=lambda model: judged(model).trial,
        within=verdicts.within,
        threads=bench.threads,
        progress=progress,
    )
    try:
        done = repair(case)
    except GleanetError as error:
        return Rescue(failed(method, error))
    final = judged(done.model)
    final = replace(final, trial=_told(final.trial, done))
    keep(bench.folder, final, done.steps, done.sensitivity)
    return Rescue(final, done.steps, done.sensitivity)


def layer_sensitivity(bench: Bench, one: Tried) -> tuple[LayerSensitivity, ...]:
    """How sensitive each layer is to the method of ``one``, which is static."""
    source = bench.source
    ranges = source.statistics.ranges(one.method.calibrator)
    return sensitivity(source.prepared, ranges, one.method, source.model, source.samples, threads=bench.threads, progress=bench.progress)


def to_repair(verdicts: Verdicts, tried: Sequence[Tried]) -> Tried | None:
    """Of the fastest static methods in QDQ pairs that are not within the bound, the one with the most precise logits.

    A method that only lacks images to be decided by counts as good enough to wait for: a repaired one would lack the same images.
    """
    times = {one.trial.method: speed_ratio(verdicts.base, one.trial.latencies) for one in tried}
    good = [one.trial for one in tried if one.file is not None and (verdicts.within(one.trial) or verdicts.undecided(one.trial))]
    best = min((times[trial.method] for trial in good), default=float("inf"))
    able = [
        one
        for one in tried
        if one.file is not None
        and one.trial.runtime == DEFAULT
        and (one.method.mode, one.method.format) == ("static", "QDQ")
        and not verdicts.within(one.trial)
        and not verdicts.undecided(one.trial)  # there, images are lacking and not accuracy
        and times[one.trial.method] * WORTH < best
    ]
    limit = min((times[one.trial.method] for one in able), default=0.0) * SAME_SPEED
    fastest = [one for one in able if times[one.trial.method] <= limit]
    return max(fastest, key=lambda one: -1.0 if one.trial.sqnr_db is None else one.trial.sqnr_db, default=None)


def _told(trial: Trial, done: Repaired) -> Trial:
    """``trial`` with what was done as its note."""
    kept = [step for step in done.steps if step.gained_db > 0 or step.layers]
    words = [f"{step.step} ({', '.join(step.layers)})" if step.layers else step.step for step in kept]
    done_to_it = f"with {', '.join(words)}" if words else "no step gained"
    return replace(trial, reason="; ".join(text for text in (done_to_it, trial.reason) if text))
