"""Tables in a terminal: whole where they fit, else folded, else without the columns that matter least, else one block a row."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gleanet.report import Table

GAP = 2  # spaces between columns
PROSE = 48  # characters to which a column of sentences is folded
_NUMBER = re.compile(r"[-+\N{MINUS SIGN}~]?[\d.]|\N{EN DASH}$|baseline$|$")


def draw(table: Table, console: Console, *, last: Sequence[str] = ()) -> list[str]:
    """Print a table; returns the names of the columns that were left out for want of width.

    Args:
        table: finished strings; where the output is no terminal it is printed whole, however wide.
        last: names of columns that may be left out, the first first; by their beginning, so that ``p50, batch 64`` is one.
    """
    if not console.is_terminal:
        _print(table, Console(file=console.file, highlight=False, width=max(width(table), 1)))
        return []
    for shown, left in _narrower(table, last):
        if width(shown) <= console.width:
            _print(shown, console)
            return left
    _blocks(table, console)
    return []


def width(table: Table) -> int:
    """Columns of the screen that it takes."""
    return sum(_widths(table)) + GAP * (len(table.header) - 1)


def folded(table: Table) -> Table:
    """The same in more lines: intervals below their values, long names and sentences and the header wrapped."""
    cells = tuple(tuple(_fold(cell) for cell in row) for row in table.cells)
    widths = [max((_longest(row[index]) for row in cells), default=0) for index in range(len(table.header))]
    header = tuple(
        name.replace(" (", "\n(") if " (" in name else _wrapped(name, max(each, 8)) for name, each in zip(table.header, widths, strict=True)
    )
    return replace(table, header=header, cells=cells)


def without(table: Table, column: int) -> Table:
    """The table without one column."""

    def rest(row: tuple[str, ...]) -> tuple[str, ...]:
        return row[:column] + row[column + 1 :]

    return replace(table, header=rest(table.header), cells=tuple(map(rest, table.cells)))


def _narrower(table: Table, last: Sequence[str]) -> Iterator[tuple[Table, list[str]]]:
    yield table, []
    yield folded(table), []
    left: list[str] = []
    for name in last:
        index = next((i for i, header in enumerate(table.header) if i and header.startswith(name)), None)
        if index is not None:
            left.append(table.header[index])
            table = without(table, index)
            yield folded(table), left


def _widths(table: Table) -> list[int]:
    return [max(_longest(row[column]) for row in (table.header, *table.cells)) for column in range(len(table.header))]


def _longest(cell: str) -> int:
    return max((Text(line).cell_len for line in cell.split("\n")), default=0)


def _fold(cell: str) -> str:
    """An interval or a method in brackets goes below what it belongs to; a sentence is wrapped."""
    main, bracket, rest = cell.partition(" (")
    if bracket and rest.endswith(")") and len(cell) <= PROSE:
        return f"{main}\n({rest}"
    return _wrapped(cell, PROSE // 2 if ", " in cell and len(cell) < PROSE else PROSE)


def _wrapped(text: str, columns: int) -> str:
    return "\n".join(textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)) or text


def _print(table: Table, console: Console) -> None:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for index, name in enumerate(table.header):
        numbers = index > 0 and all(_NUMBER.match(row[index]) for row in table.cells)
        drawn.add_column(Text(name), justify="right" if numbers else "left", no_wrap=True)
    for index, cells in enumerate(table.cells):
        drawn.add_row(*(Text(cell) for cell in cells), style="bold" if index == table.strong else "")
    console.print(drawn)


def _blocks(table: Table, console: Console) -> None:
    """One block a row: name and value on a line each."""
    names = max(map(len, table.header)) + 2
    for cells in table.cells:
        console.print(Text(cells[0], style="bold"), soft_wrap=True)
        for name, cell in zip(table.header[1:], cells[1:], strict=True):
            console.print(Text(f"  {name:<{names}}{cell}"), soft_wrap=True)
