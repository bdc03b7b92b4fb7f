"""Run folders: no result is lost, mixed up or locked away."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gleanet.core import index, store
from gleanet.core.errors import BadInput, StoreError
from gleanet.core.records import Run, dumps
from tests.report.example import example_run

NOW = datetime(2026, 11, 23, 12, 41, tzinfo=UTC)
posix = pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")


def put(root: Path, name: str, **fields: object) -> Run:
    """Write a finished run into ``root/name``."""
    run = replace(example_run(), id=name, **fields)  # type: ignore[arg-type]
    (root / name).mkdir(parents=True)
    (root / name / "run.json").write_bytes(dumps(run))
    return run


@contextmanager
def another_process_in(folder: Path) -> Iterator[int]:
    """A real process that holds the folder until the block ends; yields its id."""
    code = (
        "import sys; from datetime import datetime; from pathlib import Path; from gleanet.core import index, store;"
        "f = store.create(Path(sys.argv[1]), 'm', now=datetime.now()); print('ready', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("resnet20", "resnet20"),
        ("../nets/small.gleanet", "small"),
        ("package.module:make_net", "make_net"),
        ("C:\\nets\\a b.onnx", "a-b"),
        ("../..", "model"),
        ("é/<x>", "x"),
    ],
)
def test_the_default_folder_is_dated_named_and_new(tmp_path: Path, model: str, named: str) -> None:
    with store.create(None, model, now=NOW, root=tmp_path) as one, store.create(None, model, now=NOW, root=tmp_path) as two:
        assert one.folder.parent == two.folder.parent == tmp_path
        assert one.id != two.id
        date, _, rest = one.id.partition(f"-{named}-")
        assert date == "2026-11-23"
        assert len(rest) == 6


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    with store.create(tmp_path / "out", "resnet20", now=NOW) as folder:
        folder.write(example_run())
        assert folder.read() == example_run()
        assert folder.path("model.onnx") == tmp_path / "out" / "model.onnx"


@pytest.mark.parametrize("name", ["run.json", "model.onnx"])
def test_a_folder_with_results_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(BadInput, match=r"--resume" if name == "run.json" else r"holds model.onnx, .*--out"):
        store.create(tmp_path, "resnet20", now=NOW)
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_foreign_folder_is_taken_and_its_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with store.create(tmp_path, "resnet20", now=NOW) as folder:
        folder.write(example_run())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with store.create(None, "resnet20", now=NOW, root=tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot write in the run folder .*file/run: .*--out") as caught:
        store.create(tmp_path / "file" / "run", "resnet20", now=NOW)
    assert "\n" not in str(caught.value)


@posix
def test_a_second_process_is_told_who_works_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        another_process_in(folder) as pid,
        pytest.raises(BadInput, match=f"process {pid} on {socket.gethostname()} is working in .*: wait"),
    ):
        store.create(folder, "resnet20", now=NOW)
    with store.create(folder, "resnet20", now=NOW) as mine:  # the other was killed: its lock is gone
        assert (mine.folder / ".lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"


@posix
def test_a_folder_nobody_refers_to_is_free_again(tmp_path: Path) -> None:
    store.create(tmp_path, "resnet20", now=NOW).write(example_run())
    with store.resume(tmp_path) as again:
        assert again.read() == example_run()


def test_resume_needs_a_readable_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run"):
        store.resume(tmp_path / "nowhere", root=tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StoreError, match="not a Run record") as caught:
        store.resume(tmp_path)
    (tmp_path / "run.json").write_bytes(dumps(example_run()))
    store.resume(tmp_path).close()  # the failed attempt holds no lock, even while its error is being shown
    assert caught.tb is not None


def test_resume_clears_away_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    put(tmp_path, "run")
    steps = tmp_path / "run" / "steps"
    steps.mkdir()
    kept = {steps / "one-shot.gleanet", tmp_path / "run" / "train.state", tmp_path / "run" / "notes.part"}
    for path in (*kept, steps / ".one-shot.gleanet.abc12345.part", tmp_path / "run" / ".run.json.abc12345.part"):
        path.write_bytes(b"half")
    store.resume(tmp_path / "run").close()
    left = {path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name not in (".lock", "run.json")}
    assert left == kept


def test_a_clock_that_goes_back_mixes_nothing_up(tmp_path: Path) -> None:
    """Runs of one model in 2026, then, with the clock at 1970, once more: another folder; the order is what the clocks said."""
    first = put(tmp_path, "2026-11-23-resnet20-a1b2c3")
    with store.create(None, "resnet20", now=datetime(1970, 1, 1, tzinfo=UTC), root=tmp_path) as folder:
        folder.write(replace(example_run(), id=folder.id, started="1970-01-01T00:00:00+00:00"))
        assert [run.id for run in index.listing(tmp_path)] == [first.id, folder.id]
    assert store.find(first.id, root=tmp_path).read() == first


def test_find_goes_by_path_id_beginning_or_short_id(tmp_path: Path) -> None:
    put(tmp_path, "2026-11-23-resnet20-a1b2c3")
    put(tmp_path, "2026-11-24-resnet56-d4e5f6")
    one = tmp_path / "2026-11-23-resnet20-a1b2c3"
    for which in (one, one / "run.json", one.name, "2026-11-23", "a1b2c3"):
        assert store.find(which, root=tmp_path).folder == one
    with pytest.raises(BadInput, match=r"could be 2026-11-23-resnet20-a1b2c3, 2026-11-24-resnet56-d4e5f6"):
        store.find("2026-11", root=tmp_path)
    for which in ("nothing", "", "c3"):
        with pytest.raises(BadInput, match="no run"):
            store.find(which, root=tmp_path)


def test_whole_records_are_listed_newest_first_without_those_that_cannot_be_read(tmp_path: Path) -> None:
    old = put(tmp_path, "b-old", started="2026-11-01T10:00:00+00:00")
    new = put(tmp_path, "a-new", started="2026-11-02T08:00:00+00:00")
    put(tmp_path, "broken")
    (tmp_path / "broken" / "run.json").write_text("{")
    assert store.listing(tmp_path) == [new, old]
    assert store.listing(tmp_path / "nowhere") == []
