"""The catalogue: complete for what the product offers, true to its own form, and found by the names that people know."""

import importlib.util
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from gleanet.core.errors import BadInput
from gleanet.core.settings import Recycle
from gleanet.data.original import ORIGINALS
from gleanet.nn.activations import ACTIVATIONS
from gleanet.nn.networks import NETWORKS
from gleanet.papers import Claim, Paper, find, papers
from gleanet.prune import CRITERIA
from gleanet.prune.plan import OBSERVING
from gleanet.quantize.thresholds import CALIBRATORS
from tests.cli.parsing import parsed

ROOT = Path(__file__).parents[2]
OFFERED: dict[str, set[str]] = {
    "criterion": {*CRITERIA, *OBSERVING},
    "recycle": set(get_args(Recycle)),
    "activation": set(ACTIVATIONS),
    "calibrator": set(CALIBRATORS),
    "network": set(NETWORKS),
    "data": {"digits", *ORIGINALS},
}
CLAIMS = [(paper, claim) for paper in papers() for claim in paper.claims]


def named(kind: str) -> set[str]:
    return {name for paper in papers() for name in paper.names.get(kind, ())}


@pytest.mark.parametrize("kind", OFFERED)
def test_every_method_of_the_product_has_its_paper_and_no_paper_names_what_is_not_there(kind: str) -> None:
    assert named(kind) == OFFERED[kind]


def test_the_four_papers_come_first_and_each_has_claims() -> None:
    four = papers()[:4]
    assert [paper.id for paper in four] == ["chen2022filter", "mathayo2022beta", "chang2021lightweight", "chung2017comparison"]
    assert all(paper.claims and paper.volume and paper.pages for paper in four)


def test_ids_are_unique_and_say_author_year_and_title() -> None:
    assert max(Counter(paper.id for paper in papers()).values()) == 1
    assert max(Counter(claim.id for _, claim in CLAIMS).values()) == 1
    for paper in papers():
        family = re.sub(r"[^a-z]", "", paper.authors[0].split()[-1].lower())
        parts = re.fullmatch(r"([a-z]+)(\d{4})([a-z0-9]+)", paper.id)
        assert parts is not None, paper.id
        assert (parts[1], int(parts[2])) == (family, paper.year), paper.id


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.id)
def test_an_entry_is_whole(paper: Paper) -> None:
    assert paper.title.strip() == paper.title
    assert len(set(paper.authors)) == len(paper.authors) >= 1
    assert 1900 < paper.year <= 2026
    assert 1 <= len(re.findall(r"[.?!](?= |$)", paper.summary)) <= 5, "a summary is a few whole sentences"
    assert paper.summary[-1] == "."
    assert "  " not in paper.summary
    assert paper.keywords
    assert paper.kind != "article" or paper.volume
    assert re.fullmatch(r"(10\.\d{4,9}/\S+)?", paper.doi)
    assert re.fullmatch(r"(\d{4}\.\d{4,5})?", paper.arxiv)
    if paper.arxiv:
        assert 2000 + int(paper.arxiv[:2]) <= paper.year, "the preprint comes before the paper"
    if paper.pages:
        first, last = map(int, paper.pages.split("-"))
        assert first < last
    for module in paper.used:
        assert importlib.util.find_spec(module) is not None, module
    assert re.search("[\uac00-\ud7a3]", paper.title_ko) or not paper.title_ko


@pytest.mark.parametrize(("paper", "claim"), CLAIMS, ids=[claim.id for _, claim in CLAIMS])
def test_the_commands_of_a_claim_exist(paper: Paper, claim: Claim) -> None:
    for command in claim.quick:
        assert parsed(["gleanet", *shlex.split(command.replace("{out}", "runs/some"))])
    for command in claim.full:
        script, *arguments = shlex.split(command)
        text = (ROOT / script).read_text(encoding="utf-8")
        assert all(f'"{option}"' in text for option in arguments if option.startswith("--")), command
    assert bool(claim.rule) == bool(claim.result) == bool(claim.path), "who judges says from what"


def test_quick_commands_make_what_later_ones_read() -> None:
    for paper in papers():
        made: set[str] = set()
        for command in dict.fromkeys(command for claim in paper.claims for command in claim.quick):
            words = shlex.split(command)
            assert {str(Path(word).parent) for word in words if word.endswith("model.gleanet")} <= made, command
            assert {word for word in words[:-1] if word.endswith(".onnx") and words[words.index(word) - 1] != "--out"} <= made, command
            made.add(words[words.index("--out") + 1])


def test_a_paper_is_found_by_id_beginning_and_method() -> None:
    assert find("chen2022filter") is find("Chen2022") is find("fcr") is find(" FCR ")
    assert find("beamish").id == "mathayo2022beta"
    assert find("bn_scale").id == "liu2017learning"
    for paper in papers():
        assert find(paper.id) is paper


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("chen2022fitler", ("no paper 'chen2022fitler'", "did you mean chen2022filter")),
        ("beamsh", ("did you mean beamish",)),
        ("zzzzzz", ("gleanet papers search",)),
        ("he201", ("could be", "he2018soft", "he2019filter")),
        ("silu", ("could be ramachandran2017searching, elfwing2018sigmoid",)),
        ("", ("no paper ''",)),
    ],
)
def test_an_unknown_id_names_the_nearest(given: str, words: Iterable[str]) -> None:
    with pytest.raises(BadInput) as caught:
        find(given)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)
