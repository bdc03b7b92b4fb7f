"""What files say is shown, never obeyed."""

import pytest

from gleanet.cli.terminal import TerminalProgress, print_error, print_table, print_text
from gleanet.report import Table

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


def test_brackets_in_a_line_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        progress.say(f"no data set in [/data] [bold]x[/] {NASTY}")
    shown = capsys.readouterr().err
    assert shown.startswith("no data set in [/data] [bold]x[/] a")
    assert all(c == "\n" or c.isprintable() for c in shown), ascii(shown)
