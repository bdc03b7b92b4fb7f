"""``gleanet runs``: past runs listed and searched through the real command."""

import json
from pathlib import Path

from tests.cli.conftest import Gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.core.test_store import put


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
