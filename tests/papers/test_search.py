"""Search: against an oracle that knows none of its tricks, and the laws that a reader of its answers relies on."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core.errors import SettingsError
from gleanet.papers import Paper, papers, search
from tests.papers import oracle

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "papers_search.py"
BARE = Paper(id="bare2000", kind="misc", title="", authors=(), venue="", year=2000, summary="")


@pytest.fixture(scope="module")
def many() -> tuple[Paper, ...]:
    made: tuple[Paper, ...] = runpy.run_path(str(BENCHMARK))["thousand"]()
    assert len(made) == 1000
    return made


def ids(known: tuple[Paper, ...], query: str) -> list[str]:
    return [hit.paper.id for hit in search(known, query).hits]


@pytest.mark.parametrize(
    ("query", "words", "phrases"),
    [
        ("CIFAR10", ["CIFAR10"], []),
        ("CIFAR-10 batchnorm", ["cifar10", "batchnorm"], []),
        ("net", ["net"], []),
        ("ne", ["ne"], []),
        ("Mobile L1", ["mobile", "l1"], []),
        ("quantiz onnx", ["quantiz", "onnx"], []),
        ("10", ["10"], []),
        ('"convolutional neural"', [], ["convolutional neural"]),
        ('pruning "the network', ["pruning"], ["the network"]),
        ('"CIFAR 10"', [], ["cifar 10"]),
        ("word17 word18", ["word17", "word18"], []),
        ("양자화", ["양자화"], []),
        ("모델압축을 이용", ["모델압축을", "이용"], []),
        ("경량화된", ["경량화된"], []),
        ('"모델 압축"', [], ["모델 압축"]),
        ("DOLLAR dollár", ["dollar"], []),
        ("<0.5MB size?", ["05mb", "size"], []),
        ("nosuchwordatall", ["nosuchwordatall"], []),
    ],
)
def test_a_thousand_papers_are_found_and_ranked_as_by_brute_force(
    many: tuple[Paper, ...], query: str, words: list[str], phrases: list[str]
) -> None:
    found = search(many, query)
    expected, every = oracle.ranking(many, words, phrases)
    assert [(hit.paper.id, hit.score) for hit in found.hits] == expected
    assert found.every == every


@pytest.mark.parametrize("query", ["CIFAR10", "cifar-10", "CIFAR 10", "cifar_10", '"CIFAR-10"', "Cifar10,"])
def test_one_data_set_whatever_the_hyphen_and_the_case(query: str) -> None:
    found = ids(papers(), query)
    assert {"krizhevsky2009learning", "chen2022filter", "mathayo2022beta", "chung2017comparison"} <= set(found)
    for name in found:
        paper = next(paper for paper in papers() if paper.id == name)
        assert "CIFAR-10" in f"{paper.title} {' '.join(paper.keywords)} {paper.summary}"


def test_the_end_of_a_number_is_an_end() -> None:
    known = (
        replace(BARE, id="ten", title="CIFAR-10"),
        replace(BARE, id="hundred", title="CIFAR-100"),
        replace(BARE, id="none", title="ImageNet"),
    )
    assert ids(known, "CIFAR10") == ["ten"]
    assert ids(known, "cifar") == ["hundred", "ten"]
    assert ids(known, "cifar1") == []


def test_title_before_keyword_before_summary_before_author() -> None:
    known = (
        replace(BARE, id="e", venue="mish mish"),
        replace(BARE, id="d", authors=("Mish",), venue="mish"),
        replace(BARE, id="c", summary="Mish.", authors=("Mish",), venue="mish"),
        replace(BARE, id="b", keywords=("mish",), summary="Mish.", authors=("Mish",), venue="mish"),
        replace(BARE, id="a", title="Mishmash"),
    )
    assert ids(known, "mish") == ["a", "b", "c", "d", "e"]


def test_all_words_else_some(many: tuple[Paper, ...]) -> None:
    both, one, other = (set(ids(many, query)) for query in ("pruning quantization", "pruning", "quantization"))
    assert both == one & other
    assert search(many, "pruning nosuchword").every is False
    assert ids(many, "pruning nosuchword") == ids(many, "pruning")


def test_where_none_has_every_word_more_words_come_before_better_places() -> None:
    known = (replace(BARE, id="one", title="Alpha"), replace(BARE, id="two", summary="Alpha, beta."))
    assert ids(known, "alpha beta gamma") == ["two", "one"]


def test_korean_is_found_with_particles_and_without_spaces() -> None:
    for query in ("양자화", "양자화를", "모델압축", "모델 압축", '"모델 압축"', "경량화", "장두혁"):
        assert ids(papers(), query)[0] == "chang2021lightweight"
    assert ids(papers(), "딥러닝 프레임워크의 비교") == ["chung2017comparison"]


def test_accents_do_not_matter() -> None:
    assert ids(papers(), "Dollar") == ids(papers(), "DOLLÁR") == ["goyal2017accurate"]


@pytest.mark.parametrize("query", ["", "  ", '""', "-- ?", '" "'])
def test_a_query_without_words_is_an_error(query: str) -> None:
    with pytest.raises(SettingsError, match="nothing to search for"):
        search(papers(), query)


def test_no_papers_no_hits() -> None:
    assert search((), "pruning").hits == ()
