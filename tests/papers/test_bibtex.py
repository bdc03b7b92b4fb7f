"""BibTeX that a strict reader reads back to what the catalogue says."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleanet.papers import Paper, papers
from gleanet.papers.bibtex import bibtex, latex
from tests.papers.strict_bibtex import decoded, entries

PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=60)


@given(PLAIN)
def test_latex_prints_the_text_again(text: str) -> None:
    assert decoded(latex(text)) == unicodedata.normalize("NFC", text.replace("\u00a0", " "))


def test_the_whole_catalogue_is_read_back() -> None:
    found = entries("\n".join(bibtex(paper) for paper in papers()))
    assert list(found) == [paper.id for paper in papers()]
    for paper in papers():
        entry = found[paper.id]
        assert entry["title"] == paper.title
        assert entry["author"].split(" and ") == [name.replace("\u00a0", " ") for name in paper.authors]
        assert int(entry["year"]) == paper.year
        assert entry.get("pages", "") == paper.pages.replace("-", "--"), "a range of pages has a long dash"
        assert entry.get("doi", "") == paper.doi
        assert entry["ENTRYTYPE"] == paper.kind
        assert (entry.get("volume", ""), entry.get("number", "")) == (paper.volume, paper.number)


@pytest.mark.parametrize("nasty", ["50% & more_or #1 {x} $y$ ~z ^2 \\alpha <b>", "a}b{c", "{{", "\\", "Ångström façade naïve Dvořák"])
def test_specials_in_every_field(nasty: str) -> None:
    paper = Paper(
        id="nasty2000",
        kind="article",
        title=nasty,
        authors=(nasty.replace(" ", "-"),),
        venue=nasty,
        year=2000,
        summary="",
        volume=nasty,
        keywords=(nasty,),
        title_ko=nasty,
    )
    entry = entries(bibtex(paper))["nasty2000"]
    assert entry["title"] == entry["journal"] == entry["volume"] == entry["keywords"] == unicodedata.normalize("NFC", nasty)


def test_capitals_inside_words_are_kept_and_family_names_stay_whole() -> None:
    paper = replace(papers()[0], title="The ONNX of MobileNetV2 and CIFAR-10 as It Is", authors=("Christopher De\u00a0Sa", "Student"))
    text = bibtex(paper)
    assert "title = {The {ONNX} of {MobileNetV2} and {CIFAR-10} as It Is}" in text
    assert "author = {Christopher {De Sa} and {Student}}" in text
