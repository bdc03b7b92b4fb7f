"""The page of all commands: what each does, its example and its options, as the command line's own parser knows them."""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from gleanet.cli.app import app

HEAD = """# Commands

Every command draws its progress on standard error and prints its results on standard output; `--json` prints one JSON document instead.
Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 done but below the bar of `--max-drop`, 130 interrupted (and resumable;
143 by SIGTERM, 129 by SIGHUP).
Any option can stand in a TOML file for `--config`, by its name; the command line wins. `gleanet --install-completion` teaches your shell
the names of commands and options."""
MARKUP = re.compile(r"\[bold\](.+?)\[/\]", re.DOTALL)


def text() -> str:
    """The whole page in Markdown."""
    return HEAD + "\n\n" + "\n\n".join(_section(name, command) for name, command in commands(get_command(app), "gleanet")) + "\n"


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name; a group that does something by itself comes before its commands."""
    inner = getattr(command, "commands", None)
    if inner is None or (command.invoke_without_command and name != "gleanet"):
        yield name, command
    for word, below in (inner or {}).items():
        yield from commands(below, f"{name} {word}")


def _section(name: str, command: Any) -> str:
    what = "\n\n".join(map(_paragraph, re.split(r"\n\s*\n", command.help or "")))
    parameters = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    rows = [_row(p) for p in parameters]
    table = "\n".join(["| option | default | what |", "| --- | --- | --- |", *rows]) if rows else ""
    return f"## {name}\n\n{what}\n\n{table}".rstrip()


def _paragraph(words: str) -> str:
    """Help text as Markdown; an example becomes a block to copy."""
    line = " ".join(words.split())
    example = MARKUP.search(line)
    if example is None:
        return line
    label = line[: example.start()].strip()
    return f"{label}\n\n```sh\n{example[1]}\n```"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) or parameter.required else f"`{default}`"
    return f"| {names} | {shown} | {_cell(parameter)} |"


def _cell(parameter: Any) -> str:
    words = " ".join((getattr(parameter, "help", None) or "").split())
    kind = parameter.type_descriptor.annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if not all(str(choice) in words for choice in choices):
        words = f"{words} One of {', '.join(map(str, choices))}."
    return re.sub(r"(\$\w+)", r"`\1`", words).replace("|", r"\|").replace("<", "&lt;").strip()
