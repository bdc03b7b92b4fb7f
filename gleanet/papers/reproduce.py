"""Run a paper's claims again: small, on the digits that ship with scikit-learn, or in full, with the benchmarks of a checkout.

A full run works on a copy of the benchmarks that holds no results, so that everything is measured anew and the checkout stays as it is.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gleanet.core.errors import BadInput, StoreError
from gleanet.papers.entries import Paper, Verdict

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
_BELOW_BAR = 3  # an exit code that is a result, not a failure


@dataclass(frozen=True)
class Step:
    """One command of a reproduction, as a list of arguments and in words."""

    arguments: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Done:
    """A command that has run."""

    command: str
    exit_code: int
    seconds: float

    @property
    def failed(self) -> bool:
        return self.exit_code not in (0, _BELOW_BAR)


def quick_steps(paper: Paper, out: Path) -> tuple[Step, ...]:
    """The gleanet commands of all claims, each once.

    Raises:
        BadInput: no claim of the paper has any.
    """
    commands = dict.fromkeys(command for claim in paper.claims for command in claim.quick)
    if not commands:
        raise BadInput(f"{paper.id} has no claim that can be shown on the digits: {_other(paper, quick=True)}")
    filled = [[part.replace("{out}", str(out)) for part in shlex.split(command)] for command in commands]
    return tuple(Step((sys.executable, "-m", "gleanet", *parts), shlex.join(["gleanet", *parts])) for parts in filled)


def full_steps(paper: Paper, out: Path, weights: Path | None) -> tuple[Step, ...]:
    """The benchmark commands of all claims, each once, then the one that judges their results.

    Raises:
        BadInput: no claim has any, there is no checkout, or the folder of checkpoints is not given or not there.
    """
    commands = dict.fromkeys(command for claim in paper.claims for command in claim.full)
    if not commands:
        raise BadInput(f"{paper.id} has no benchmark yet: {_other(paper, quick=False)}")
    if not (BENCHMARKS / "verdicts.py").is_file():
        raise BadInput(f"the full benchmarks need a checkout, and {BENCHMARKS} is not there: clone the project, or use --quick")
    if weights is None or not weights.is_dir():
        raise BadInput(f"the benchmarks of {paper.id} need the public checkpoints: name their folder with --weights, or use --quick")
    known = {"{weights}": str(weights.resolve()), "{python}": sys.executable}
    filled = [[known.get(part, part) for part in shlex.split(command)] for command in commands]
    filled.append(["benchmarks/verdicts.py", "--out", str((out / "verdicts.json").resolve())])
    return tuple(Step((sys.executable, str((out / parts[0]).resolve()), *parts[1:]), shlex.join(["python", *parts])) for parts in filled)


def prepare(out: Path, full: bool) -> None:
    """Make the folder; for a full run with the copy of the benchmarks.

    Raises:
        BadInput: the folder holds something.
        StoreError: it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty: choose another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if full:
            shutil.copytree(BENCHMARKS, out / "benchmarks", ignore=shutil.ignore_patterns("results", "__pycache__"))
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror}") from error


def run(steps: tuple[Step, ...], say: Callable[[str], None], quiet: bool) -> Iterator[Done]:
    """Run the steps one after another, up to the first that fails; ``quiet`` sends their output to standard error."""
    for step in steps:
        say(f"$ {step.words}")
        sys.stdout.flush()  # what we said comes before what the command says
        began = time.perf_counter()
        finished = subprocess.run(step.arguments, stdout=sys.stderr if quiet else None, check=False)
        done = Done(step.words, finished.returncode, time.perf_counter() - began)
        yield done
        if done.failed:
            return


def fresh_verdicts(out: Path) -> dict[str, Verdict]:
    """What a full run came to; empty where it did not come so far."""
    file = out / "verdicts.json"
    return msgspec.convert(json.loads(file.read_text(encoding="utf-8")), type=dict[str, Verdict]) if file.is_file() else {}


def _other(paper: Paper, quick: bool) -> str:
    """What can be done instead."""
    if any(claim.full if quick else claim.quick for claim in paper.claims):
        return "leave out --quick" if quick else "use --quick"
    return f"`gleanet papers show {paper.id}` says where the product uses it"
