"""The choice keeps its bound, says why the others lost, and leaves whole files or none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gleanet.core.errors import DataError, ModelError, SettingsError
from gleanet.core.records import Accuracy, Change, Latency, Trial
from gleanet.export import export_onnx
from gleanet.measure import predict, read_metadata
from gleanet.nn import build
from gleanet.quantize import quantize
from gleanet.quantize.reasons import Verdicts
from tests.tiny_onnx import convnet, floats, save

X = floats(200)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(convnet(metadata={"gleanet.classes": '["a", "b", "c", "d"]'}), tmp_path / "m.onnx")


def labels(path: Path) -> np.ndarray:
    """What the float file itself answers: its accuracy is 1, any other answer is a drop."""
    return np.asarray(predict(path, X).argmax(1))


def test_choice_is_within_the_bound_and_whole(source: Path) -> None:
    y = labels(source)
    batches = [(torch.from_numpy(X[i : i + 70]), torch.from_numpy(y[i : i + 70])) for i in range(0, 200, 70)]
    choice = quantize(source, calibration=batches, evaluate=iter(batches), method="u8s8,u8u8", max_drop=10, batches=(1, 4))
    assert choice.path == source.with_name("m.int8.onnx")
    chosen = [t for t in choice.trials if t.verdict == "chosen"]
    assert [t.method for t in chosen] == [choice.method]
    assert [t.method for t in choice.trials] == ["u8s8", "u8u8"]
    for trial in choice.trials:
        assert trial.verdict in ("chosen", "slower")
        assert trial.change is not None
        assert trial.change.delta >= -0.1
        assert trial.accuracy is not None
        assert trial.accuracy.n == 200
        assert [r.batch for r in trial.latencies] == [1, 4]
        assert trial.nodes["QLinearConv"] == 3
        assert trial.sqnr_db is not None
        assert trial.sqnr_db > 20
        assert trial.reason
    assert choice.float_accuracy == Accuracy(200, 200, choice.float_accuracy.low if choice.float_accuracy else 0, 1.0)
    guess = predict(choice.path, X).argmax(1)
    assert np.mean(guess == y) == chosen[0].agreement
    assert chosen[0].bytes == choice.path.stat().st_size
    assert read_metadata(choice.path).classes == ("a", "b", "c", "d")
    assert {p.name for p in source.parent.iterdir()} == {"m.onnx", "m.int8.onnx"}


def test_impossible_bound_gives_no_file_and_says_so(tmp_path: Path) -> None:
    """Thirty classes and weights that eight bits cannot hold: no method repeats every answer."""
    source = save(convnet(classes=30, outlier=100), tmp_path / "m.onnx")
    old = tmp_path / "m.int8.onnx"
    old.write_bytes(b"precious")
    y = labels(source)
    choice = quantize(source, calibration=[X], evaluate=[(X, y)], method="u8s8,u8s8-7bit", max_drop=0, batches=(1,))
    assert (choice.path, choice.method) == (None, None)
    assert "none of 2 methods stays within 0 points" in choice.reason
    for trial in choice.trials:
        assert trial.verdict == "too inaccurate"
        assert "the limit is 0 points" in trial.reason
        assert "loses" in trial.reason
    assert old.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_out_may_be_a_folder_or_a_file(source: Path) -> None:
    for out, expected in (("sub", "sub/m.int8.onnx"), ("other/x.onnx", "other/x.onnx")):
        choice = quantize(
            source, calibration=[X], evaluate=[(X, labels(source))], method="u8s8", max_drop=50, out=source.parent / out, batches=(1,)
        )
        assert choice.path == source.parent / expected
        assert choice.path.is_file()


def test_bad_input_is_refused(source: Path) -> None:
    y = labels(source)
    with pytest.raises(SettingsError, match="unknown quantization method"):
        quantize(source, calibration=[X], evaluate=[(X, y)], method="magic")
    with pytest.raises(SettingsError, match="max_drop"):
        quantize(source, calibration=[X], evaluate=[(X, y)], max_drop=-1)
    with pytest.raises(SettingsError, match="has 4 classes"):
        quantize(source, calibration=[X], evaluate=[(X, y + 4)])
    with pytest.raises(DataError, match="calibration set is empty"):
        quantize(source, calibration=[], evaluate=[(X, y)])
    with pytest.raises(DataError, match="no evaluation images"):
        quantize(source, calibration=[X], evaluate=[])
    with pytest.raises(DataError, match="labels"):
        quantize(source, calibration=[X], evaluate=[X])
    with pytest.raises(DataError, match=r"takes images \[3, 8, 8\], these are \[3, 9, 9\]"):
        quantize(source, calibration=[floats(3, size=9)], evaluate=[(X, y)])
    broken = source.with_name("broken.onnx")
    broken.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not an ONNX file"):
        quantize(broken, calibration=[X], evaluate=[(X, y)])
    assert {p.name for p in source.parent.iterdir()} == {"m.onnx", "broken.onnx"}


def trial(method: str, p50: float, delta: float, sqnr: float) -> Trial:
    return Trial(
        method=method,
        verdict="tried",
        reason="",
        change=Change(delta=delta, low=delta - 0.01, high=delta + 0.01, n=100),
        sqnr_db=sqnr,
        latencies=(Latency(batch=1, threads=1, repeats=9, p50_ms=p50, p90_ms=p50),),
        nodes={"Conv": 2, "QLinearConv": 3},
    )


def test_the_fastest_within_the_bound_wins_and_ties_go_to_precision() -> None:
    verdicts = Verdicts((Latency(batch=1, threads=1, repeats=9, p50_ms=2.0, p90_ms=2.0),), max_drop=0.5)
    trials = [trial("wrong", 0.5, -0.006, 40), trial("rough", 1.0, 0.0, 20), trial("fine", 1.01, -0.005, 30), trial("late", 1.5, 0.0, 50)]
    best = verdicts.best(trials)
    assert best is not None
    assert best.method == "fine"
    judged = {t.method: t for t in (verdicts.judge(t, best, "f.onnx") for t in trials)}
    assert {name: t.verdict for name, t in judged.items()} == {
        "wrong": "too inaccurate",
        "rough": "slower",
        "fine": "chosen",
        "late": "slower",
    }
    assert judged["fine"].file == "f.onnx"
    assert "loses 0.60 points" in judged["wrong"].reason
    assert "less precise (20.0 dB against 30.0 dB)" in judged["rough"].reason
    assert "1.5 ms at batch 1 (float 2): 0.75 of the float time, fine takes 0.51" in judged["late"].reason
    assert "runs 2 of its 5 layers in float" in judged["late"].reason
    failed = replace(trials[0], verdict="failed", reason="no kernel", change=None)
    assert verdicts.judge(failed, best, "f.onnx") == failed
    assert verdicts.best([failed]) is None


def test_public_resnet20_on_real_images(tmp_path: Path, shared_data: Path, shared_weights: Path) -> None:
    """Real weights, real pixels: all layers run in integers, logits keep 25 dB, the file is a quarter."""
    data = pytest.importorskip("gleanet.data")
    net = build("resnet20", weights=shared_weights / "resnet20-jpeg.pt")
    images = data.load(str(shared_data / "cifar10-jpeg")).test.subset(np.arange(600))
    export_onnx(net, torch.zeros(1, 3, 32, 32), tmp_path / "base.onnx", input="uint8", check=images.images[:64])
    assert (tmp_path / "base.onnx").stat().st_size <= 1_095_000
    choice = quantize(
        tmp_path / "base.onnx",
        calibration=[images.images[:200]],
        evaluate=[(images.images[200:], images.labels[200:])],
        method="u8s8-channel",
        max_drop=2,
        batches=(1,),
    )
    (only,) = choice.trials
    assert only.verdict == "chosen"
    assert only.sqnr_db is not None
    assert only.sqnr_db >= 25
    assert only.nodes["QLinearConv"] == 21
    assert not {"Conv", "Slice", "Pad"} & set(only.nodes)
    assert choice.float_accuracy is not None
    assert choice.float_accuracy.value >= 0.84
    assert choice.path is not None
    assert choice.path.stat().st_size <= 300_000
