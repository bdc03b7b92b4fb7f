"""From what is typed to patterns over folded text: without case and accents, hyphens optional, Korean by its syllables."""

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from gleanet.core.errors import SettingsError

HANGUL = re.compile(r"[\uac00-\ud7a3]")
_PART = re.compile(r"[^\W\d_]+|\d+")  # a run of letters or of digits: CIFAR-10 and CIFAR10 are both cifar, 10
_QUERY = re.compile(r'"([^"]*)"?|([^\s"]+)')
_JOINT = r"(?:[^\w\s]|_)?"  # what may stand inside a word
_GAP = r"(?:[^\w\n]|_)"  # what stands between words of one field
_SHORTEST = 3  # letters of the beginning of a word


@dataclass(frozen=True)
class Term:
    """One thing to look for: a word (``text`` without separators), or a phrase (its parts with one space between)."""

    text: str
    phrase: bool = False

    @property
    def korean(self) -> bool:
        return HANGUL.search(self.text) is not None

    @property
    def begins(self) -> bool:
        """Whether the beginning of a longer word will do: CIFAR-1 is no search for CIFAR-100."""
        return not self.phrase and len(self.text) >= _SHORTEST and self.text[-1].isalpha()

    def pattern(self) -> re.Pattern[str]:
        """Where it is in folded text, as far as it may be there at all: a word from its beginning, Korean anywhere.

        The first character comes before what must not precede it, so that the search for it is a search for a plain character.
        """
        parts = _PART.findall(self.text)
        first, last = parts[0][0], parts[-1][-1]
        if self.phrase:
            gaps = ["*" if one[-1].isdigit() != two[0].isdigit() else "+" for one, two in pairwise(parts)]
            body = parts[0] + "".join(f"{_GAP}{gap}{part}" for gap, part in zip(gaps, parts[1:], strict=True))
        else:
            body = (f"{_GAP}*" if self.korean else _JOINT).join("".join(parts))
        before = "" if self.korean and not self.phrase else f"(?<!{_same_kind(first)}{first})"
        behind = "" if self.korean or self.begins else f"(?!{_same_kind(last)})"
        return re.compile(first + before + body[1:] + behind)


def whole(match: re.Match[str]) -> bool:
    """Whether the match is neither the beginning nor the inside of something longer: letters go on with letters, digits with digits."""
    text, start, end = match.string, match.start(), match.end()
    return not (_goes_on(text[start - 1 : start], text[start]) or _goes_on(text[end - 1], text[end : end + 1]))


def _goes_on(one: str, two: str) -> bool:
    return (one.isdigit() and two.isdigit()) or (one.isalpha() and two.isalpha())


def _same_kind(character: str) -> str:
    return r"\d" if character.isdigit() else r"[^\W\d_]"


def fold(text: str) -> str:
    """Lower case in the full sense of Unicode, without accents, on one line; Korean syllables stay whole."""
    if text.isascii():
        return text.lower().replace("\n", " ")
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))
    return unicodedata.normalize("NFC", plain.casefold()).replace("\n", " ")


def joined(text: str) -> str:
    """The parts of a text with nothing between: where Korean syllable pairs are looked for, whose spaces are a matter of taste."""
    return "".join(_PART.findall(fold(text)))


def pairs(text: str) -> frozenset[str]:
    """Neighbouring characters."""
    return frozenset(text[at : at + 2] for at in range(len(text) - 1))


def terms(query: str) -> tuple[Term, ...]:
    """What a query asks for: words, and phrases in quotes (a quote that is not closed runs to the end), each once.

    Raises:
        SettingsError: there is nothing to look for.
    """
    found = []
    for quoted, word in _QUERY.findall(query):
        parts = _PART.findall(fold(quoted))
        if parts:
            found.append(Term(" ".join(parts), phrase=True))
        elif joined(word):
            found.append(Term(joined(word)))
    if not found:
        raise SettingsError(f"nothing to search for in {query!r}: give words, e.g. gleanet papers search quantization")
    return tuple(dict.fromkeys(found))
