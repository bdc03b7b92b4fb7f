"""What changed between two files: the counts are those of an independent confusion matrix, and what is shown is a fair sample."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from gleanet.core.answers import Answers, answers_of, paired, picked, read_answers
from gleanet.core.errors import StoreError
from gleanet.core.records import dumps, loads
from gleanet.core.stats import paired_change
from gleanet.report.answers import answers_view
from tests.report.example import CLASSES, example_answers

FILES = ("base.onnx", "model.int8.onnx")


def drawn(n: int, seed: int, wrong: float = 0.2) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    before, after = (np.where(rng.random(n) < wrong, rng.integers(0, 10, n), labels) for _ in range(2))
    return before, after, labels


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_a_confusion_matrix(seed: int) -> None:
    before, after, labels = drawn(501, seed)
    found = answers_of(FILES, before, after, labels, CLASSES)
    difference = confusion_matrix(labels, after, labels=range(10)) - confusion_matrix(labels, before, labels=range(10))
    view = answers_view(found)
    assert view is not None
    shown = [[int(cell.text.replace("\N{MINUS SIGN}", "-")) for cell in row] for row in view.matrix]
    assert shown == difference.tolist()
    assert sum(one.n for one in found.per_class) == 501
    assert found.lost == int(((before == labels) & (after != labels)).sum())
    assert found.gained == int(((before != labels) & (after == labels)).sum())
    assert found.lost + found.gained + found.moved == int((before != after).sum())
    assert found.hits().tolist() == (after == labels).tolist()
    assert found.hits(after=False).tolist() == (before == labels).tolist()


def test_better_is_more_on_the_diagonal_and_less_beside_it() -> None:
    view = answers_view(example_answers())
    assert view is not None
    for row, cells in enumerate(view.matrix):
        for column, cell in enumerate(cells):
            number = int(cell.text.replace("\N{MINUS SIGN}", "-"))
            wanted = "same" if not number else "better" if (number > 0) == (row == column) else "worse"
            assert cell.tone == wanted


@given(st.integers(1, 400), st.integers(0, 5), st.sampled_from([0.0, 0.02, 0.3, 0.9]))
def test_what_is_shown_changed_and_is_as_much_as_there_is_room_for(n: int, seed: int, wrong: float) -> None:
    before, after, labels = drawn(n, seed, wrong)
    rows = picked(before, after, labels)
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert (before[rows] != after[rows]).all()
    assert len(rows) == min(24, int((before != after).sum()))
    lost = (before == labels) & (after != labels)
    assert int(lost[rows].sum()) >= min(12, int(lost.sum()))


def test_answers_survive_the_file(tmp_path: Path) -> None:
    found = example_answers()
    assert loads(dumps(found), Answers, "x") == found
    (tmp_path / "answers.json").write_bytes(dumps(found))
    assert read_answers(tmp_path) == found
    assert read_answers(tmp_path / "no") is None


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_bytes(dumps(replace(example_answers(), right_after=b"12")))
    with pytest.raises(StoreError, match="is damaged"):
        read_answers(tmp_path)


def test_two_runs_are_paired_only_on_the_same_images() -> None:
    before, after, labels = drawn(300, 0)
    third = drawn(300, 0, 0.5)[0]
    one, other = (answers_of(FILES, before, answer, labels, CLASSES) for answer in (after, third))
    assert paired(one, other) == paired_change(third == labels, after == labels)
    assert paired(one, answers_of(FILES, before, after, np.roll(labels, 1), CLASSES)) is None


def test_many_classes_have_no_matrix_but_the_mistakes_that_changed_most() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 5000)
    before, after = (np.where(rng.random(5000) < 0.6, rng.integers(0, 101, 5000), labels) for _ in range(2))
    found = answers_of(FILES, before, after, labels, [str(index) for index in range(100)])
    view = answers_view(found)
    assert view is not None
    assert view.matrix == ()
    assert len(found.mistakes) == 400
    assert found.more_mistakes > 0
    assert len(view.mistakes.first) == 12
    changes = [abs(int(row[4].replace("\N{MINUS SIGN}", "-"))) for row in view.mistakes.cells]
    assert changes == sorted(changes, reverse=True)
    assert any(row[0] == "class 100" for row in view.mistakes.cells)  # an answer beyond the names
