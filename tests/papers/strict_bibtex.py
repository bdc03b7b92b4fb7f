"""A reader of BibTeX that forgives nothing, and of the LaTeX in it: what it cannot read is an error."""

import re
import unicodedata

REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "techreport": {"author", "title", "institution", "year"},
    "misc": {"title"},
}
VERBATIM = {"doi", "url", "eprint"}
_MARKS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "r": "\u030a", "v": "\u030c", "c": "\u0327"}
_WORDS = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
_WORDS |= {"textbraceleft": "{", "textbraceright": "}"}


def entries(text: str) -> dict[str, dict[str, str]]:
    """Key -> fields (with the kind as ``ENTRYTYPE``), LaTeX decoded."""
    found: dict[str, dict[str, str]] = {}
    at = 0
    while at < len(text):
        head = re.compile(r"@(\w+)\{([A-Za-z][A-Za-z0-9:_-]*),\n").match(text, at)
        assert head is not None, text[at : at + 60]
        fields, at = _fields(text, head.end())
        assert head[2] not in found, "the same key twice"
        assert set(fields) >= REQUIRED[head[1]], head[2]
        found[head[2]] = {"ENTRYTYPE": head[1]} | {name: value if name in VERBATIM else decoded(value) for name, value in fields.items()}
        at = re.compile(r"\n*").match(text, at).end()  # type: ignore[union-attr]
    return found


def _fields(text: str, at: int) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    while True:
        name = re.compile(r"  ([a-z]+) = ").match(text, at)
        assert name is not None, text[at : at + 60]
        value, at = braced(text, name.end())
        assert name[1] not in fields, "the same field twice"
        assert value.strip(), f"{name[1]} is empty"
        fields[name[1]] = value
        if text.startswith("\n}", at):
            return fields, at + 2
        assert text.startswith(",\n", at), text[at : at + 20]
        at += 2


def braced(text: str, at: int) -> tuple[str, int]:
    """What stands in the braces that open at ``at``, and the place behind them. BibTeX counts braces, also escaped ones."""
    assert text[at] == "{"
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[at + 1 : place], place + 1
    raise AssertionError("braces do not close")


def decoded(latex: str) -> str:
    """The text that LaTeX would print. An unescaped special character is an error; plain braces group and print nothing."""
    out, at = "", 0
    while at < len(latex):
        if latex[at] == "\\":
            piece, at = _command(latex, at + 1)
            out += piece
        elif latex[at] == "{":
            inner, at = braced(latex, at)
            out += decoded(inner)
        else:
            assert latex[at] not in "&%$#_}~^<>", f"{latex[at]} is not escaped in {latex}"
            out += latex[at]
            at += 1
    return unicodedata.normalize("NFC", out)


def _command(latex: str, at: int) -> tuple[str, int]:
    word = re.compile(r"(text[a-z]+)\{\}").match(latex, at)
    if word is not None:
        return _WORDS[word[1]], word.end()
    accent = re.compile(r"([`'^~\"rvc])\{([A-Za-z])\}").match(latex, at)
    if accent is not None:
        return accent[2] + _MARKS[accent[1]], accent.end()
    assert latex[at] in "&%$#_", f"no such command: {latex[at : at + 10]}"
    return latex[at], at + 1
