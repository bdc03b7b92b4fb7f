"""The index of runs: it says what the folders say, whatever becomes of it."""

import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core import index, store
from gleanet.core.errors import BadInput
from gleanet.core.records import dumps
from tests.core.test_store import NOW, put
from tests.report.example import example_run

MANY = 5000


def ids(entries: tuple[index.Entry, ...]) -> list[str]:
    return [entry.id for entry in entries]


def test_listing_is_newest_first_and_survives_broken_folders(tmp_path: Path) -> None:
    put(tmp_path, "b-old", started="2026-11-01T10:00:00+00:00")
    put(tmp_path, "a-new", started="2026-11-01T10:30:00+02:00")  # 08:30 UTC
    put(tmp_path, "c", started="2026-11-02T00:00:00")
    (tmp_path / "not-a-run").mkdir()
    for name, text in (("broken", "{"), ("future", '{"format_version": 99}')):
        put(tmp_path, name)
        (tmp_path / name / "run.json").write_text(text)
        os.utime(tmp_path / name / "run.json", (0, 0))
    listed = index.listing(tmp_path)
    assert ids(listed[:3]) == ["c", "b-old", "a-new"]
    broken = {entry.id: entry for entry in listed[3:]}
    assert set(broken) == {"broken", "future"}
    assert all(entry.status == "broken" for entry in broken.values())
    assert "not a Run record" in broken["broken"].note
    assert "upgrade" in broken["future"].note
    assert index.listing(tmp_path / "nowhere") == ()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
def test_a_killed_run_is_listed_as_interrupted_and_a_living_one_as_running(tmp_path: Path) -> None:
    put(tmp_path, "killed", status="running")
    with store.create(tmp_path / "living", "resnet20", now=NOW) as living:
        living.write(replace(example_run(), id="living", status="running"))
        assert {entry.id: entry.status for entry in index.listing(tmp_path)} == {"living": "running", "killed": "interrupted"}
    assert {entry.id: entry.status for entry in index.listing(tmp_path)} == {"living": "interrupted", "killed": "interrupted"}


def test_a_search_wants_every_word_and_takes_beginnings(tmp_path: Path) -> None:
    bare: dict[str, object] = {"rows": (), "trials": (), "results": {}, "machine": {}, "versions": {}, "notes": (), "command": "shrink"}
    one = {"model": "resnet56", "data": {"title": "CIFAR-10 original"}, "settings": {"pruning": {"criterion": "residual"}}}
    two = {"model": "resnet20", "data": {"title": "digits", "classes": ["Ünïcode <b>", "drei"]}, "settings": {}, "notes": ("saturated",)}
    put(tmp_path, "one", **bare | one)
    put(tmp_path, "two", **bare | two)
    for words, found in (
        (["residual"], ["one"]), (["resi", "CIFAR"], ["one"]), (["resnet56", "saturated"], []), (["satur"], ["two"]),
            (["unicode"], ["two"]),
        (["CIFAR-10"], ["one"]), (["one"], ["one"]), (['"', "one", "*", "AND"], []), (["two", 'OR "'], []), (["NEAR(one two)"], []),
    ):  # fmt: skip
        assert ids(index.search(words, tmp_path)) == found, words
    assert "saturated" in index.search(["satur"], tmp_path)[0].note
    assert sorted(ids(index.search(["res"], tmp_path))) == ["one", "two"]
    for words in ([], [""], ["%", "*"]):
        with pytest.raises(BadInput, match="give words"):
            index.search(words, tmp_path)


def test_every_look_sees_the_folders_as_they_are(tmp_path: Path) -> None:
    run = put(tmp_path, "one", notes=("first",))
    assert ids(index.search(["first"], tmp_path)) == ["one"]
    store.RunFolder(tmp_path / "one").write(replace(run, notes=("second",)))
    os.utime(tmp_path / "one" / "run.json", (0, 0))  # the clock went back
    assert ids(index.search(["first"], tmp_path)) == []
    assert ids(index.search(["second"], tmp_path)) == ["one"]
    put(tmp_path, "other", notes=("second",))
    assert sorted(ids(index.search(["second"], tmp_path))) == ["one", "other"]
    shutil.rmtree(tmp_path / "one")
    assert ids(index.listing(tmp_path)) == ["other"]
    assert ids(index.search(["second"], tmp_path)) == ["other"]


@pytest.mark.parametrize("harm", ["lost", "noise", "empty", "cut", "another version", "a folder", "half"])
def test_an_index_that_is_lost_or_damaged_loses_nothing(tmp_path: Path, harm: str) -> None:
    for n in range(60):
        put(tmp_path, f"run-{n}", notes=("findable",))
    whole, hits, file = index.listing(tmp_path), index.search(["findable"], tmp_path), tmp_path / index.FILE
    data = file.read_bytes()
    for name in (f"{index.FILE}-wal", f"{index.FILE}-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    file.unlink()
    match harm:
        case "noise":
            file.write_bytes(b"\xa5" * 20_000)
        case "empty":
            file.touch()
        case "cut":
            file.write_bytes(data[: len(data) // 2])
        case "half":
            file.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
        case "another version":
            file.write_bytes(data[:60] + (99).to_bytes(4, "big") + data[64:])
        case "a folder":
            file.mkdir()
    assert index.listing(tmp_path) == whole
    assert {entry.id for entry in index.search(["findable"], tmp_path)} == {entry.id for entry in hits} == {entry.id for entry in whole}


def test_no_page_of_it_is_needed(tmp_path: Path) -> None:
    for n in range(25):
        put(tmp_path, f"run-{n}", notes=("findable",))
    whole, hits, file = index.listing(tmp_path), index.search(["findable"], tmp_path), tmp_path / index.FILE
    data = file.read_bytes()
    assert len(data) > 10 * 4096
    for page in range(0, len(data), 4096):
        file.write_bytes(data[:page] + b"\xff" * 4096 + data[page + 4096 :])
        assert (index.search(["findable"], tmp_path), index.listing(tmp_path)) == (hits, whole), page


def work(root: str, worker: int) -> int:
    """Writes runs and looks, again and again."""
    for n in range(12):
        put(Path(root), f"w{worker}-{n}", notes=(f"worker{worker}",))
        if len(index.search([f"worker{worker}"], Path(root))) != n + 1:
            return 1
    return 0


def test_several_processes_write_at_a_time(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(work, [(str(tmp_path), worker) for worker in range(3)]) == [0, 0, 0]
    assert len(index.listing(tmp_path)) == 36


def test_thousands_of_runs(tmp_path: Path) -> None:
    """5,000 runs, each with a word of its own; then one more, one fewer, one changed."""
    text = dumps(replace(example_run(), notes=("@@note",), id="@@id", started="@@started")).decode()
    for n in range(MANY):
        folder = tmp_path / f"run-{n:04}"
        folder.mkdir()
        started = f"2026-{1 + n // 500:02}-01T00:00:00+00:00"
        (folder / "run.json").write_text(text.replace("@@note", f"only{n:04}").replace("@@id", folder.name).replace("@@started", started))
    assert len(index.listing(tmp_path)) == MANY
    for n in (0, 1234, MANY - 1):
        assert ids(index.search([f"only{n:04}"], tmp_path)) == [f"run-{n:04}"]
    assert len(index.search(["only12"], tmp_path)) == index.MATCHES
    assert index.listing(tmp_path)[0].id == "run-4500"
    shutil.rmtree(tmp_path / "run-1234")
    (tmp_path / "run-0000" / "run.json").write_text(json.dumps(json.loads(text) | {"id": "changed", "notes": ["only1234"]}))
    assert ids(index.search(["only1234"], tmp_path)) == ["changed"]
    assert len(index.listing(tmp_path)) == MANY - 1
