"""What files say is shown, never obeyed."""

import subprocess
import sys

import pytest

from gleanet.cli import tables
from gleanet.cli.terminal import TerminalProgress, print_error, print_table, print_text
from gleanet.report import Table
from tests.cli.screen import ROOT, shown

NASTY = "a\x1b[2J\x1b]0;title\x07b\x7f\x9b31mc\u202edroW"


def test_control_codes_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(f"first\n{NASTY}")
    print_table(Table(("Name", "Note"), ((NASTY, f"x {NASTY}"),), caption=NASTY))
    print_error(f"two\nlines {NASTY}")
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.out.startswith("first\na")
    for text in (shown.out, shown.err):
        assert all(c == "\n" or c.isprintable() for c in text), ascii(text)
        assert "title" in text


BARS = """
import time
from gleanet.cli.terminal import TerminalProgress
with TerminalProgress() as progress:
    for number in range(30):
        with progress.task(f"A task whose name is rather long, number {number}", 40, "images") as advance:
            for _ in range(4):
                advance(10)
                time.sleep(0.01)
    with progress.task("No end in sight", None, "steps") as advance:
        advance(3)
        time.sleep(0.2)
    progress.say("a remark")
"""


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_bars_never_wrap_and_leave_one_line_a_task(columns: int) -> None:
    """More tasks than the screen has lines, names longer than it has room for."""
    screen = shown(["-c", BARS], columns, lines=20)
    text = screen.text()
    assert len(text) == 30 + 2 + (30 if columns == 50 else 0), "what is done is said once; only a finished line may wrap"
    assert text[0].startswith("A task whose name is rather long, number 0")
    assert text[-1] == "a remark"
    assert screen.wrapped == (30 if columns == 50 else 0)


TABLES = """
from gleanet.cli.jobs import ROW_LAST
from gleanet.cli.stages import TRIAL_LAST
from gleanet.cli.terminal import print_table
from gleanet.report import baseline, table, trial_table
from tests.report.example import example_run
run = example_run()
print_table(table(run.rows, baseline(run.rows)), last=ROW_LAST)
print_table(trial_table(run.trials), last=TRIAL_LAST)
"""


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_tables_fit_and_say_what_they_left_out(columns: int) -> None:
    screen = shown(["-c", TABLES], columns, lines=100)
    text = "\n".join(screen.text())
    tables = text.split("MACs are of one image")[0]
    assert "Network" in tables
    assert "(95 % interval)" in text
    assert ("left out for the width" in text) == (columns < 200)
    for line in (line for line in screen.text() if "─" in line):
        assert len(line) < columns


def test_a_pipe_gets_whole_tables_without_escape_codes() -> None:
    done = subprocess.run([sys.executable, "-c", TABLES], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "\x1b" not in done.stdout
    assert "Peak memory" in done.stdout or "Parameters" in done.stdout
    assert "left out" not in done.stdout


def test_no_colour_where_none_is_wanted() -> None:
    coloured = shown(["-c", BARS.replace("range(30)", "range(1)")], 120)
    plain = shown(["-c", BARS.replace("range(30)", "range(1)")], 120, NO_COLOR="1")
    assert coloured.text()[-1] == plain.text()[-1]
    assert all(cell.fg == "default" for line in plain.buffer.values() for cell in line.values())


def test_folding_keeps_every_word() -> None:
    table = Table(("Network", "Accuracy (95 % interval)"), (("quantized (u8s8)", "88.0 % (87.4 to 88.6)"), ("as given", "–")))
    folded = tables.folded(table)
    assert [cell.split() for row in folded.cells for cell in row] == [cell.split() for row in table.cells for cell in row]
    assert tables.width(folded) < tables.width(table)
    assert tables.without(table, 1).cells == (("quantized (u8s8)",), ("as given",))


def test_brackets_in_a_line_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        progress.say(f"no data set in [/data] [bold]x[/] {NASTY}")
    told = capsys.readouterr().err
    assert told.startswith("no data set in [/data] [bold]x[/] a")
    assert all(c == "\n" or c.isprintable() for c in told), ascii(told)
