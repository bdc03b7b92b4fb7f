"""Runs beside each other: differences with the intervals they deserve, and warnings where figures must not be compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core.errors import BadInput
from gleanet.core.records import Run, dumps
from gleanet.core.stats import wilson
from gleanet.core.store import RunFolder
from gleanet.report.again import render_again, render_side_by_side, side_document
from gleanet.report.side import Entry, difference, side_page
from tests.report.example import example_answers, example_run
from tests.report.test_html import Reader
from tests.report.test_view import with_last

RUN = example_run()


def entry(name: str, run: Run = RUN, seed: int | None = None) -> Entry:
    return Entry(replace(run, id=name), None if seed is None else example_answers(seed=seed))


def test_an_unpaired_interval_is_newcombes() -> None:
    """56 of 70 against 48 of 80, method 10 in table II of the paper: 0.0524 to 0.3339."""
    one, other = (entry(name, with_last(RUN, accuracy=wilson(*hits))) for name, hits in (("a", (48, 80)), ("b", (56, 70))))
    found = difference(one, other)
    assert found is not None
    change, exact = found
    assert not exact
    assert (change.low, change.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_runs_that_kept_their_answers_are_paired() -> None:
    found = difference(entry("a", seed=0), entry("b", seed=0))
    assert found is not None
    assert found[1] is True
    assert found[0].delta == 0
    unlike = difference(entry("a", seed=0), entry("b", seed=1))
    assert unlike is not None
    assert unlike[1] is False


def test_two_runs_are_told_apart_in_one_sentence() -> None:
    faster = with_last(RUN, bytes=100_000, latencies=tuple(replace(t, p50_ms=t.p50_ms / 2) for t in RUN.rows[-1].measured.latencies))
    found = side_page([entry("a"), entry("b", faster)])
    assert found.answer.startswith("B against A: 2.0 times as fast, 2.2 times smaller, accuracy 0.0 points (")
    assert found.answer.endswith("unpaired, so they cannot be told apart.")
    assert [row[0] for row in found.results.cells] == ["A a", "B b"]
    assert found.results.cells[0][found.results.header.index("Against A (95 % interval)")] == "–"


def test_of_more_runs_the_best_are_named_and_doubts_too() -> None:
    clear = with_last(RUN, accuracy=wilson(9900, 10_000))
    assert "B the most accurate: 99.0 % (" in side_page([entry("a"), entry("b", clear), entry("c")]).answer
    near = with_last(RUN, accuracy=wilson(RUN.rows[-1].measured.accuracy.correct + 5, 10_000))  # type: ignore[union-attr]
    assert "C the most accurate, though not surely: " in side_page([entry("a"), entry("b"), entry("c", near)]).answer


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(RUN, machine={"cpu": "another"}), "times cannot be compared"),
        (replace(RUN, data={"title": "CIFAR-10"}), "CIFAR-10, CIFAR-10 (JPEG q75)): their accuracies cannot be compared"),
        (replace(RUN, status="interrupted"), "Not finished: B."),
    ],
)
def test_what_must_not_be_compared_is_said(other: Run, said: str) -> None:
    assert said in " ".join(side_page([entry("a"), entry("b", other)]).warnings)
    assert said not in " ".join(side_page([entry("a"), entry("b")]).warnings)


def test_what_must_not_be_compared_is_not_in_the_answer() -> None:
    elsewhere = replace(RUN, machine={"cpu": "another"})
    assert "as fast" not in side_page([entry("a"), entry("b", elsewhere)]).answer
    assert "fastest" not in side_page([entry("a"), entry("b"), entry("c", elsewhere)]).answer
    others = replace(RUN, data={"title": "CIFAR-10"})
    assert "accuracy" not in side_page([entry("a"), entry("b", others)]).answer
    assert "accurate" not in side_page([entry("a"), entry("b"), entry("c", others)]).answer


def test_only_what_differs_is_listed() -> None:
    other = replace(RUN, settings={**RUN.settings, "seed": 1, "recovery": {**RUN.settings["recovery"], "lr": 0.1}})
    found = side_page([entry("a"), entry("b", other)])
    assert found.settings.cells == (("seed", "0", "1"), ("recovery.lr", "0.021", "0.1"))
    assert found.machines.cells == ()


def test_markup_in_names_is_text() -> None:
    evil = "<script>alert(1)</script>"
    page = side_document([entry(evil), entry("b", replace(RUN, settings={evil: evil}, data={"title": evil}, machine={"cpu": evil}))])
    assert page.count("<script") == 1
    assert evil in Reader(page).words


def put(folder: Path, run: Run) -> RunFolder:
    folder.mkdir()
    (folder / "run.json").write_bytes(dumps(replace(run, id=folder.name)))
    return RunFolder(folder)


def test_the_page_links_to_the_reports_that_are_there(tmp_path: Path) -> None:
    one, other = put(tmp_path / "one", RUN), put(tmp_path / "other", RUN)
    render_again(one)
    (tmp_path / "deep").mkdir()
    page = render_side_by_side([one, other], tmp_path / "deep" / "both.html").read_text("utf-8")
    links = [attributes["href"] for tag, attributes in Reader(page).tags if tag == "a"]
    assert [link for link in links if not str(link).startswith("#")] == ["../one/report.html"]
    for grid in Reader(page).grids:
        assert grid.caption.strip()
        assert len({len(row) for row in grid.cells}) == 1


def test_what_cannot_be_put_side_by_side_is_one_line(tmp_path: Path) -> None:
    one, bare = put(tmp_path / "one", RUN), put(tmp_path / "bare", replace(RUN, rows=()))
    for folders, said in (([one], "give 2 to 26 runs"), ([one, one], "given twice"), ([one, bare], "no table of networks")):
        with pytest.raises(BadInput, match=said):
            render_side_by_side(folders, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
