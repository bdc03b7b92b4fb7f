"""A command line as the product parses it, without running the command."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.main import get_command

from gleanet.cli.app import app

ROOT: Any = get_command(app)


def parsed(words: Sequence[str]) -> str:
    """The full name of the command that these words call. Raises what the product would report where they do not fit."""
    program, *rest = words
    if program == "torchrun":
        rest = rest[rest.index("gleanet") + 1 :]
        program = words[-1 - len(rest)]
    assert program == "gleanet", words
    command, name = ROOT, program
    while hasattr(command, "commands"):
        if rest and rest[0].startswith("-") and command.invoke_without_command:
            break
        word = rest.pop(0)
        assert word in command.commands, f"{name} has no command {word}"
        command, name = command.commands[word], f"{name} {word}"
    with command.make_context(name, rest):
        return name


def commands(command: Any = ROOT, name: str = "gleanet") -> Iterator[tuple[str, str]]:
    """Every command's full name with its help text."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from commands(inner, f"{name} {word}")
    else:
        yield name, str(command.help)
