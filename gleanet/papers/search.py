"""Search as a library's catalogue does it: every word must be there, else any; a hit in the title counts most.

A term is found in a field as a whole word, as the beginning of one (three letters or more, ending in a letter), or as a phrase. Korean is
found anywhere in a field, whatever its spaces; failing that, where at least half of its syllable pairs are there, which bridges particles
and endings. Fields weigh so much apart that a hit in a higher field beats all hits of the same word below it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gleanet.papers.entries import Paper
from gleanet.papers.words import HANGUL, Term, fold, joined, pairs, terms, whole

FIELDS = ("title", "keywords", "summary", "authors", "source")
WEIGHTS = (10_000, 1_000, 100, 10, 1)
WHOLE, PART, NEAR = 3, 2, 1  # a whole word or phrase; the beginning of a word, or Korean inside one; Korean by syllable pairs


@dataclass(frozen=True)
class Hit:
    """A paper that was found, with its score (comparable within one search)."""

    paper: Paper
    score: int


@dataclass(frozen=True)
class Found:
    """What a search gave, best first. ``every``: each paper has every word; else no paper has, and these have some."""

    hits: tuple[Hit, ...]
    every: bool


def fields(paper: Paper) -> tuple[str, str, str, str, str]:
    """The text of a paper's ``FIELDS``."""
    names = (name for own in paper.names.values() for name in own)
    return (
        f"{paper.title} / {paper.title_ko}",
        " / ".join((*paper.keywords, *names)),
        paper.summary,
        " / ".join((*paper.authors, *paper.authors_ko)),
        " / ".join((paper.id, paper.venue, str(paper.year), paper.doi, paper.arxiv)),
    )


def search(papers: Sequence[Paper], query: str) -> Found:
    """Papers for a query, best first: by words found, then score; of equals the newer, then by id.

    Raises:
        SettingsError: the query holds no word.
    """
    wanted = terms(query)
    lines = [fold(text) for paper in papers for text in fields(paper)]
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    text = "\n".join(lines)
    scores = [_scores(term, text, starts, lines) for term in wanted]
    everywhere = set.intersection(*(set(each) for each in scores))

    def order(number: int) -> tuple[int, int, int, str]:
        own = [each[number] for each in scores if number in each]
        return -len(own), -sum(own), -papers[number].year, papers[number].id

    ranked = sorted(everywhere or set[int]().union(*scores), key=order)
    return Found(tuple(Hit(papers[n], sum(each.get(n, 0) for each in scores)) for n in ranked), every=bool(everywhere))


def _scores(term: Term, text: str, starts: list[int], lines: list[str]) -> dict[int, int]:
    """Paper number -> score of one term: in each field the best way it is found, weighed."""
    best: dict[int, int] = {}
    for line, strength in _matches(term, text, starts, lines):
        best[line] = max(best.get(line, 0), strength)
    scores: dict[int, int] = defaultdict(int)
    for line, strength in best.items():
        number, field = divmod(line, len(FIELDS))
        scores[number] += WEIGHTS[field] * strength
    return dict(scores)


def _matches(term: Term, text: str, starts: list[int], lines: list[str]) -> Iterator[tuple[int, int]]:
    """(line, strength) of every match; ``starts`` are the lines' places in ``text``."""
    for match in term.pattern().finditer(text):
        yield bisect_right(starts, match.start()) - 1, WHOLE if term.phrase or whole(match) else PART
    wanted = pairs(term.text) if term.korean and not term.phrase else frozenset()
    if wanted:
        for number, line in enumerate(lines):
            if not line.isascii() and HANGUL.search(line):
                syllables = joined(line)
                if 2 * sum(pair in syllables for pair in wanted) >= len(wanted):
                    yield number, NEAR
