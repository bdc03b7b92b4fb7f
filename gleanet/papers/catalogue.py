"""The catalogue as it ships: TOML files in ``data``, one a group of papers, and the verdicts that ``benchmarks/verdicts.py`` wrote."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from gleanet.core.errors import BadInput
from gleanet.papers.entries import Paper, Verdict
from gleanet.papers.words import fold

NOT_TESTED = Verdict("not tested", "nothing has measured it yet")


@cache
def papers() -> tuple[Paper, ...]:
    """Every paper of the catalogue, group by group in the order of the files."""
    found: list[Paper] = []
    for file in sorted(files("gleanet.papers").joinpath("data").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            found += msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8"))["paper"], type=list[Paper])
    return tuple(found)


@cache
def verdicts() -> Mapping[str, Verdict]:
    """Claim id -> what came out, as it was when the package was made. A claim that is not there is not tested."""
    text = files("gleanet.papers").joinpath("verdicts.json").read_text(encoding="utf-8")
    return MappingProxyType(msgspec.convert(json.loads(text), type=dict[str, Verdict]))


def verdict(claim: str) -> Verdict:
    """What came out for one claim."""
    return verdicts().get(claim, NOT_TESTED)


def find(which: str, among: Iterable[Paper] | None = None) -> Paper:
    """The paper with this id, or the only one that has this name in the product (``fcr``, ``l1``, ``mish``) or an id that begins so.

    Raises:
        BadInput: none or several; the message names the nearest.
    """
    known = papers() if among is None else tuple(among)
    wanted = fold(which.strip())
    for hits in (
        [paper for paper in known if paper.id == wanted],
        [paper for paper in known if wanted in names_of(paper)],
        [paper for paper in known if wanted and paper.id.startswith(wanted)],
    ):
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise BadInput(f"{which!r} could be {', '.join(paper.id for paper in hits[:6])}: give one of these")
    near = get_close_matches(wanted, [word for paper in known for word in (paper.id, *names_of(paper))], n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "`gleanet papers search WORDS` finds them"
    raise BadInput(f"no paper {which!r} in the catalogue: {advice}")


def names_of(paper: Paper) -> tuple[str, ...]:
    """What the product calls the paper's methods, folded."""
    return tuple(fold(name) for names in paper.names.values() for name in names)
