"""The real command with the real PyTorch adapter, and rows of our own that are wrong or broken."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gleanet.core import store
from gleanet.core.errors import BadInput, SettingsError, StoreError
from gleanet.core.framework_entries import entries_of
from gleanet.core.records import Run, dumps
from gleanet.frameworks.catalogue import ADAPTERS, Framework
from gleanet.frameworks.environments import folder
from gleanet.frameworks.runner import CompareSettings, compare
from tests.cli.conftest import Gleanet
from tests.cli.conftest import gleanet as gleanet
from tests.frameworks.conftest import Row

pytestmark = pytest.mark.slow  # each starts interpreters that import a framework; `make test-frameworks-ci` runs them

QUICK = ("--data", "digits", "--steps", "2")
PYTORCH = (ADAPTERS / "pytorch_cnn.py").read_text(encoding="utf-8")
IN_ITS_FOLDER = f"import sys; sys.path.insert(0, {str(ADAPTERS)!r})\n"


@pytest.fixture(scope="module")
def done(gleanet: Gleanet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """PyTorch through the command: its run folder and what ``--json`` prints."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    answer = gleanet("frameworks", "run", "pytorch:eager", *QUICK, "--rounds", "1", "--out", folder, "--json")
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout)


def test_pytorch_is_right_and_timed(done: tuple[Path, dict[str, Any]]) -> None:
    (row,) = done[1]["frameworks"]
    assert (row["name"], row["mode"], row["status"]) == ("pytorch", "eager", "ok")
    assert row["version"][0].isdigit()
    assert 0 < row["max_relative_gradient_error"] < 2e-5
    assert (row["check"]["ties"], row["check"]["relu_at_zero"]) == ("first", 0.0)
    assert len(row["rounds"]) == 1
    assert 0 < row["step"]["cpu"]["p50_ms"] <= row["step"]["cpu"]["p90_ms"]
    assert 0.0 < row["cores_used"] < 1.1, "one thread on one core"
    assert row["memory"] > 50e6
    assert row["bytes"] > 100e6
    assert done[1]["data"]["title"].startswith("digits 16x16, enlarged to 32x32: the first ")


def test_the_run_folder_holds_the_record_and_no_compiled_code(done: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = done
    run = store.find(folder).read()
    assert run.status == "done"
    assert json.loads(dumps(entries_of(run))) == printed["frameworks"]
    assert not list(folder.glob("work/*/cache"))
    assert not list(folder.glob("work/*.npz"))


def test_a_finished_run_has_nothing_left_to_do(done: tuple[Path, dict[str, Any]], gleanet: Gleanet) -> None:
    folder, printed = done
    again = gleanet("frameworks", "run", "--resume", folder, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["frameworks"] == printed["frameworks"]


def test_what_is_wrong_crashed_or_broken_is_a_row_and_not_timed(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path / "cache"))
    wrong = PYTORCH.replace(".grad.cpu().numpy()", ".grad.cpu().numpy() * 1.0001")
    assert wrong != PYTORCH
    mine = row(IN_ITS_FOLDER + wrong, package="torch", modes=("eager",))
    damaged = replace(mine, name="damaged", here=False)
    folder(damaged).mkdir(parents=True)
    (folder(damaged) / "ready.json").write_text("{", encoding="utf-8")
    settings = CompareSettings(steps=1, rounds=1, data="digits")
    run = compare(settings, out=tmp_path / "run", known=[damaged, with_fault(mine), mine])
    broken, crashed, found = entries_of(run)
    assert broken.status == "not installed"
    assert broken.reason.endswith("gleanet frameworks setup damaged")
    assert found.status == "wrong"
    assert "differs by 1.0e-04" in found.reason
    assert found.max_relative_gradient_error == pytest.approx(1e-4, rel=0.05)
    assert (found.rounds, found.step, found.place) == ((), None, None)
    assert crashed.status == "failed"
    assert "ZeroDivisionError" in crashed.reason
    assert run.status == "done"


def with_fault(mine: Framework) -> Framework:
    """The same row with an adapter that crashes."""
    script = mine.script.with_name("crashing.py")
    script.write_text("# model and step\nx = 1\n# end\n1 / 0\n", encoding="utf-8")
    return replace(mine, name="crash", adapter=str(script))


@pytest.mark.slow
def test_rounding_that_breaks_ties_is_no_error(row: Row, tmp_path: Path) -> None:
    """A framework that is right in float64, and in float32 is not, is judged by float64, and the record says so."""
    coarse = PYTORCH.replace(
        "    def gradients(x, y):\n", '    def gradients(x, y):\n        x = x + 1e-3 * (job.dtype == "float32")\n', 1
    ).replace("x + 1e-3", "x.astype(job.dtype) + harness.np.asarray(1e-3, job.dtype)")
    assert coarse != PYTORCH
    mine = row(IN_ITS_FOLDER + coarse, package="torch", modes=("eager",))
    (found,) = entries_of(compare(CompareSettings(steps=1, rounds=0, data="digits"), out=tmp_path / "run", known=[mine]))
    assert found.check is not None
    assert (found.status, found.check.dtype) == ("ok", "float64")
    assert found.max_relative_gradient_error is not None
    assert found.max_relative_gradient_error < 1e-9
    assert found.check.gradient_error_float32 is not None
    assert found.check.gradient_error_float32 > 2e-5


def test_an_unknown_name_is_one_line_and_the_rest_goes_on(gleanet: Gleanet, tmp_path: Path) -> None:
    answer = gleanet(
        "frameworks", "run", "caffe", "theano-0.9", *QUICK, "--rounds", "0", "--out", tmp_path / "run", "--json", GLEANET_CACHE=tmp_path
    )
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if line.startswith("gleanet: ")]
    assert lines == [line for line in lines if "caffe" in line][:1]
    (row,) = json.loads(answer.stdout)["frameworks"]
    assert (row["name"], row["status"], row["max_relative_gradient_error"]) == ("theano-0.9", "not installed", None)
    assert row["reason"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nosuch"), "no framework 'nosuch': known are"),
        (("run", "pytorch", "--steps", "0"), "steps is 0: give at least 1"),
        (("run", "pytorch", "--threads", "9999"), "threads is 9999: this process may use"),
        (("run", "pytorch", "--device", "tpu"), "device is 'tpu': cpu or cuda"),
        (("run", "pytorch", "--limit", "0"), "limit is 0"),
        (("run", "pytorch", "--data", "nosuch"), "no data set 'nosuch'"),
        (("run", "--resume", "nosuch"), "no run 'nosuch'"),
        (("setup",), "name the frameworks to set up"),
        (("setup", "nosuch"), "no framework 'nosuch': known are"),
    ],
)
def test_bad_input_is_one_line(gleanet: Gleanet, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = gleanet("frameworks", *arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.count("\n") == 1
    assert words in answer.stderr
    assert not list(tmp_path.iterdir())


def test_list_says_what_is_here_and_why_not(gleanet: Gleanet, tmp_path: Path) -> None:
    answer = gleanet("frameworks", "list", "--json", GLEANET_CACHE=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = {row["name"]: row for row in json.loads(answer.stdout)["frameworks"]}
    assert len(found) >= 17
    assert found["pytorch"]["status"] == "here"
    assert found["theano"]["status"] in ("absent", "impossible")
    assert found["theano"]["reason"]
    text = gleanet("frameworks", "list", GLEANET_CACHE=tmp_path).stdout
    assert all(name in text for name in found)


def test_another_commands_run_is_refused(tmp_path: Path) -> None:
    other = Run("x", "train", "m", "done", "2026-01-01T00:00:00+00:00", 1.0, {}, {}, {})
    (tmp_path / "x").mkdir()
    (tmp_path / "x/run.json").write_bytes(dumps(other))
    with pytest.raises(StoreError, match="x is a run of `gleanet train`"):
        compare(resume=str(tmp_path / "x"))


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="rounds is -1"):
        CompareSettings(rounds=-1)
    assert issubclass(SettingsError, BadInput)
