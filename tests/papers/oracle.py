"""Search by the book: every field of every paper is cut into parts and walked through, with none of the product's patterns."""

import re
import unicodedata

from gleanet.papers import Paper
from gleanet.papers.search import NEAR, PART, WEIGHTS, WHOLE, fields

Part = tuple[str, int, int]


def ranking(papers: tuple[Paper, ...], words: list[str], phrases: list[str]) -> tuple[list[tuple[str, int]], bool]:
    """(id, score) best first, and whether all have every word."""
    scores = [[_score(paper, word, _word) for paper in papers] for word in words]
    scores += [[_score(paper, phrase, _phrase) for paper in papers] for phrase in phrases]
    each = [[row[number] for row in scores] for number in range(len(papers))]
    every = any(all(row) for row in each)
    wanted = [number for number, row in enumerate(each) if (all(row) if every else any(row))]
    wanted.sort(key=lambda n: (-sum(map(bool, each[n])), -sum(each[n]), -papers[n].year, papers[n].id))
    return [(papers[n].id, sum(each[n])) for n in wanted], every


def _score(paper: Paper, term: str, found: object) -> int:
    assert callable(found)
    return sum(weight * found(plain(text), plain(term)) for weight, text in zip(WEIGHTS, fields(paper), strict=True))


def plain(text: str) -> str:
    marked = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in marked if not unicodedata.combining(c)).casefold())


def _parts(text: str) -> list[Part]:
    return [(match[0], match.start(), match.end()) for match in re.finditer(r"[^\W\d_]+|\d+", text)]


def _korean(text: str) -> bool:
    return any("가" <= character <= "힣" for character in text)


def _word(text: str, term: str) -> int:
    compact = "".join(part for part, _, _ in _parts(term))
    if _korean(compact):
        return _syllables(text, compact)
    parts, best = _parts(text), 0
    for first in range(len(parts)):
        run = ""
        for at in range(first, len(parts)):
            gap = text[parts[at - 1][2] : parts[at][1]] if at > first else ""
            if len(gap) > 1 or gap.isspace() or len(run) > len(compact):
                break
            run += parts[at][0]
            if run == compact:
                best = max(best, WHOLE)
            elif run.startswith(compact) and len(compact) >= 3 and compact[-1].isalpha():
                best = max(best, PART)
    return best


def _syllables(text: str, term: str) -> int:
    inside = [(character, at) for at, character in enumerate(text) if character.isalnum()]
    squeezed = "".join(character for character, _ in inside)
    best = 0
    for start in range(len(squeezed)):
        if squeezed.startswith(term, start):
            first, last = inside[start][1], inside[start + len(term) - 1][1]
            best = max(best, PART if text[:first][-1:].isalpha() or text[last + 1 : last + 2].isalpha() else WHOLE)
    pairs = {term[at : at + 2] for at in range(len(term) - 1)}
    near = _korean(squeezed) and pairs and sum(pair in squeezed for pair in pairs) >= len(pairs) / 2
    return max(best, NEAR if near else 0)


def _phrase(text: str, term: str) -> int:
    wanted, parts = [part for part, _, _ in _parts(term)], [part for part, _, _ in _parts(text)]
    for at in range(len(parts) - len(wanted) + 1):
        window = parts[at : at + len(wanted)]
        same = window == wanted or (_korean(term) and window[:-1] == wanted[:-1] and window[-1].startswith(wanted[-1]))
        if same:
            return WHOLE
    return 0
