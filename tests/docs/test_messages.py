"""Every slug that an error carries has its section in docs/messages.md, and every section its error."""

import ast
from pathlib import Path

import pytest

from gleanet.cli.app import main
from gleanet.cli.explain import sections
from gleanet.core.errors import GleanetError

ROOT = Path(__file__).parents[2]


def kinds(kind: type[GleanetError] = GleanetError) -> list[type[GleanetError]]:
    return [kind, *(below for direct in kind.__subclasses__() for below in kinds(direct))]


def given_to_errors() -> set[str]:
    """Slugs of single messages: every ``slug="..."`` of a call in the program."""
    calls = (node for path in (ROOT / "gleanet").rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    words = (keyword for call in calls if isinstance(call, ast.Call) for keyword in call.keywords if keyword.arg == "slug")
    return {str(keyword.value.value) for keyword in words if isinstance(keyword.value, ast.Constant)}


def test_each_slug_has_a_section_and_each_section_a_slug() -> None:
    assert given_to_errors() | {kind.slug for kind in kinds()} - {""} == set(sections())


def test_each_section_says_something() -> None:
    assert all(len(text) > 80 and "#" not in text.split("\n")[0] for text in sections().values())


def test_the_line_of_an_error_names_the_section_of_the_very_message(capfd: pytest.CaptureFixture[str]) -> None:
    def line(*words: str) -> str:
        assert main(words) == 2
        return capfd.readouterr().err

    assert line("train", "resnet9", "--data", "digits").endswith("(see gleanet explain model-unknown)\n")
    assert line("runs", "show", "nowhere").endswith("(see gleanet explain run-unknown)\n")
    assert "explain" not in line("train", "resnet8", "--data", "digits", "--epochs", "-1"), "the message says all there is to say"


def test_explain_prints_the_section_and_knows_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "run-busy"]) == 0
    assert capfd.readouterr().out == f"{sections()['run-busy']}\n"
    assert main(["explain", "run-bussy"]) == 2
    assert "run-busy" in capfd.readouterr().err
