"""Figures of cells and combinations: paired by seed, over what is there."""

from math import isclose
from pathlib import Path

from gleanet.core.records import Accuracy, Latency, Measurement, Row, Run
from gleanet.core.stats import wilson
from gleanet.core.store import RunFolder
from gleanet.core.sweeps import CellRecord, Choice, SweepSettings
from gleanet.sweep.grid import Cell
from gleanet.sweep.outcome import combinations, read
from gleanet.sweep.process import CELLS

GRID = {axis: tuple(Choice(label, {}) for label in labels) for axis, labels in (("a", "xy"), ("b", "12"))}
SETTINGS = SweepSettings("train", grid=GRID, baseline={"a": "x"})


def cell(a: str, b: str, seed: int, correct: int | None, p50: float = 1.0) -> CellRecord:
    labels = {"a": a, "b": b}
    if correct is None:
        return CellRecord("", labels, seed, "failed", "broken")
    return CellRecord("", labels, seed, "done", seconds=seed, accuracy=wilson(correct, 100), latencies=(Latency(1, 1, 20, p50, p50),))


def test_differences_are_paired_by_seed_and_keep_the_other_axes() -> None:
    """Student's quantile for two degrees of freedom is 4.302653."""
    cells = [
        *(cell("x", "1", seed, correct) for seed, correct in enumerate((50, 60, 70))),
        *(cell("y", "1", seed, correct) for seed, correct in enumerate((51, 63, 75))),
        *(cell("x", "2", seed, correct) for seed, correct in enumerate((10, 20, None))),
        *(cell("y", "2", seed, correct) for seed, correct in enumerate((90, None, 90))),
    ]
    base, better, other, torn = combinations(cells, SETTINGS)
    assert base.baseline
    assert base.difference is None
    assert base.mean is not None
    assert base.mean.low is not None
    assert isclose(base.mean.low, 0.6 - 4.302653 * 0.1 / 3**0.5, rel_tol=1e-5)
    assert better.difference is not None
    assert better.difference.high is not None
    assert isclose(better.difference.mean, 0.03)
    assert isclose(better.difference.high, 0.03 + 4.302653 * 0.02 / 3**0.5, rel_tol=1e-5)  # 1, 3 and 5 points
    assert other.baseline
    assert other.failed == ((2, "broken"),)
    assert torn.difference is not None
    assert (torn.difference.n, torn.difference.low) == (1, None)  # seed 0 is the only one that both have
    assert isclose(torn.difference.mean, 0.8)


def test_without_a_baseline_there_is_no_difference() -> None:
    cells = [cell("x", "1", 0, 50), cell("y", "1", 0, 60)]
    rows = combinations(cells, SweepSettings("train", grid=GRID))
    assert [(row.difference, row.baseline) for row in rows] == [(None, False)] * 2


def test_one_seed_has_the_interval_of_its_images() -> None:
    (row,) = combinations([cell("x", "1", 0, 50)], SETTINGS)
    assert row.mean is not None
    assert (row.mean.mean, row.mean.low, row.mean.high, row.mean.n) == (0.5, wilson(50, 100).low, wilson(50, 100).high, 1)


def test_times_are_medians_over_seeds() -> None:
    (row,) = combinations([cell("x", "1", seed, 50, p50) for seed, p50 in enumerate((9.0, 1.0, 2.0))], SETTINGS)
    assert (row.p50_ms, row.seconds) == ({"1": 2.0}, 1.0)


def test_a_cell_has_the_figures_of_what_its_command_made(tmp_path: Path) -> None:
    """The last row of a table; of quantize, only where it could quantize."""
    macs = {"given": 10, "quantized": 20}
    rows = tuple(Row(role, role, Measurement("f", "r", m, 5, m * 2, Accuracy(m, 100, 0, 1))) for role, m in macs.items())

    def figures(command: str, rows: tuple[Row, ...]) -> tuple[int | None, int | None, int | None]:
        run = Run("c", command, "m", "done", "", 3.0, {}, {}, {}, rows=rows, results={"macs": 7})
        (tmp_path / CELLS / "c").mkdir(parents=True, exist_ok=True)
        RunFolder(tmp_path / CELLS / "c").write(run)
        found = read(Cell("c", {}, 0, ()), tmp_path)
        return found.macs, found.bytes, None if found.accuracy is None else found.accuracy.correct

    assert figures("shrink", rows) == (20, 40, 20)
    assert figures("shrink", rows[:1]) == (10, 20, 10)
    assert figures("quantize", rows) == (20, 40, 20)
    assert figures("quantize", rows[:1]) == (7, None, None)
    assert figures("prune", ()) == (7, None, None)
