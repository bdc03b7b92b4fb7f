"""A choice that is cut short goes on from its finished trials, and from nothing that is about something else."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from gleanet.core.progress import Progress
from gleanet.core.records import Trial
from gleanet.measure import predict
from gleanet.quantize import Choice, quantize
from gleanet.quantize.kept import found, keep
from gleanet.quantize.methods import METHODS
from gleanet.quantize.trial import Tried
from tests.tiny_onnx import convnet, floats, save

X = floats(300)
NAMES = "u8s8,u8s8-channel,s8s8"


def choose(source: Path, folder: Path, **settings: object) -> Choice:
    labels = predict(source, X).argmax(axis=1)
    given: dict[str, object] = {"calibration": [X], "evaluate": [(X, labels)], "method": NAMES, "batches": (1,), "max_drop": 100.0}
    return quantize(source, keep=folder / "trials", out=folder, **{**given, **settings})  # type: ignore[arg-type]


def judged(choice: Choice) -> list[tuple[object, ...]]:
    """All of a choice that does not depend on the clock."""
    return [(t.method, t.bytes, t.accuracy, t.change, t.agreement, t.sqnr_db, t.nodes, t.left_float, t.runtime) for t in choice.trials]


class Stop(Exception):
    pass


class CutShort(Progress):
    """Stops the work after so many methods, as a signal would."""

    def __init__(self, methods: int) -> None:
        self.left = methods

    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        def advance(units: int) -> None:
            self.left -= units if unit == "methods" else 0
            if self.left <= 0:
                raise Stop

        yield advance

    def say(self, line: str) -> None:
        return None


def test_finished_trials_are_not_made_again(tmp_path: Path) -> None:
    """Cut short after the second method; the second call starts with the third, and ends with what an uninterrupted one finds."""
    source = save(convnet(), tmp_path / "m.onnx")
    whole = choose(source, tmp_path / "whole")
    with pytest.raises(Stop):
        choose(source, tmp_path / "cut", progress=CutShort(2))
    trials = tmp_path / "cut/trials"
    assert {file.stem for file in trials.glob("*.json")} == {"u8s8", "u8s8-channel"}
    assert not (tmp_path / "cut" / "m.int8.onnx").exists()
    before = {file.name: file.stat().st_mtime_ns for file in trials.iterdir()}
    again = choose(source, tmp_path / "cut")
    assert before.items() <= {file.name: file.stat().st_mtime_ns for file in trials.iterdir()}.items()
    assert judged(again) == judged(whole)
    for name in NAMES.split(","):
        assert (trials / f"{name}.onnx").read_bytes() == (tmp_path / "whole/trials" / f"{name}.onnx").read_bytes()
    assert all(trial.latencies for trial in again.trials), "times are measured anew"


def test_trials_of_something_else_are_thrown_away(tmp_path: Path) -> None:
    source = save(convnet(), tmp_path / "m.onnx")
    choose(source, tmp_path)
    stray = tmp_path / "trials" / "stray.json"
    for settings in ({"calibration": [X + 1]}, {"evaluate": [(X[:200], predict(source, X[:200]).argmax(axis=1))]}, {}):
        stray.write_text("{}")
        choose(source, tmp_path, **settings)
        assert not stray.exists(), settings
    stray.write_text("{}")
    choose(source, tmp_path)
    assert stray.exists(), "the same model and images again"


def test_a_tried_comes_back_as_it_was_and_damage_is_no_error(tmp_path: Path) -> None:
    rng, method = np.random.default_rng(0), METHODS["u8s8"]
    hits, meant = (rng.random(77) < 0.5 for _ in range(2))
    (tmp_path / "u8s8.onnx").write_bytes(b"file")
    tried = Tried(Trial("u8s8", "tried", "", sqnr_db=30.5), method, tmp_path / "u8s8.onnx", "digest", hits, meant, 3)
    keep(tmp_path, tried)
    known = found(tmp_path, method)
    assert known is not None
    back = known[0]
    assert (back.trial, back.method, back.file, back.structure, back.blocks) == (tried.trial, method, tried.file, "digest", 3)
    assert np.array_equal(back.hits, hits)
    assert np.array_equal(back.meant, meant)
    record = tmp_path / "u8s8.json"
    whole = json.loads(record.read_text())
    for damage in (b"", b"{}", json.dumps(whole | {"hits": "!"}).encode(), json.dumps(whole | {"images": 5000}).encode()):
        record.write_bytes(damage)
        assert found(tmp_path, method) is None
    keep(tmp_path, tried)
    (tmp_path / "u8s8.onnx").unlink()
    assert found(tmp_path, method) is None
