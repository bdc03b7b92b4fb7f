"""The search finds a set that nothing can be taken from; the steps are on record with what they gained; float layers run in float."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleanet.core.records import Trial
from gleanet.core.stats import paired_change, sqnr_db
from gleanet.measure import predict
from gleanet.measure.runtime import open_session
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.islands import hold_float
from gleanet.quantize.layers import island
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.repair import Case, repair, smallest
from tests.tiny_onnx import convnet, floats, mobile, save

FILE = Path("m.onnx")
X = floats(128)
NAMES = tuple("abcdef")


@given(st.lists(st.integers(0, 20), min_size=6, max_size=6), st.integers(0, 130), st.permutations(NAMES))
def test_no_layer_can_be_spared(gains: list[int], need: int, ranked: list[str]) -> None:
    """Gains that add up: what comes back is enough, and every set that lacks one of it is not; None only where all are too few."""
    gain = dict(zip(NAMES, gains, strict=True))
    asked: list[frozenset[str]] = []

    def within(layers: frozenset[str]) -> bool:
        asked.append(layers)
        return sum(gain[name] for name in layers) >= need

    found = smallest(ranked, within)
    assert len(asked) == len(set(asked))
    if found is None:
        assert sum(gains) < need
    else:
        assert within(found)
        assert not any(within(found - {name}) for name in found)


@given(st.sets(st.frozensets(st.sampled_from(NAMES))))
def test_minimal_also_where_more_float_can_be_worse(enough: set[frozenset[str]]) -> None:
    """Any property of sets at all, as long as all layers together have it."""
    enough = enough | {frozenset(NAMES)}
    found = smallest(NAMES, enough.__contains__)
    assert found is not None
    assert found in enough
    assert not any(found - {name} in enough for name in found)


@given(st.lists(st.integers(1, 20), min_size=6, max_size=6, unique=True), st.integers(1, 80))
def test_ranked_by_gain_it_is_the_smallest_of_all(gains: list[int], need: int) -> None:
    gain = dict(zip(NAMES, gains, strict=True))
    found = smallest(sorted(NAMES, key=lambda name: -gain[name]), lambda layers: sum(gain[name] for name in layers) >= need)
    least = next((n for n in range(7) if any(sum(map(gain.__getitem__, some)) >= need for some in combinations(NAMES, n))), None)
    assert (None if found is None else len(found)) == least


def case(model: onnx.ModelProto, folder: Path, need: float, method: str = "u8s8") -> Case:
    """Accurate enough is a precision of ``need`` dB."""
    exact = predict(save(model, folder / "f.onnx"), X)

    def judge(quantized: onnx.ModelProto) -> Trial:
        got = predict(save(quantized, folder / "q.onnx"), X)
        hits = got.argmax(axis=1) == exact.argmax(axis=1)
        return Trial(method, "tried", "", sqnr_db=sqnr_db(exact, got), change=paired_change(hits, np.ones_like(hits)))

    return Case(
        method=METHODS[method],
        source=model,
        prepared=prepare(model, FILE),
        samples=X,
        calibrate=lambda float_model: min_max(float_model, [X], file=FILE),
        judge=judge,
        within=lambda trial: trial.sqnr_db is not None and trial.sqnr_db >= need,
    )


def test_steps_stop_where_the_bound_is_met(tmp_path: Path) -> None:
    """The second convolution holds one weight twenty times larger, and is no pair with the first: an addition reads between them."""
    easy, hard = (repair(case(convnet(outlier=20), tmp_path, need)) for need in (30, 40))
    assert [step.step for step in easy.steps] == ["equalization", "bias correction"]
    assert easy.within
    assert not easy.sensitivity
    assert [step.step for step in hard.steps] == ["equalization", "bias correction", "layers in float"]
    assert hard.steps[:2] == easy.steps
    assert easy.steps[1].gained_db > 3
    assert hard.within
    assert hard.steps[2].layers == ("b",) == (hard.sensitivity[0].layer,)
    assert hard.trial.sqnr_db is not None
    assert hard.trial.sqnr_db >= 40
    assert all(step.method == "u8s8" and step.change is not None for step in hard.steps)
    onnx.checker.check_model(hard.model, full_check=True)


def test_what_gained_nothing_is_on_record_and_not_in_the_model(tmp_path: Path) -> None:
    """Gains of the steps that were kept add up to what the model gained."""
    for model in (mobile(), convnet(outlier=20), convnet(residual=False)):
        for method in ("u8s8", "u8s8-channel"):
            here = case(model, tmp_path, 15, method)
            before = here.judge(insert(here.prepared, here.calibrate(here.prepared), here.method, model))
            found = repair(here)
            assert found.trial == here.judge(found.model)
            assert found.trial.sqnr_db is not None
            assert before.sqnr_db is not None
            kept = sum(step.gained_db for step in found.steps if step.gained_db > 0)
            assert found.trial.sqnr_db - before.sqnr_db == pytest.approx(kept)


def test_a_bound_that_nothing_meets_leaves_the_better_model(tmp_path: Path) -> None:
    found = repair(case(mobile(), tmp_path, 1000))
    assert not found.within
    assert found.sensitivity
    assert [step.step for step in found.steps] == ["equalization", "bias correction"]


@pytest.mark.parametrize("layer", ["b", "c"])
def test_a_layer_in_float_runs_in_float(layer: str, tmp_path: Path) -> None:
    """Left alone, ONNX Runtime quantizes the weights of a float convolution between quantized ones by itself."""
    model = convnet(channels=16, residual=False)
    prepared = prepare(model, FILE)
    quantized = insert(prepared, min_max(prepared, [X], file=FILE), METHODS["u8s8"], model, keep_float=island(prepared, {layer}))
    meant = open_session(save(quantized, tmp_path / "q.onnx"), optimize=False).run(X)
    hold_float(quantized, {layer})
    onnx.checker.check_model(quantized, full_check=True)
    file = save(quantized, tmp_path / "held.onnx")
    np.testing.assert_array_equal(open_session(file, optimize=False).run(X), meant)
    open_session(file, optimized=tmp_path / "ran.onnx")
    ran = Counter(node.op_type for node in onnx.load(str(tmp_path / "ran.onnx")).graph.node)
    assert ran["QLinearConv"] == 2
    assert ran["Conv"] + ran["FusedConv"] == 1
