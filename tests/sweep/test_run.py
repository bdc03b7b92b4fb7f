"""A sweep's laws: resumed equals uninterrupted, a finished cell is never run again, one that fails does not hold up the others."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core import index, store
from gleanet.core.errors import BadInput, Interrupted, SettingsError
from gleanet.core.lock import lock
from gleanet.core.records import read_record
from gleanet.core.sweeps import SWEEP_RECORD, SweepRecord
from gleanet.sweep.run import sweep
from tests.sweep.commands import KNOWN, TRAIN, sweep_of
from tests.sweep.places import Scripted


def swept(folder: Path, place: Scripted, text: str = TRAIN, *, resume: bool = False) -> SweepRecord:
    settings = sweep_of(folder.parent / "file", text)
    given = str(folder) if resume else None
    _, record = sweep(settings, lambda resources: place, KNOWN, out=None if resume else folder, resume=given)
    return record


def test_every_cell_runs_once_and_the_record_says_what_came_out(tmp_path: Path) -> None:
    place = Scripted(slots=3)
    record = swept(tmp_path / "one", place)
    assert Counter(job.name for job in place.started) == dict.fromkeys((cell.name for cell in record.cells), 1)
    assert len(record.cells) == 8
    assert place.cleared
    assert place.closed
    assert read_record(tmp_path / "one" / SWEEP_RECORD, SweepRecord) == record
    run = store.find(tmp_path / "one").read()
    assert (run.command, run.status, run.model, run.results["cells"]) == (
        *("sweep", "done", "resnet8"),
        {"done": 8, "below bar": 0, "failed": 0, "waiting": 0},
    )
    assert "mish" in (tmp_path / "one" / "report.html").read_text()
    assert [entry.id for entry in index.search(["mish", "sweep"], tmp_path)] == ["one"]


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_resumed_equals_uninterrupted_and_what_is_finished_never_runs_again(tmp_path: Path, after: int) -> None:
    whole = swept(tmp_path / "whole", Scripted())
    first, second = Scripted(ctrl_c=after), Scripted(slots=2)
    with pytest.raises(Interrupted, match=f"resume with gleanet sweep --resume {tmp_path / 'parts'}"):
        swept(tmp_path / "parts", first)
    assert (first.stopped, first.cleared) == (True, False)
    assert store.find(tmp_path / "parts").read().status == "interrupted"
    _, record = sweep(None, lambda resources: second, KNOWN, resume=str(tmp_path / "parts"))
    finished = {job.name for job in first.started[:after]}
    assert len(finished) == after
    assert {job.name for job in second.started} == {cell.name for cell in whole.cells} - finished
    assert record == whole
    third = Scripted()
    assert swept(tmp_path / "parts", third, resume=True) == whole
    assert third.started == []


def test_a_larger_grid_goes_on_from_what_is_there(tmp_path: Path) -> None:
    swept(tmp_path / "one", Scripted())
    place = Scripted()
    more = TRAIN.replace("seeds = 2", "seeds = 3").replace('"mish"]', '"mish", "gelu"]')
    record = swept(tmp_path / "one", place, more, resume=True)
    assert len(place.started) == 18 - 8
    assert record == swept(tmp_path / "other", Scripted(), more)


def test_a_cell_that_fails_is_tried_again_and_holds_nobody_up(tmp_path: Path) -> None:
    place = Scripted({"relu --lr=0.1": ["lost"], "mish --lr=0.2": ["no such thing"] * 99})
    record = swept(tmp_path / "one", place)
    by_name = {cell.name: (*cell.labels.values(), cell.seed) for cell in record.cells}
    tries = Counter(by_name[job.name] for job in place.started)
    assert tries == {
        **{(a, lr, seed): 1 for a in ("relu", "mish") for lr in ("0.1", "0.2") for seed in (0, 1)},
        ("relu", "0.1", 0): 2,
        ("mish", "0.2", 0): 3,
        ("mish", "0.2", 1): 3,
    }
    bad = next(row for row in record.combinations if row.labels == {"activation": "mish", "lr": "0.2"})
    assert (bad.mean, bad.failed) == (None, ((0, "no such thing"), (1, "no such thing")))
    assert all(row.mean is not None and not row.failed for row in record.combinations if row is not bad)
    run = store.find(tmp_path / "one").read()
    assert run.status == "failed"
    assert run.notes == ("mish, 0.2, seed 0 failed: no such thing", "mish, 0.2, seed 1 failed: no such thing")
    again = Scripted()
    assert swept(tmp_path / "one", again, resume=True) == swept(tmp_path / "whole", Scripted())
    assert len(again.started) == 2


def test_one_process_at_a_time_and_one_sweep_a_folder(tmp_path: Path) -> None:
    swept(tmp_path / "one", Scripted())
    with pytest.raises(BadInput, match="already holds a run"):
        swept(tmp_path / "one", Scripted())
    release = lock(tmp_path / "one")
    with pytest.raises(BadInput, match=f"process {os.getpid()} on .* is working in"):
        swept(tmp_path / "one", Scripted(), resume=True)
    release()
    swept(tmp_path / "one", Scripted(), resume=True)


def test_a_run_of_another_command_is_no_sweep(tmp_path: Path) -> None:
    swept(tmp_path / "one", Scripted())
    folder = store.find(tmp_path / "one")
    folder.write(replace(folder.read(), command="train"))
    before = (tmp_path / "one" / "run.json").read_bytes()
    with pytest.raises(SettingsError, match="gleanet train"):
        swept(tmp_path / "one", Scripted(), resume=True)
    assert (tmp_path / "one" / "run.json").read_bytes() == before
