"""The tables of docs/choose: every name of the code's catalogues, what it is, when to use it and when not.

    PYTHONPATH=. python docs/tools/choices.py            # write
    PYTHONPATH=. python docs/tools/choices.py --check    # exit 1 where a page would change

What a thing is comes from the code (docstrings, formulas, the grid of methods), its paper from the catalogue of papers, and the advice from
advice.toml beside this file. A table stands between ``<!-- NAME: ... -->`` and ``<!-- /NAME -->``, as in docs/evidence.md.
"""

import inspect
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from gleanet.core.settings import BOUNDS, Allocation, Recycle
from gleanet.nn import ACTIVATIONS
from gleanet.papers import Paper, papers
from gleanet.prune import CRITERIA, residual, sensitivity
from gleanet.prune.plan import COMPARABLE, OBSERVING
from gleanet.quantize import METHODS, SHORTLIST
from gleanet.quantize.methods import CALIBRATORS, TYPES, impossible

CHOOSE = Path(__file__).parents[1] / "choose"
ADVICE: dict[str, dict[str, list[str]]] = tomllib.loads((Path(__file__).parent / "advice.toml").read_text(encoding="utf-8"))
CALIBRATED = "min-max"  # what a method's name leaves out


def main() -> int:
    """Write or check the pages; returns an exit code."""
    wanted = pages()
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.stderr.writelines(f"{path} is not what `python docs/tools/choices.py` writes\n" for path in stale)
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    return 0


def pages() -> dict[Path, str]:
    """Each page with its tables made anew."""
    tables = {
        "pruning": {"criteria": criteria(), "allocations": allocations(), "recycling": recycling(), "budgets": budgets()},
        "activations": {"activations": activations()},
        "quantization": {"types": types(), "options": options(), "shortlist": shortlist(), "impossible": not_there()},
    }
    made = {}
    for name, blocks in tables.items():
        path = CHOOSE / f"{name}.md"
        text = path.read_text(encoding="utf-8")
        for block, table in blocks.items():
            text = _put(text, block, table)
        made[path] = text
    return made


def names() -> dict[str, set[str]]:
    """Kind -> every name that the code knows: what advice.toml has to cover."""
    words = {word for method in METHODS for word in method.split("-") if word not in TYPES}
    return {
        "criterion": {*CRITERIA, *OBSERVING},
        "allocation": set(get_args(Allocation)),
        "recycle": set(get_args(Recycle)),
        "budget": set(BOUNDS),
        "activation": set(ACTIVATIONS),
        "type": set(TYPES),
        "option": words,
    }


def criteria() -> str:
    functions, modules = {**CRITERIA, **OBSERVING}, {"local_residual": residual, "residual": sensitivity}
    rows = []
    for name in ADVICE["criterion"]:
        looks = "labelled images" if name == "taylor" else "images" if name in OBSERVING else "weights"
        across = "yes" if name in COMPARABLE else "no"
        what = _summary(modules.get(name, functions[name])).removeprefix(f"Criterion `{name}`: ")
        rows.append((f"`{name}`", f"{what[0].upper()}{what[1:]}", looks, across, *ADVICE["criterion"][name], _paper("criterion", name)))
    return _table(("Criterion", "What it is", "Looks at", "Compares layers", "Use it", "Do not", "Paper"), rows)


def allocations() -> str:
    return _table(("Allocation", "Use it", "Do not"), [(f"`{name}`", *ADVICE["allocation"][name]) for name in get_args(Allocation)])


def recycling() -> str:
    rows = [(f"`{name}`", *ADVICE["recycle"][name], _paper("recycle", name)) for name in get_args(Recycle)]
    return _table(("Way of recycling", "Use it", "Do not", "Paper"), rows)


def budgets() -> str:
    rows = [(f"`--{name}`", rule, *ADVICE["budget"][name]) for name, rule in BOUNDS.items()]
    return _table(("Budget", "What it says", "Use it", "Do not"), rows)


def activations() -> str:
    rows = [(f"`{name}`", f"`{row.formula}`", *ADVICE["activation"][name], row.reference) for name, row in ACTIVATIONS.items()]
    return _table(("Activation", "f(x)", "Use it", "Do not", "Source"), rows)


def types() -> str:
    rows = []
    for name, (activation, weight) in TYPES.items():
        there = "yes" if any(method.split("-")[0] == name for method in METHODS) else "no"
        rows.append((f"`{name}`", activation, weight, there, *ADVICE["type"][name]))
    return _table(("Types", "Activations", "Weights", "Can be made", "Use it", "Do not"), rows)


def options() -> str:
    rows = []
    for name in ADVICE["option"]:
        alone = name in METHODS or name == "dynamic"
        paper = _paper("calibrator", name) if name in CALIBRATORS else ""
        rows.append((f"`{name}`" if alone else f"`-{name}`", *ADVICE["option"][name], paper))
    return _table(("In a name", "Use it", "Do not", "Paper"), rows)


def shortlist() -> str:
    rows = []
    for name in SHORTLIST:
        method = METHODS[name]
        parts = (
            (method.per_channel, "per channel"),
            (method.reduce_range, "7-bit weights"),
            (method.float_head, "float head"),
            (method.pad, "padded"),
        )
        rows.append((f"`{name}`", method.activation, method.weight, ", ".join(word for there, word in parts if there)))
    return _table(("Method", "Activations", "Weights", "And"), rows)


def not_there() -> str:
    rows = [(reason, f"`{group[0]}`" + (f" and {len(group) - 1} more" if group[1:] else "")) for reason, group in impossible().items()]
    return _table(("Why not", "Methods"), rows)


def _summary(function: object) -> str:
    """The first sentence of a docstring, without the source that follows in brackets."""
    first = re.split(r"\n\s*\n", inspect.getdoc(function) or "")[0].replace("\n", " ").replace("``", "`")
    return re.split(r" \([A-Z]+[. ]|; |\. ", first)[0].rstrip(".") + "."


def _paper(kind: str, name: str) -> str:
    found = [paper for paper in papers() if name in paper.names.get(kind, ())]
    return ", ".join(map(_cited, found))


def _cited(paper: Paper) -> str:
    short = f"{paper.authors[0].split()[-1]} {paper.year}"
    return f"[{short}]({paper.link})" if paper.link else short


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(header)]
    lines.append(" | ".join("---" for _ in lines[0].split(" | ")))
    lines += [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _put(text: str, name: str, table: str) -> str:
    head = f"<!-- {name}: written by `python docs/tools/choices.py`, do not edit -->"
    pattern = re.compile(rf"<!-- {name}:.*?-->.*?<!-- /{name} -->", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"there must be one place for the table {name}")
    return pattern.sub(lambda _: f"{head}\n{table}\n<!-- /{name} -->", text)


if __name__ == "__main__":
    sys.exit(main())
