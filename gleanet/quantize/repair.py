"""What brings a quantized model back to the accuracy of the float model, in the order of what it costs.

Equalization and bias correction cost nothing when the file runs; layers in float cost time and bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from numpy.typing import NDArray

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LayerSensitivity, RepairStep, Trial
from gleanet.quantize.calibrate import Ranges
from gleanet.quantize.correct import correct_biases
from gleanet.quantize.equalize import equalize
from gleanet.quantize.insert import insert
from gleanet.quantize.islands import hold_float
from gleanet.quantize.layers import island
from gleanet.quantize.methods import Method
from gleanet.quantize.sensitivity import MOST_DB, sensitivity

EQUALIZATION, CORRECTION, FLOAT_LAYERS = "equalization", "bias correction", "layers in float"


@dataclass(frozen=True)
class Case:
    """One method, and how its files are made and judged.

    Attributes:
        method: static, QDQ.
        source, prepared: the float model as given, and from :func:`gleanet.quantize.prepare.prepare`.
        samples: [N, C, H, W] calibration images, for means and sensitivity; 128 or more.
        calibrate: the ranges of a float model's activations, as the method wants them.
        judge: runs a quantized model; its ``sqnr_db`` and ``change`` are looked at.
        within: whether such a trial is accurate enough.
    """

    method: Method
    source: onnx.ModelProto
    prepared: onnx.ModelProto
    samples: NDArray[Any]
    calibrate: Callable[[onnx.ModelProto], Ranges]
    judge: Callable[[onnx.ModelProto], Trial]
    within: Callable[[Trial], bool]
    threads: int = 1
    progress: Progress = SILENT


@dataclass(frozen=True)
class Repaired:
    """The model after the steps that gained, its trial, every step that was tried, and the sensitivity where it was needed.

    A step that gained nothing is on record with its ``gained_db`` of 0 or less, and is not in the model.
    """

    model: onnx.ModelProto
    trial: Trial
    within: bool
    steps: tuple[RepairStep, ...]
    sensitivity: tuple[LayerSensitivity, ...] = ()


@dataclass(frozen=True)
class _State:
    """How the model is made at present."""

    prepared: onnx.ModelProto
    ranges: Ranges
    corrected: bool = False

    def build(self, case: Case, layers: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """The quantized model with ``layers`` in float."""
        model = insert(self.prepared, self.ranges, case.method, case.source, keep_float=island(self.prepared, layers))
        hold_float(model, layers)
        return correct_biases(model, self.prepared, case.samples, threads=case.threads) if self.corrected else model


def repair(case: Case) -> Repaired:
    """Equalize, then correct biases, each kept where the logits become more precise; where that is not enough, leave layers in float.

    Raises:
        DataError: no images.
        QuantizationError: ONNX Runtime cannot insert the method, or cannot run the result.
    """
    state = _State(case.prepared, case.calibrate(case.prepared))
    model = state.build(case)
    trial = case.judge(model)
    steps: list[RepairStep] = []
    for name, change in ((EQUALIZATION, _equalized), (CORRECTION, _corrected)):
        other = change(case, state)
        if other is None:
            continue
        changed = other.build(case)
        judged = case.judge(changed)
        steps.append(_step(name, case, trial, judged))
        if steps[-1].gained_db > 0:
            state, model, trial = other, changed, judged
    done = Repaired(model, trial, case.within(trial), tuple(steps))
    return done if done.within else _with_float_layers(case, state, done)


def smallest(ranked: Sequence[str], within: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """A small set of layers with which ``within`` is true, and from which no single one can be taken; None where not even all will do.

    The first of ``ranked`` are taken until it is true (their number is doubled, then bisected), then each that is not needed is taken out,
    the last ranked first. ``within`` need not be monotone, and is asked about a set once: about 2 log2 n times, and once or more per layer
    of the result.
    """
    known: dict[frozenset[str], bool] = {}

    def enough(layers: frozenset[str]) -> bool:
        if layers not in known:
            known[layers] = within(layers)
        return known[layers]

    few, many = -1, 0
    while not enough(frozenset(ranked[:many])):
        if many >= len(ranked):
            return None
        few, many = many, min(max(1, 2 * many), len(ranked))
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(frozenset(ranked[:middle])) else (middle, many)
    kept, before = frozenset(ranked[:many]), None
    while kept != before:  # what is not needed may become so only after another has gone
        before = kept
        for name in reversed(ranked[:many]):
            if name in kept and enough(kept - {name}):
                kept -= {name}
    return kept


def _equalized(case: Case, state: _State) -> _State | None:
    equalized = equalize(state.prepared)
    return _State(equalized.model, case.calibrate(equalized.model), state.corrected) if equalized.pairs else None


def _corrected(case: Case, state: _State) -> _State | None:
    return replace(state, corrected=True)


def _with_float_layers(case: Case, state: _State, before: Repaired) -> Repaired:
    found = sensitivity(state.prepared, state.ranges, case.method, case.source, case.samples, threads=case.threads, progress=case.progress)
    trials = {frozenset[str](): before.trial}

    def within(layers: frozenset[str]) -> bool:
        if layers not in trials:
            trials[layers] = case.judge(state.build(case, layers))
        return case.within(trials[layers])

    layers = smallest([record.layer for record in found], within)
    if layers is None or len(layers) == len(found):  # all of them in float is the float model
        return replace(before, sensitivity=found)
    named = tuple(node.name for node in state.prepared.graph.node if node.name in layers)
    step = replace(_step(FLOAT_LAYERS, case, before.trial, trials[layers]), layers=named)
    return Repaired(state.build(case, layers), trials[layers], True, (*before.steps, step), found)


def _step(name: str, case: Case, before: Trial, after: Trial) -> RepairStep:
    gained = (-MOST_DB if after.sqnr_db is None else after.sqnr_db) - (-MOST_DB if before.sqnr_db is None else before.sqnr_db)
    return RepairStep(step=name, method=case.method.name, gained_db=gained, change=after.change)
