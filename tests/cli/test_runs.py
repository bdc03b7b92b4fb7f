"""``gleanet runs``: past runs listed and searched through the real command."""

import json
from pathlib import Path

from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.core.test_store import put
from tests.tiny_onnx import convnet, save


def test_runs_are_found_by_words(gleanet: Gleanet, tmp_path: Path) -> None:
    put(tmp_path, "one", notes=("the zebra note",), status="done", command="shrink")
    put(tmp_path, "two", notes=("another\x1b[2J",), status="below bar", command="train")
    (tmp_path / "two" / "run.json").chmod(0o400)
    done = gleanet("runs", "search", "zebra", "--root", tmp_path, "--json")
    assert [entry["id"] for entry in json.loads(done.stdout)] == ["one"]
    shown = gleanet("runs", "search", "zeb", "note", "--root", tmp_path)
    assert shown.returncode == 0
    assert "one" in shown.stdout
    assert "zebra" in shown.stdout
    assert "\x1b" not in gleanet("runs", "search", "another", "--root", tmp_path).stdout
    none = gleanet("runs", "search", "zebra", "giraffe", "--root", tmp_path)
    assert (none.returncode, none.stdout) == (0, f"no run in {tmp_path} holds all of: zebra giraffe\n")
    listed = json.loads(gleanet("runs", "list", "--root", tmp_path, "--json").stdout)
    assert {(entry["id"], entry["command"], entry["status"]) for entry in listed} == {
        ("one", "shrink", "done"),
        ("two", "train", "below bar"),
    }
    short = gleanet("runs", "list", "--root", tmp_path, "--limit", 1).stdout
    assert ("one" in short) != ("two" in short)
    assert "1 more, older: --limit 2 shows all" in short
    assert_one_line(gleanet("runs", "search", "%", "--root", tmp_path), "give words")


def test_a_report_is_written_anew_and_several_side_by_side(gleanet: Gleanet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path, name)
    done = gleanet("runs", "report", "one", "--root", tmp_path, "--json")
    assert json.loads(done.stdout) == {"report": str(tmp_path / "one" / "report.html")}
    assert "Half the work" in (tmp_path / "one" / "report.html").read_text("utf-8")
    done = gleanet("runs", "report", tmp_path / "one", "two", "--root", tmp_path, cwd=tmp_path)
    assert done.stdout == "report: side-by-side.html\n"
    page = (tmp_path / "side-by-side.html").read_text("utf-8")
    assert "B against A" in page
    assert 'href="one/report.html"' in page


def test_an_old_record_gets_its_code_from_the_file(gleanet: Gleanet, tmp_path: Path) -> None:
    put(tmp_path, "old", interface=None)
    assert gleanet("runs", "report", "old", "--root", tmp_path).returncode == 0
    assert 'id="use"' not in (tmp_path / "old" / "report.html").read_text("utf-8")
    save(convnet(size=16), tmp_path / "old" / "model.int8.onnx")
    assert gleanet("runs", "report", "old", "--root", tmp_path).returncode == 0
    page = (tmp_path / "old" / "report.html").read_text("utf-8")
    assert "session.run([&#34;y&#34;], {&#34;x&#34;: x})" in page
    assert "the file does not say how it was normalised" in page
    (tmp_path / "old" / "model.int8.onnx").write_bytes(b"damaged")
    assert gleanet("runs", "report", "old", "--root", tmp_path).returncode == 0


def test_what_cannot_be_reported_is_one_line(gleanet: Gleanet, tmp_path: Path) -> None:
    put(tmp_path, "one")
    put(tmp_path, "bare", rows=(), command="train")
    assert_one_line(gleanet("runs", "report", "none", "--root", tmp_path), "no run")
    assert_one_line(gleanet("runs", "report", "one", "one", "--root", tmp_path), "given twice")
    assert_one_line(gleanet("runs", "report", "one", "bare", "--root", tmp_path), "no table of networks")
    (tmp_path / "one" / "answers.json").write_text("[]")
    assert gleanet("runs", "report", "one", "--root", tmp_path).returncode == 1
    assert not (tmp_path / "one" / "report.html").exists()
