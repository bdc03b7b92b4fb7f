"""What a comparison makes of its cells, and what a search tries."""

import numpy as np
import pytest

from gleanet.core.comparison import Cell
from gleanet.core.records import Curve, CurvePoint
from gleanet.core.stats import mean_interval
from gleanet.data import load
from gleanet.nn.activations import activation
from gleanet.pipeline.activation_search import MISH, pairs, split
from gleanet.pipeline.activations import mean_curve, summary
from gleanet.pipeline.cells import part_of, slug


def cell(name: str, seed: int, correct: int, trouble: str = "") -> Cell:
    points = tuple(CurvePoint(step / 2, step, 0.1, 2.0 / step + seed, correct / 100 if step == 2 else None) for step in (1, 2))
    return Cell(name, seed, correct, 100, 10.0 + seed, 0.1, Curve(name, points), trouble)


def test_differences_are_paired_by_seed_and_leave_out_what_diverged() -> None:
    cells = [cell("mish", seed, correct) for seed, correct in enumerate((50, 60, 70))]
    cells += [cell("relu", 0, 49), cell("relu", 1, 0, "diverged"), cell("relu", 2, 73)]
    cells += [cell("silu", 0, 0, "diverged"), cell("silu", 1, 0, "diverged")]
    mish, relu, silu = summary(cells, "mish")
    assert mish.difference is None
    assert mish.mean == mean_interval([0.5, 0.6, 0.7])
    assert relu.difference is not None
    assert relu.difference == mean_interval([0.49 - 0.5, 0.73 - 0.7])
    assert (relu.failed, relu.accuracies) == (1, (0.49, 0.73))
    assert relu.seconds == 11.0
    assert (silu.failed, silu.mean, silu.difference, silu.seconds) == (2, None, None, None)


def test_the_mean_curve_is_the_mean_at_every_point() -> None:
    curve = mean_curve([cell("mish", 0, 50).curve, cell("mish", 1, 70).curve], "mish")
    assert [point.loss for point in curve.points] == [2.5, 1.5]
    assert [point.accuracy for point in curve.points] == [None, pytest.approx(0.6)]
    assert mean_curve([], "mish").points == ()


def test_tried_pairs_start_with_mish_and_cover_the_square_evenly() -> None:
    names = pairs(65, 4.0, 0)
    assert names[0] == MISH
    assert len(names) == 65
    assert names == pairs(65, 4.0, 0)
    found = [activation(name).factors for name in names[1:]]
    logs = np.log([[value for _, value in factors] for factors in found]) / np.log(4.0)
    assert float(np.abs(logs).max()) <= 1.0001
    counts, _, _ = np.histogram2d(logs[:, 0], logs[:, 1], bins=4, range=[[-1, 1], [-1, 1]])
    assert counts.min() >= 2  # 16 fields, 4 pairs each on average: none is left out


def test_the_split_has_no_overlap_and_all_classes_on_both_sides() -> None:
    images = load("digits").train
    train, validation = split(images, 0.2)
    assert len(train) + len(validation) == len(images)
    rows = {image.tobytes() for image in train.pixels} & {image.tobytes() for image in validation.pixels}
    assert not rows
    assert set(validation.labels.tolist()) == set(train.labels.tolist()) == set(range(10))
    assert len(part_of(images, 300)) == 300
    assert part_of(images, None) is images


def test_names_of_files_are_plain_and_distinct() -> None:
    names = ["mish", "beamish(alpha=1,beta=2)", "beamish(alpha=12,beta=2)", "beamish-learnable", "swish(beta=1.5)"]
    files = {slug(name, seed) for name in names for seed in (0, 1)}
    assert len(files) == 10
    assert all(file.replace("-", "").replace(".", "").isalnum() for file in files)
