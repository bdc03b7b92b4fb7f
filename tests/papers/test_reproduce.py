"""Running claims again: order, the first failure, and a copy of the benchmarks that starts from nothing."""

import sys
from pathlib import Path

import pytest

from gleanet.core.errors import BadInput
from gleanet.papers import find, papers
from gleanet.papers.reproduce import BENCHMARKS, Step, fresh_verdicts, full_steps, prepare, quick_steps, run


def step(code: int, folder: Path, name: str) -> Step:
    return Step((sys.executable, "-c", f"import pathlib, sys; pathlib.Path({str(folder / name)!r}).touch(); sys.exit({code})"), name)


def test_steps_run_in_order_up_to_the_first_that_fails(tmp_path: Path) -> None:
    said: list[str] = []
    steps = (step(0, tmp_path, "one"), step(3, tmp_path, "below-bar"), step(2, tmp_path, "fails"), step(0, tmp_path, "never"))
    done = list(run(steps, said.append, quiet=True))
    assert [(each.command, each.exit_code, each.failed) for each in done] == [
        ("one", 0, False),
        ("below-bar", 3, False),
        ("fails", 2, True),
    ]
    assert said == ["$ one", "$ below-bar", "$ fails"]
    assert not (tmp_path / "never").exists()


def test_a_command_that_claims_share_runs_once(tmp_path: Path) -> None:
    words = [each.words for each in quick_steps(find("fcr"), tmp_path)]
    assert len(words) == len(set(words))
    assert sum(" train " in each for each in words) == 1
    assert not any("{" in each for each in words)


def test_a_full_run_starts_from_benchmarks_without_results_and_ends_with_its_own_verdicts(tmp_path: Path) -> None:
    if not BENCHMARKS.is_dir():
        pytest.skip("no checkout")
    out, said = tmp_path / "out", list[str]()
    prepare(out, full=True)
    assert not (out / "benchmarks" / "results").exists()
    for paper in papers():
        if any(claim.full for claim in paper.claims):
            steps = full_steps(paper, out, tmp_path)
            assert all(Path(each.arguments[1]).is_file() for each in steps)
            assert all(Path(each.arguments[1]).is_relative_to(out) for each in steps), "the checkout's own results stay as they are"
    assert not any("{" in word for each in steps for word in each.arguments)
    verdicts = steps[-1:]
    assert [each.exit_code for each in run(verdicts, said.append, quiet=True)] == [0]
    assert {each.outcome for each in fresh_verdicts(out).values()} == {"not tested"}


def test_without_benchmarks_to_run_it_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="use --quick"):
        full_steps(find("beamish"), tmp_path, tmp_path)
    with pytest.raises(BadInput, match="gleanet papers show"):
        full_steps(find("wilson1927"), tmp_path, tmp_path)
