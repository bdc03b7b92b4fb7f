"""The table and the page of a sweep: every figure in its place, everything escaped."""

from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core.errors import BadInput, StoreError
from gleanet.core.records import Latency, Run, dumps
from gleanet.core.stats import wilson
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import CellRecord, Choice, SweepRecord, SweepSettings
from gleanet.report.again import render_again
from gleanet.report.sweeps import render_sweep, sweep_table
from gleanet.sweep.outcome import combinations
from tests.report.test_figures import EVIL, checked

GRID: dict[str, tuple[Choice, ...]] = {
    "way": (Choice("plain", {"criterion": "l2"}), Choice(EVIL, {"criterion": EVIL})),
    "flops": (Choice("0.5", {"flops": 0.5}), Choice("0.3", {"flops": 0.3})),
}
SETTINGS = SweepSettings("prune", {"model": EVIL}, GRID, (0, 1), {"way": "plain"})


def cell(way: str, flops: str, seed: int, correct: int | None) -> CellRecord:
    labels = {"way": way, "flops": flops}
    if correct is None:
        return CellRecord("c", labels, seed, "failed", EVIL)
    return CellRecord("c", labels, seed, "done", seconds=65.0, accuracy=wilson(correct, 1000), macs=20_500_000)


def example() -> SweepRecord:
    figures = {("plain", "0.5"): (800, 820), (EVIL, "0.5"): (850, 880), ("plain", "0.3"): (700, 700), (EVIL, "0.3"): (750, None)}
    cells = tuple(cell(way, flops, seed, correct) for (way, flops), both in figures.items() for seed, correct in enumerate(both))
    return SweepRecord(SETTINGS, cells, combinations(cells, SETTINGS))


def test_a_line_for_each_combination_with_its_difference_to_the_baseline() -> None:
    """5 and 6 points better: mean 5.5, half width 12.7062 x 0.5."""
    table = sweep_table(example())
    assert table.header == (
        *("way", "flops", "Accuracy (95 % interval)", "Difference to plain (95 % interval)", "Seeds", "MACs", "One run", "Failed"),
    )
    first, second, _, torn = table.cells
    assert first[3:] == ("baseline", "2", "20.5 M", "1 min 5 s", "")
    assert second[3] == "+5.50 points (−0.85 to +11.85)"
    assert torn[3:5] == ("+5.00 points (one seed)", "1, 1 failed")
    assert torn[-1] == f"seed 1: {EVIL}"


def test_columns_that_nothing_is_known_for_are_left_out_and_times_are_medians() -> None:
    known = replace(example().cells[0], latencies=(Latency(1, 1, 20, 0.5, 0.6),))
    table = sweep_table(SweepRecord(SETTINGS, (known,), combinations([known], SETTINGS)))
    assert "Failed" not in table.header
    assert "On disk" not in table.header
    assert table.cells[0][table.header.index("p50, batch 1")] == "0.500 ms"
    assert "not taken together" in table.caption


def test_the_page_of_a_sweep_is_rendered_again_as_it_was(tmp_path: Path) -> None:
    run = Run("swept", "sweep", "resnet8", "done", "2026-11-25T12:00:00+00:00", 60.0, {}, {}, {})
    (tmp_path / "sweep.json").write_bytes(dumps(example()))
    (tmp_path / "run.json").write_bytes(dumps(run))
    first = render_sweep(run, example(), tmp_path).read_bytes()
    assert render_again(RunFolder(tmp_path)).read_bytes() == first
    with pytest.raises(BadInput, match="--out is not for a run of `gleanet sweep`"):
        render_again(RunFolder(tmp_path), tmp_path / "other.html")
    (tmp_path / "sweep.json").unlink()
    with pytest.raises(StoreError, match=r"cannot read .*sweep.json"):
        render_again(RunFolder(tmp_path))


def test_cells_that_were_not_run_yet_are_counted() -> None:
    cells = [CellRecord("c", {"way": "plain", "flops": "0.5"}, seed, "waiting") for seed in (0, 1)]
    table = sweep_table(SweepRecord(SETTINGS, tuple(cells), combinations(cells, SETTINGS)))
    assert table.cells[0][table.header.index("Seeds")] == "0, 2 to run"


def test_a_sweep_without_a_grid_is_one_line() -> None:
    settings = SweepSettings("train", {"model": "resnet8"}, seeds=(3,))
    cells = (CellRecord("c", {}, 3, "done", accuracy=wilson(9, 10)),)
    table = sweep_table(SweepRecord(settings, cells, combinations(cells, settings)))
    assert table.cells[0][0] == "train"
    assert "Wilson" in table.caption


def test_the_page_is_whole_and_escaped(tmp_path: Path) -> None:
    run = Run("one", "sweep", EVIL, "done", "2026-01-02T03:04:05+00:00", 65.0, {}, {"gleanet": "1"}, {}, {"title": EVIL}, notes=(EVIL,))
    page = render_sweep(run, example(), tmp_path).read_text()
    checked(page)
    assert "Accuracy against flops, mean over seeds" in page
    assert "<svg" in page
    assert "+5.50 points" in page
