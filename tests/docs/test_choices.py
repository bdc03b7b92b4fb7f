"""The tables of docs/choose are those of the code's catalogues."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def in_docs_tools(script: str) -> str:
    """Run a script beside the generators, which are no package; returns what it printed."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'docs/tools')\n{script}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_table_was_edited_by_hand_or_left_behind() -> None:
    stale = in_docs_tools("import choices; print([p.name for p, t in choices.pages().items() if p.read_text(encoding='utf-8') != t])")
    assert stale.strip() == "[]", "run: PYTHONPATH=. python docs/tools/choices.py"


def test_there_is_advice_on_every_name_and_on_no_other() -> None:
    found = in_docs_tools("import choices, json; print(json.dumps([{k: sorted(v) for k, v in choices.names().items()}, choices.ADVICE]))")
    names, advice = json.loads(found)
    assert {kind: sorted(rows) for kind, rows in advice.items()} == names
    assert all(len(row) == 2 and all(row) for rows in advice.values() for row in rows.values()), "when to use it, and when not"


def test_the_commands_page_has_every_command_with_its_options() -> None:
    page = in_docs_tools("import command_page; print(command_page.text())")
    assert "## gleanet shrink\n" in page
    assert "| `--max-drop` |" in page
    assert "[bold]" not in page
