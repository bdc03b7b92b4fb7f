"""What the terminal shows: bars on standard error, results on standard output."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table as RichTable
from rich.text import Text

from gleanet.core.progress import Advance
from gleanet.report import Table

LINE_EVERY_S = 15.0  # where standard error is no terminal: a line now and then instead of a bar


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f} {task.fields['unit']}/s" if speed >= 10 else f"{speed:.1f} {task.fields['unit']}/s")


class TerminalProgress:
    """Progress as bars in a terminal, as occasional lines elsewhere. Use as a context manager around the work."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None

    def __enter__(self) -> "TerminalProgress":
        if self.console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                transient=False,
            )
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
        task = self._bars.add_task(what, total=total, unit=unit)
        bars = self._bars
        try:
            yield lambda units: bars.advance(task, units)
            current = next(t for t in bars.tasks if t.id == task)
            bars.update(task, total=current.total or current.completed, completed=current.total or current.completed)
        finally:
            bars.stop_task(task)

    def say(self, line: str) -> None:
        self.console.print(printable(line), soft_wrap=True, markup=False)  # a name in brackets is no style

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
        self.say(f"{what}: {done:,} {unit} in {time.monotonic() - start:.1f} s")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_text(text: str) -> None:
    """Plain text on standard output."""
    sys.stdout.write("\n".join(map(printable, text.split("\n"))) + "\n")


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: names and notes come from files, which may hold control codes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_table(table: Table) -> None:
    """A table at full width; in a terminal that is too narrow for it, one block a row instead."""
    table = replace(table, cells=tuple(tuple(map(printable, cells)) for cells in table.cells))
    widths = [max(len(line[column]) for line in (table.header, *table.cells)) for column in range(len(table.header))]
    console = Console(highlight=False, markup=False)
    needed = sum(widths) + 3 * len(widths) + 1
    if console.is_terminal and needed > console.width:
        for cells in table.cells:
            console.print(Text(cells[0], style="bold"))
            for name, cell in zip(table.header[1:], cells[1:], strict=True):
                console.print(f"  {name:<{max(map(len, table.header)) + 2}}{cell}", soft_wrap=True)
    else:
        drawn = RichTable(box=box.SIMPLE)
        for index, name in enumerate(table.header):
            drawn.add_column(Text(name), justify="left" if index == 0 else "right", no_wrap=True)
        for index, cells in enumerate(table.cells):
            drawn.add_row(*(Text(cell) for cell in cells), style="bold" if index == table.strong else "")
        Console(highlight=False, width=max(console.width, needed)).print(drawn)
    if table.caption:
        print_text(table.caption)


def print_error(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"gleanet: {printable(' '.join(message.split()))}\n")
