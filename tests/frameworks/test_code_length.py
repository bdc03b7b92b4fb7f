"""Code is counted by what it says, not by how it is laid out."""

import pytest

from gleanet.core.errors import FrameworkError
from gleanet.frameworks.catalogue import rows
from gleanet.frameworks.code_length import CodeLength, code_length, marked

SOURCE = '''
import torch


# model and step
def step(model, x):
    """A docstring is not code."""

    loss = model(  # nor is a comment
        x,
    )
    return loss
# end


def other():
    if compiled:
        # model and step, compiled
        call = torch.compile(model)
        # end
    return 1
'''


def test_lines_and_tokens_of_the_marked_part() -> None:
    # def step ( model , x ) : | loss = model ( x , ) | return loss
    assert code_length(SOURCE, "eager") == CodeLength(lines=3, tokens=8 + 7 + 2)


def test_a_part_of_one_mode_counts_for_that_mode_alone() -> None:
    # call = torch . compile ( model )
    assert code_length(SOURCE, "compiled") == CodeLength(lines=4, tokens=17 + 8)


def test_layout_does_not_matter() -> None:
    one = "# model and step\ny = f(a, b)\n# end\n"
    other = "# model and step\n\n# a comment\ny = f(\n    a,\n    b\n)\n\n\n# end\n"
    assert code_length(one, "") == code_length(other, "") == CodeLength(1, 8)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", "no part marked"),
        ("# model and step\nx = 1\n", "has no '# end'"),
        ("x = 1\n# end\n", "without"),
        ("# model and step\n# model and step\n# end\n", "inside another"),
        ("# model and step, other\nx = 1\n# end\n", "no part marked"),
    ],
)
def test_marks_that_do_not_match_are_errors(source: str, words: str) -> None:
    with pytest.raises(FrameworkError, match=words):
        code_length(source, "mode")


@pytest.mark.parametrize("row", rows(()), ids=lambda row: f"{row[0].name}-{row[1]}")
def test_every_adapter_marks_its_model_and_its_step(row: tuple) -> None:  # type: ignore[type-arg]
    framework, mode = row
    source = framework.script.read_text(encoding="utf-8")
    length = code_length(source, mode)
    assert length.lines >= 5
    assert length.tokens >= 40
    text = "\n".join(marked(source, mode))
    assert "harness" not in text
    assert "import" not in text
