"""A fast method that loses too much is repaired and takes part in the choice; other runtimes take part where they are asked to."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from gleanet.core.records import Change, Latency, Trial
from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.measure.runtimes import Candidate
from gleanet.quantize import Choice, quantize
from gleanet.quantize.methods import METHODS
from gleanet.quantize.reasons import Verdicts
from gleanet.quantize.rescue import to_repair
from gleanet.quantize.trial import Tried
from tests.tiny_onnx import convnet, floats, save

X = floats(1500)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty classes, and a convolution with one weight a hundred times larger than the rest: eight bits per tensor cannot hold it."""
    return save(convnet(classes=30, outlier=100), tmp_path_factory.mktemp("rescue") / "m.onnx")


def choose(source: Path, tmp_path: Path, **settings: object) -> Choice:
    labels = predict(source, X).argmax(axis=1)
    given: dict[str, object] = {"calibration": [X], "evaluate": [(X, labels)], "method": "u8s8", "batches": (1,), "out": tmp_path}
    return quantize(source, **{**given, **settings})  # type: ignore[arg-type]


def test_what_was_too_inaccurate_is_repaired_to_the_bound(source: Path, tmp_path: Path) -> None:
    plain = choose(source, tmp_path, max_drop=6.0)
    assert plain.path is None
    assert plain.repair == ()
    choice = choose(source, tmp_path, max_drop=6.0, repair=True)
    assert choice.method == "u8s8+repair"
    (before, after) = choice.trials
    assert (before.verdict, after.verdict) == ("too inaccurate", "chosen")
    assert after.change is not None
    assert -100 * after.change.low <= 6.0
    assert choice.repair[-1].step == "layers in float"
    assert choice.repair[-1].layers == ("b",) == (choice.sensitivity[0].layer,)
    assert "b" in after.left_float
    assert "layers in float (b)" in after.reason
    assert choice.path is not None
    exact, got = predict(source, X), predict(choice.path, X)
    assert sqnr_db(exact, got) > 20 > sqnr_db(exact, predict(source, X) + 0.3 * exact.std())
    assert {node.op_type for node in onnx.load(choice.path).graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv"}


def test_a_bound_that_only_the_float_model_meets_is_not_met(source: Path, tmp_path: Path) -> None:
    choice = choose(source, tmp_path, max_drop=0.0, repair=True)
    assert choice.path is None
    assert [trial.method for trial in choice.trials] == ["u8s8", "u8s8+repair"]
    assert choice.sensitivity
    assert "layers in float" not in [step.step for step in choice.repair]


def test_sensitivity_is_there_for_those_who_ask(source: Path, tmp_path: Path) -> None:
    assert choose(source, tmp_path, max_drop=100.0).sensitivity == ()
    found = choose(source, tmp_path, max_drop=100.0, sensitivity=True).sensitivity
    assert found[0].layer == "b"
    assert [one.alone_db for one in found] == sorted(one.alone_db for one in found)


def test_another_runtime_is_a_row_of_the_choice(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", exc_type=ImportError)
    choice = choose(source, tmp_path, max_drop=100.0, runtimes=("onnxruntime", "openvino"))
    here, there, floats_there = choice.trials
    assert [trial.method for trial in choice.trials] == ["u8s8", "u8s8 in openvino", "float in openvino"]
    assert floats_there.verdict == "float"
    assert {here.verdict, there.verdict} == {"chosen", "slower"}
    assert choice.path is not None
    labels = predict(source, X).argmax(axis=1)
    for trial, runtime in ((here, "onnxruntime"), (there, "openvino")):
        answers = predict(Candidate(choice.path, runtime), X).argmax(axis=1)
        assert trial.accuracy is not None
        assert trial.accuracy.correct == int(np.sum(answers == labels))
        assert trial.runtime == runtime
        assert trial.memory is not None
        assert trial.memory > 0


def tried(method: str, ms: float, loss: float, uncertain: float) -> Tried:
    """A trial that loses ``loss`` points, give or take ``uncertain``, in ``ms`` a call."""
    change = Change(delta=-loss / 100, low=-(loss + uncertain) / 100, high=-(loss - uncertain) / 100, n=100)
    trial = Trial(method, "", "", change=change, latencies=(Latency(1, 1, 9, ms, ms),), sqnr_db=20.0)
    return Tried(trial, METHODS[method], Path(method))


def test_nothing_is_repaired_while_a_method_as_fast_only_lacks_images() -> None:
    verdicts = Verdicts((Latency(1, 1, 9, 2.0, 2.0),), max_drop=0.5)
    inaccurate, doubtful, slow = tried("u8s8-entropy", 1.0, 3, 1), tried("u8s8", 1.0, 0, 1), tried("u8s8-percentile", 1.5, 0, 0)
    assert to_repair(verdicts, [inaccurate, slow]) is inaccurate
    assert to_repair(verdicts, [inaccurate, doubtful, slow]) is None
