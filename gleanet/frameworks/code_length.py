"""How long the same network and its training step are in each framework: the marked part of the adapter, counted the same way for all.

Counted are logical lines (a statement is one, however many lines it is broken over) and tokens (names, numbers, strings, operators);
comments, docstrings and empty lines are not. Imports, data, and putting in the common weights are outside of the marks.
"""

import io
import tokenize
from dataclasses import dataclass

from gleanet.core.errors import FrameworkError

BEGIN, END = "# model and step", "# end"
_COUNTED = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)


@dataclass(frozen=True)
class CodeLength:
    """``lines``: logical lines; ``tokens``: names, numbers, strings and operators."""

    lines: int
    tokens: int


def code_length(source: str, mode: str) -> CodeLength:
    """Length of the marked parts of an adapter's source: those marked ``# model and step``, and ``# model and step, MODE`` for this mode.

    Raises:
        FrameworkError: no marks, or marks that do not match.
    """
    parts = marked(source, mode)
    if not parts:
        raise FrameworkError(f"the adapter has no part marked {BEGIN!r}")
    counts = [_count(part) for part in parts]
    return CodeLength(sum(each.lines for each in counts), sum(each.tokens for each in counts))


def marked(source: str, mode: str) -> list[str]:
    """The marked parts of ``source`` that belong to ``mode``, each moved to the left margin."""
    parts: list[str] = []
    lines: list[str] | None = None
    wanted = False
    for line in source.splitlines():
        word = line.strip()
        if word == BEGIN or word.startswith(f"{BEGIN}, "):
            if lines is not None:
                raise FrameworkError(f"a part marked {BEGIN!r} begins inside another")
            lines, wanted = [], word in (BEGIN, f"{BEGIN}, {mode}")
        elif word == END:
            if lines is None:
                raise FrameworkError(f"{END!r} without {BEGIN!r}")
            if wanted:
                margin = min((len(each) - len(each.lstrip()) for each in lines if each.strip()), default=0)
                parts.append("".join(f"{each[margin:]}\n" for each in lines))
            lines = None
        elif lines is not None:
            lines.append(line)
    if lines is not None:
        raise FrameworkError(f"a part marked {BEGIN!r} has no {END!r}")
    return parts


def _count(part: str) -> CodeLength:
    """Length of a whole number of statements."""
    lines = tokens = 0
    inside = 0  # tokens of the logical line so far; a line that is one string is a docstring
    only_string = True
    for token in tokenize.generate_tokens(io.StringIO(part).readline):
        if token.type in _COUNTED:
            inside += 1
            only_string = only_string and token.type == tokenize.STRING
        elif token.type == tokenize.NEWLINE:
            if not only_string:
                lines, tokens = lines + 1, tokens + inside
            inside, only_string = 0, True
    return CodeLength(lines, tokens)
