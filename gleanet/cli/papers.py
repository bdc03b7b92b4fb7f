"""The papers behind the methods: search, look, run again, cite."""

import secrets
import shutil
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import print_json, print_table, print_text
from gleanet.core.records import Run
from gleanet.core.store import RUNS, listing
from gleanet.papers import Claim, Paper, Verdict, find, search, verdict
from gleanet.papers import papers as catalogue
from gleanet.papers.bibtex import bibtex as entry
from gleanet.papers.reproduce import Done, fresh_verdicts, full_steps, prepare, quick_steps, run
from gleanet.report import Table, units

papers = typer.Typer(name="papers", help="The methods' papers: what they claim, and what came out here.", no_args_is_help=True)
Which = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a paper, its beginning, or what the product calls the method (fcr, l1, mish).")
]


@papers.command("search")
def search_papers(
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS", help="Words of title, keywords, summary or authors; phrases in double quotes.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="Show the best so many.")] = 10,
    json: o.Json = False,
) -> int:
    """Find papers; those with all the words, else those with some.

    Example: [bold]gleanet papers search CIFAR10[/]

    A phrase: [bold]gleanet papers search '"geometric median" pruning'[/]
    """
    query, known, began = " ".join(words), catalogue(), time.perf_counter()
    found = search(known, query)
    seconds = time.perf_counter() - began
    shown = [hit.paper for hit in found.hits[:limit]]
    if json:
        hits = [{**_record(hit.paper), "score": hit.score} for hit in found.hits[:limit]]
        print_json({"query": query, "count": len(found.hits), "seconds": seconds, "every_word": found.every, "papers": hits})
        return 0
    count = len(found.hits)
    print_text(f"{count} paper{'' if count == 1 else 's'} of {len(known)} for {query}, {seconds:.3f} seconds")
    if count and not found.every:
        print_text("None has every word; these have some.")
    for number, paper in enumerate(shown, 1):
        print_text(f"\n{_wrapped(f'{number}. {paper.title}', later='   ')}")
        print_text(
            "\n".join(_wrapped(line, "   ", "   ") for line in (paper.title_ko, *_source(paper), paper.summary, f"id: {paper.id}") if line)
        )
    if count > limit:
        print_text(f"\n{count - limit} more: --limit {count} shows them all.")
    return 0


@papers.command("list")
def list_papers(json: o.Json = False) -> int:
    """Every paper of the catalogue, oldest first.

    Example: [bold]gleanet papers list[/]
    """
    known = sorted(catalogue(), key=lambda paper: (paper.year, paper.id))
    if json:
        print_json([_record(paper) for paper in known])
    else:
        print_table(Table(("Paper", "Year", "Title"), tuple((paper.id, str(paper.year), paper.title) for paper in known)))
    return 0


@papers.command("show")
def show_paper(which: Which, json: o.Json = False) -> int:
    """One paper: everything we know, its claims, and what came out for each.

    Example: [bold]gleanet papers show fcr[/]
    """
    paper = find(which)
    if json:
        print_json(_record(paper))
        return 0
    names = "; ".join(f"{kind} {', '.join(own)}" for kind, own in paper.names.items())
    print_text(_wrapped(paper.title))
    for line in (paper.title_ko, *_source(paper), ", ".join(paper.authors_ko), paper.link):
        if line:
            print_text(_wrapped(line, "  ", "  "))
    print_text(f"\n{_wrapped(paper.summary)}\n")
    for label, value in (
        ("id", paper.id),
        ("keywords", ", ".join(paper.keywords)),
        ("in gleanet", names),
        ("used in", ", ".join(paper.used)),
    ):
        if value:
            print_text(_wrapped(f"{label:<12}{value}", later=" " * 12))
    if not paper.claims:
        print_text("\nNo claim of it is tested here.")
    for claim in paper.claims:
        _print_claim(claim)
    return 0


@papers.command("bibtex")
def cite(
    which: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or names of methods; all for the whole catalogue.")],
    json: o.Json = False,
) -> int:
    """BibTeX of papers.

    Example: [bold]gleanet papers bibtex fcr mathayo2022beta[/]
    """
    chosen = catalogue() if which == ["all"] else tuple({paper.id: paper for paper in map(find, which)}.values())
    if json:
        print_json([{"id": paper.id, "bibtex": entry(paper)} for paper in chosen])
    else:
        print_text("\n".join(entry(paper) for paper in chosen).rstrip("\n"))
    return 0


@papers.command("reproduce")
def reproduce(
    which: Which,
    quick: Annotated[bool, typer.Option("--quick", help="The effect in small, on digits, in minutes; decides nothing.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Folder of the public checkpoints, for the full benchmarks.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of what is made. Default: runs/<date>-<paper>-<short id>.")] = None,
    json: o.Json = False,
) -> int:
    """Run the claims of a paper again: in full with the benchmarks of a checkout, or --quick with gleanet itself.

    Example: [bold]gleanet papers reproduce fcr --quick[/]
    """
    paper = find(which)
    folder = out or RUNS / f"{datetime.now():%Y-%m-%d}-{paper.id}-{secrets.token_hex(3)}"
    steps = quick_steps(paper, folder) if quick else full_steps(paper, folder, weights)
    prepare(folder, full=not quick)
    done = list(run(steps, (lambda _: None) if json else print_text, quiet=json))
    fresh = {} if quick else fresh_verdicts(folder)
    if json:
        claims = [{"id": c.id, "recorded": verdict(c.id), "fresh": fresh.get(c.id)} for c in paper.claims]
        print_json({"paper": paper.id, "quick": quick, "folder": str(folder), "steps": done, "claims": claims})
    else:
        _print_done(paper, done, fresh, folder)
    return 1 if done[-1].failed else 0


def _print_done(paper: Paper, done: list[Done], fresh: dict[str, Verdict], folder: Path) -> None:
    """Times, what the runs gave, and the verdicts."""
    print_text("")
    for step in done:
        print_text(f"{step.seconds:8.1f} s  {'exit ' + str(step.exit_code) if step.exit_code else 'done'}  {step.command}")
    print_text(f"folder: {folder}")
    cells = [line for one in reversed(listing(folder)) for line in _gave(one)]
    if cells:
        print_table(Table(("Run", "Accuracy (95 % interval)"), tuple(cells)))
    for claim in paper.claims:
        print_text(_wrapped(f"{claim.id}: on record {_outcome(verdict(claim.id))}", later="  "))
        if claim.id in fresh:
            print_text(_wrapped(f"{' ' * len(claim.id)}  now       {_outcome(fresh[claim.id])}", later="  "))


def _gave(one: Run) -> Iterator[tuple[str, str]]:
    """(name, accuracy) of what a run made: its network, or the file of each quantization method that it tried."""
    found = one.results.get("accuracy")
    if isinstance(found, dict):
        yield one.id, f"{100 * found['value']:.2f} % ({100 * found['low']:.2f} to {100 * found['high']:.2f}, {found['n']:,} images)"
    for trial in one.trials:
        if trial.accuracy is not None:
            yield f"{one.id}, {trial.method}", f"{units.accuracy(trial.accuracy)}, {trial.accuracy.n:,} images"


def _print_claim(claim: Claim) -> None:
    found = verdict(claim.id)
    print_text(f"\n{_wrapped(f'Claim {claim.id}: {claim.text}', later='  ')}")
    print_text(_wrapped(_outcome(found), "  ", "    "))
    print_text(_wrapped(found.why, "  ", "    "))
    if found.files:
        print_text(_wrapped(f"from benchmarks/results/{claim.result}: {claim.path}; {found.date}", "  ", "    "))
    for command in claim.quick:
        print_text(f"  quick: gleanet {command}")
    for command in claim.full:
        print_text(f"  full:  python {command}")


def _outcome(found: Verdict) -> str:
    """An outcome with its figure: ``CONFIRMED +0.53 points (+0.09 to +0.98; 95 % over 10,000 images)``."""
    return f"{found.outcome.upper()} {found.measured}".rstrip()


def _source(paper: Paper) -> tuple[str, str]:
    """Authors; journal, volume, pages and year: as a library prints them."""
    volume = f"{paper.volume}({paper.number})" if paper.number else paper.volume
    parts = (paper.venue, f"vol. {volume}" if volume else "", f"pp. {paper.pages}" if paper.pages else "", str(paper.year))
    return "; ".join(paper.authors), ", ".join(part for part in parts if part)


def _record(paper: Paper) -> dict[str, Any]:
    """A paper as JSON, each claim with its verdict."""
    record: dict[str, Any] = msgspec.to_builtins(paper)
    claims = [{**msgspec.to_builtins(claim), "verdict": msgspec.to_builtins(verdict(claim.id))} for claim in paper.claims]
    return {**record, "link": paper.link, "claims": claims}


def _wrapped(text: str, first: str = "", later: str = "") -> str:
    """Lines that fit the terminal, at most 100 wide, indented."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
