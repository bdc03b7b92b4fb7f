"""The choice keeps its bound, says why the others lost, and leaves whole files or none."""

from collections.abc import Iterator
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
from gleanet.quantize.methods import METHODS, impossible
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
    assert "none of 2 methods is sure to stay within 0 points" in choice.reason
    for trial in choice.trials:
        assert trial.verdict == "too inaccurate"
        assert "the limit is 0 points" in trial.reason
        assert "loses" in trial.reason
    assert old.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_small_sample_proves_nothing_and_more_images_are_looked_at(source: Path) -> None:
    """The quantized file repeats nearly every answer: 200 images cannot prove a loss below one point, 4,000 can."""
    x = floats(4000)
    y = np.asarray(predict(source, x).argmax(1))
    batches = [(x[i : i + 100], y[i : i + 100]) for i in range(0, len(x), 100)]
    few = quantize(source, calibration=[X], evaluate=batches[:2], method="u8s8-channel", max_drop=1, batches=(1,), look=200)
    assert few.path is None
    (trial,) = few.trials
    assert trial.change is not None
    assert trial.change.delta >= -0.01 > trial.change.low
    assert trial.verdict == "not proved"
    read: list[int] = []

    def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, batch in enumerate(batches):
            read.append(number)
            yield batch

    many = quantize(
        source,
        calibration=[X],
        evaluate=stream(),
        method="u8s8-channel",
        max_drop=1,
        batches=(1,),
        look=200,
    )
    (trial,) = many.trials
    assert trial.verdict == "chosen"
    assert trial.change is not None
    assert trial.change.low >= -0.01
    assert 2 < len(read) == trial.change.n // 100 < len(batches), "reads until the interval decides, and no further"


def test_files_of_one_structure_are_timed_once_and_calibrators_do_not_change_it(source: Path) -> None:
    names = "u8s8,u8s8-mse,u8s8-entropy,u8s8-head"
    choice = quantize(source, calibration=[X], evaluate=[(X, labels(source))], method=names, max_drop=50, batches=(1,))
    times = {t.method: t.latencies for t in choice.trials}
    assert times["u8s8"] == times["u8s8-mse"] == times["u8s8-entropy"]
    assert times["u8s8-head"] != times["u8s8"]
    assert {record.tensor for record in choice.ranges} >= {"x", "a.relu", "b.relu"}
    assert set(choice.ranges[0].ranges) == {"min-max", "percentile", "entropy", "mse"}
    assert choice.float_nodes["GlobalAveragePool"] == 1


def test_all_lists_what_does_not_exist_with_its_reason(source: Path) -> None:
    choice = quantize(source, calibration=[X[:20]], evaluate=[(X, labels(source))], method="all", max_drop=50, batches=(1,))
    verdicts = {t.method: t.verdict for t in choice.trials}
    assert set(METHODS) <= set(verdicts)
    assert not [t for t in choice.trials if t.verdict == "failed"]
    assert sum(verdict == "impossible" for verdict in verdicts.values()) == len(impossible())
    assert verdicts["weights8"] == "size only"
    assert "QLinearConv" in next(t.reason for t in choice.trials if t.method.startswith("u16s8-qop"))


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


def trial(method: str, p50: float, delta: float, sqnr: float, width: float = 0.0) -> Trial:
    return Trial(
        method=method,
        verdict="tried",
        reason="",
        change=Change(delta=delta, low=delta - width, high=delta + width, n=100),
        sqnr_db=sqnr,
        latencies=(Latency(batch=1, threads=1, repeats=9, p50_ms=p50, p90_ms=p50),),
        nodes={"Conv": 2, "QLinearConv": 3},
        left_float=("a", "b"),
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
    unsure = trial("unsure", 0.4, -0.001, 60, width=0.01)
    assert verdicts.undecided(unsure)
    assert verdicts.best([unsure, *trials]) == best
    assert verdicts.judge(unsure, best, "f.onnx").verdict == "not proved"
    assert verdicts.judge(replace(unsure, latencies=trials[3].latencies), best, "f.onnx").verdict == "slower"
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
