"""``--help``: every command has an example, and every command line that help and documents show is one that the product accepts."""

import re
import shlex
from pathlib import Path

import pytest
from typer import TyperException

from gleanet.core.errors import GleanetError
from tests.cli.conftest import Gleanet
from tests.cli.parsing import commands, parsed

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"\[bold\](.+?)\[/\]", re.DOTALL)
EXAMPLES = [(name, example) for name, text in commands() for example in EXAMPLE.findall(text)]


def indented(text: str) -> str:
    """Markdown with its shell blocks written as indented ones."""
    return re.sub(
        r"^```sh\n(.*?)^```$", lambda block: re.sub("^", "    ", block[1], flags=re.MULTILINE), text, flags=re.DOTALL | re.MULTILINE
    )


# lines of Markdown that are a command: indented, in a shell block, or the whole of a code span
SHOWN = [
    (path.name, line)
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    for line in re.findall(
        r"^(?: {4}|\$ )(gleanet [a-z].+)$|`(gleanet [a-z]+ [^`|]+)`", indented(path.read_text(encoding="utf-8")), re.MULTILINE
    )
    for line in line
    if line
]


@pytest.mark.parametrize(("name", "text"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_has_an_example_of_itself(name: str, text: str) -> None:
    examples = EXAMPLE.findall(text)
    assert any(f"{example} ".startswith(f"{name} ") for example in examples), f"{name} --help has no example"


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_is_a_command_line_of_its_command(name: str, example: str) -> None:
    assert parsed(shlex.split(example)) == name


@pytest.mark.parametrize(("where", "line"), SHOWN, ids=[f"{where}: {line}" for where, line in SHOWN])
def test_a_command_line_in_the_documents_is_one(where: str, line: str) -> None:
    assert parsed(shlex.split(line, comments=True)), where


@pytest.mark.parametrize(
    "line", ["gleanet shrink --flop 0.5", "gleanet plans show", "gleanet papers search x --limit 0", "gleanet papers search"]
)
def test_the_parsing_refuses_what_the_product_refuses(gleanet: Gleanet, line: str) -> None:
    with pytest.raises((TyperException, GleanetError)):
        parsed(shlex.split(line))
    assert gleanet(*shlex.split(line)[1:]).returncode == 2


def test_help_shows_the_example_without_markup(gleanet: Gleanet) -> None:
    shown = gleanet("papers", "search", "--help").stdout
    assert "gleanet papers search CIFAR10" in shown
    assert "[bold]" not in shown
