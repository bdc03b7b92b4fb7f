import math

import numpy as np
import pytest

from gleanet.data.crops import AREA, ASPECT, middle, random_box

SIZES = [(500, 375), (375, 500), (224, 224), (31, 57), (1, 1), (3, 2), (2000, 90), (1, 700), (640, 480)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_random_box_lies_in_the_picture_and_has_an_allowed_area_and_shape(width: int, height: int) -> None:
    for seed in range(300):
        left, top, w, h = random_box(width, height, np.random.default_rng(seed))
        assert 0 <= left <= left + w <= width
        assert 0 <= top <= top + h <= height
        assert min(w, h) >= 1
        # rounded to whole pixels: each side is up to half a pixel off
        assert (w + 0.5) * (h + 0.5) >= AREA[0] * width * height or (width / height > 16 or height / width > 16)
        assert (w - 0.5) / (h + 0.5) <= ASPECT[1]
        assert (w + 0.5) / max(h - 0.5, 0.1) >= ASPECT[0]


def test_boxes_are_spread_as_by_plain_rejection() -> None:
    """Against the definition: draw area and shape until the box fits, then any place; deciles of each quantity agree."""
    width, height, n = 5000, 4000, 4000
    ours = np.array([random_box(width, height, np.random.default_rng(seed)) for seed in range(n)], dtype=float)
    rng = np.random.default_rng(9)
    reference: list[tuple[float, float, float, float]] = []
    while len(reference) < n:
        area, shape = rng.uniform(0.08, 1) * width * height, math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * shape), math.sqrt(area / shape)
        if w <= width and h <= height:
            reference.append((rng.uniform(0, width - w), rng.uniform(0, height - h), w, h))
    for column, scale in enumerate((width, height, width, height)):
        deciles = [np.quantile(found[:, column], np.linspace(0.1, 0.9, 9)) / scale for found in (ours, np.array(reference))]
        assert np.abs(deciles[0] - deciles[1]).max() < 0.03, column


@pytest.mark.parametrize(("width", "height", "expected"), [(2000, 30, (980, 0, 40, 30)), (30, 2000, (0, 980, 30, 40))])
def test_where_no_draw_fits_it_is_the_largest_middle_part(width: int, height: int, expected: tuple[int, int, int, int]) -> None:
    assert {random_box(width, height, np.random.default_rng(seed)) for seed in range(20)} == {expected}


def test_what_is_drawn_afterwards_does_not_depend_on_the_picture() -> None:
    rngs = [np.random.default_rng(3) for _ in SIZES]
    for rng, size in zip(rngs, SIZES, strict=True):
        random_box(*size, rng)
    assert len({rng.random() for rng in rngs}) == 1


def test_the_middle_is_cut_from_a_short_side_of_256_for_224() -> None:
    assert middle(500, 375, 224) == ((341, 256), (58, 16))
    assert middle(375, 500, 224) == ((256, 341), (16, 58))
    assert middle(64, 64, 64) == ((73, 73), (4, 4))
