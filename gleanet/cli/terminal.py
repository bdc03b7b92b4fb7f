"""What the terminal shows: bars on standard error, results on standard output."""

import codecs
import io
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from gleanet.cli.tables import draw
from gleanet.core.progress import Advance
from gleanet.report import Table

LINE_EVERY_S = 15.0  # where standard error is no terminal: a line now and then instead of a bar


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f} {task.fields['unit']}/s" if speed >= 10 else f"{speed:.1f} {task.fields['unit']}/s")


class TerminalProgress:
    """Progress as bars in a terminal, as occasional lines elsewhere. Use as a context manager around the work.

    Only work under way has a bar; what is done becomes a line above, so that the part that is redrawn never grows beyond the screen.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None

    def __enter__(self) -> "TerminalProgress":
        if self.console.is_terminal:
            self._bars = Bars(*_columns(self.console.width), console=self.console, transient=True, expand=False)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        if self._bars is None:
            with self._lines(what, total, unit) as advance:
                yield advance
            return
        bars, start, done = self._bars, time.monotonic(), 0
        task = bars.add_task(what, total=total, unit=unit)

        def forward(units: int) -> None:
            nonlocal done
            done += units
            bars.advance(task, units)

        try:
            yield forward
            self.say(_finished(what, done, unit, time.monotonic() - start))
        finally:
            bars.remove_task(task)

    def say(self, line: str) -> None:
        self.console.print(Text(printable(line)), soft_wrap=True)

    @contextmanager
    def _lines(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        done, start = 0, time.monotonic()
        shown = start

        def advance(units: int) -> None:
            nonlocal done, shown
            done += units
            now = time.monotonic()
            if now - shown >= LINE_EVERY_S:
                shown = now
                rate = done / (now - start)
                left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
                self.say(f"{what}: {done:,}{f' of {total:,}' if total else ''} {unit}, {rate:,.0f}/s{left}")

        yield advance
        self.say(_finished(what, done, unit, time.monotonic() - start))


def _columns(width: int) -> list[ProgressColumn]:
    """What stands beside a bar: a line that fits, since one that wraps cannot be redrawn in place."""
    name = Column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 3))
    whole: list[ProgressColumn] = [TextColumn("{task.description}", markup=False, table_column=name)]
    if width >= 60:
        whole.append(BarColumn(bar_width=24 if width >= 100 else 12))
    whole += [TaskProgressColumn(), _Rate(table_column=Column(no_wrap=True))]
    if width >= 100:
        whole += [MofNCompleteColumn(), TimeElapsedColumn()]
    return [*whole, TimeRemainingColumn(compact=True), TextColumn("left", table_column=Column(no_wrap=True))]


def _finished(what: str, done: int, unit: str, seconds: float) -> str:
    return f"{what}: {done:,} {unit} in {seconds:.1f} s"


_STAND_INS = {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{MULTIPLICATION SIGN}": "x", "\N{HORIZONTAL ELLIPSIS}": "..."}


def stand_ins() -> None:
    """Let standard output and error write stand-ins for what their encoding lacks: no result is lost over a minus sign."""
    codecs.register_error("gleanet", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="gleanet")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(character, "?") for character in missing), error.end


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_text(text: str) -> None:
    """Plain text on standard output; in a terminal, long lines break between words."""
    for line in text.split("\n"):
        _print_line(printable(line), "")


def print_facts(facts: Iterable[tuple[str, object]], width: int = 24) -> None:
    """Names and values, a line each, the values below each other."""
    for name, value in facts:
        _print_line(f"{name:<{width}}{printable(str(value))}", " " * width)


def _print_line(line: str, indent: str) -> None:
    columns = Console().width if sys.stdout.isatty() else 0
    if columns and len(line) > columns:
        line = "\n".join(textwrap.wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)) or line
    sys.stdout.write(line + "\n")


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: names and notes come from files, which may hold control codes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_table(table: Table, *, last: Sequence[str] = ()) -> None:
    """A table as wide as the terminal lets it be; where it is narrow, columns named in ``last`` go, and a line says so."""
    table = replace(table, cells=tuple(tuple(map(printable, cells)) for cells in table.cells))
    left = draw(table, Console(highlight=False, markup=False), last=last)
    if left:
        print_text(f"left out for the width: {'; '.join(left)} (a wider terminal, a pipe or --json has them)")
    if table.caption:
        print_text(table.caption)


def print_note(line: str) -> None:
    """A remark on standard error."""
    sys.stderr.write(f"{printable(line)}\n")


def print_error(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"gleanet: {printable(' '.join(message.split()))}\n")
