"""BibTeX: entries that LaTeX can typeset, whatever is in the title."""

import re
import unicodedata

from gleanet.papers.entries import Paper

_VENUE = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution", "misc": "howpublished"}
_SPECIAL = {
    **{character: "\\" + character for character in "&%$#_"},
    "{": r"\textbraceleft{}",  # BibTeX counts escaped braces too
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
# combining marks -> the accents of LaTeX, for letters that have them
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u030c": "v", "\u0327": "c"}
_NO_BREAK = "\u00a0"  # binds the words of a family name


def bibtex(paper: Paper) -> str:
    """One entry. Names and text are LaTeX, with Latin accents written out and Korean as it is (UTF-8); addresses are verbatim."""
    fields = {
        "title": _title(paper.title),
        "author": " and ".join(_name(name) for name in paper.authors),
        _VENUE[paper.kind]: latex(paper.venue),
        "volume": latex(paper.volume),
        "number": latex(paper.number),
        "pages": latex(paper.pages).replace("-", "--"),
        "year": str(paper.year),
        "doi": paper.doi,
        "eprint": paper.arxiv,
        "archiveprefix": "arXiv" if paper.arxiv else "",
        "url": paper.link,
        "keywords": latex(", ".join(paper.keywords)),
        "note": latex(f"Korean title: {paper.title_ko}") if paper.title_ko else "",
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{paper.kind}{{{paper.id},\n" + ",\n".join(lines) + "\n}\n"


def latex(text: str) -> str:
    """Text with the characters that mean something to LaTeX escaped, and Latin accents as commands."""
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character == _NO_BREAK:
        return " "
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"{{\\{_ACCENTS[marks[0]]}{{{letter}}}}}"
    return character


def _title(title: str) -> str:
    """Words with capitals inside keep them in every bibliography style: {ONNX}, {CIFAR-10}, {MobileNetV2}."""
    words = [f"{{{latex(word)}}}" if re.search(r"\w[^\W\d_a-z]", word) else latex(word) for word in title.split()]
    return " ".join(words)


def _name(name: str) -> str:
    *given, family = name.split(" ")
    last = f"{{{latex(family)}}}" if _NO_BREAK in family or not given else latex(family)
    return " ".join([*map(latex, given), last])
