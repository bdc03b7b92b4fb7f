"""docs/papers.md: what the papers claim and what came out, from the catalogue and the recorded verdicts; written by ``tables.py``."""

import json
from pathlib import Path
from typing import Any

from gleanet.papers import Paper, papers, verdict
from gleanet.report import units

SEARCH = Path(__file__).parent / "results" / "papers_search.json"
HEAD = """# The papers

The methods' papers, what we tested of what they claim, and what came out. Written by `python benchmarks/tables.py` from the catalogue
(`gleanet/papers/data`) and the verdicts that `python benchmarks/verdicts.py` derives from the committed result files; do not edit.
Our tests are smaller than the papers' (networks for CIFAR-10, little training): *refuted* means here, under what the row says.
*Undecided* means that the interval reaches to the other side, or that one seed cannot tell.

    gleanet papers search CIFAR10
    gleanet papers show fcr
    gleanet papers reproduce fcr --quick
    gleanet papers bibtex fcr"""


def text() -> str:
    """The whole page."""
    tested = [paper for paper in papers() if paper.claims]
    lines = [HEAD, "## Claims and verdicts", *map(_claims, tested), "## All entries", "| paper | title | in gleanet |\n| --- | --- | --- |"]
    page = "\n\n".join(lines) + "\n" + "\n".join(map(_entry, papers())) + "\n"
    return page + (f"\n{_search(json.loads(SEARCH.read_text(encoding='utf-8')))}\n" if SEARCH.is_file() else "")


def _claims(paper: Paper) -> str:
    lines = [f"### {paper.title}", "", f"{', '.join(paper.authors)}; {paper.venue}, {paper.year}. `{paper.id}`", ""]
    lines += ["| claim, and how it is tested | verdict | figure (interval) | of what |", "| --- | --- | --- | --- |"]
    for claim in paper.claims:
        found = verdict(claim.id)
        lines.append(f"| {claim.text} | {found.outcome} | {found.measured.replace('-', units.MINUS)} | {found.why} |")
    return "\n".join(lines)


def _entry(paper: Paper) -> str:
    names = "; ".join(f"{kind} {', '.join(own)}" for kind, own in paper.names.items())
    title = f"[{paper.title.replace('<', '&lt;')}]({paper.link})" if paper.link else paper.title
    return f"| `{paper.id}` | {title} | {names} |"


def _search(found: dict[str, Any]) -> str:
    rows, settings = found["rows"], found["settings"]
    medians = [row["median_ms"] for row in rows]
    return (
        f"A search over {settings['papers']:,} made-up entries takes {min(medians):.0f} to {max(medians):.0f} ms (medians of "
        f"{settings['rounds']} calls for {len(rows)} queries, on a machine that had other work; slowest call "
        f"{max(row['highest_ms'] for row in rows):.0f} ms). {found['machine']['cpu']}, Python {found['versions']['python']}."
    )
