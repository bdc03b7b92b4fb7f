"""Laws of the choice among the points of a frontier, over random frontiers."""

import random

import pytest

from gleanet.core.errors import BadInput
from gleanet.core.frontier import choose, dominated, milliseconds, speedup
from gleanet.core.records import Accuracy, Change, Latency, Measurement, Point


def _measured(ms: float) -> Measurement:
    return Measurement("model.int8.onnx", "onnxruntime", 1, 1, 1, latencies=(Latency(1, 1, 100, ms, ms),))


def _point(ms: float, right: int, half: float = 0.005) -> Point:
    delta = right / 1000 - 0.9
    change = Change(delta, delta - half, delta + half, 1000)
    return Point("frontier/0", (), (), "u8s8", Accuracy(right, 1000, right / 1000 - 0.02, right / 1000 + 0.02), change, _measured(ms))


ORIGINAL = _measured(1.0)


def _frontiers() -> list[list[Point]]:
    draw = random.Random(0)
    return [[_point(draw.choice((0.2, 0.3, 0.4, 0.5)), draw.randint(820, 905)) for _ in range(draw.randint(1, 8))] for _ in range(200)]


def test_max_drop_takes_the_fastest_whose_whole_interval_is_within() -> None:
    for points in _frontiers():
        for value in (0.0, 0.5, 1.0, 4.0):
            index, met = choose(ORIGINAL, points, "max_drop", value)
            within = [p for p in points if p.held_out_change.low >= -value / 100 - 1e-9]
            assert met == bool(within)
            if met:
                assert points[index] in within
                assert milliseconds(points[index].measured) == min(milliseconds(p.measured) for p in within)
            else:
                assert points[index].held_out.value == max(p.held_out.value for p in points)


@pytest.mark.parametrize("limit", ["speedup", "latency_ms"])
def test_a_limit_on_time_takes_the_most_accurate_that_is_fast_enough(limit: str) -> None:
    for points in _frontiers():
        for ms in (0.1, 0.25, 0.4, 0.9):
            index, met = choose(ORIGINAL, points, limit, 1 / ms if limit == "speedup" else ms)
            fast = [p for p in points if milliseconds(p.measured) <= ms]
            assert met == bool(fast)
            if met:
                assert points[index] in fast
                assert points[index].held_out.value == max(p.held_out.value for p in fast)
            else:
                assert milliseconds(points[index].measured) == min(milliseconds(p.measured) for p in points)


def test_a_chosen_point_is_never_dominated() -> None:
    for points in _frontiers():
        for limit, value in (("speedup", 2.6), ("latency_ms", 0.3), ("speedup", 99.0)):
            assert choose(ORIGINAL, points, limit, value)[0] not in dominated(points)


def test_points_that_are_not_dominated_trade_time_for_accuracy() -> None:
    for points in _frontiers():
        kept = sorted((milliseconds(p.measured), p.held_out.value) for i, p in enumerate(points) if i not in dominated(points))
        assert kept
        assert [value for _, value in kept] == sorted(value for _, value in kept)


def test_quantized_alone_is_chosen_where_nothing_faster_is_within_the_limit() -> None:
    assert choose(ORIGINAL, [_point(0.5, 899), _point(0.3, 860)], "max_drop", 1) == (0, True)
    assert choose(ORIGINAL, [_point(0.5, 870), _point(0.3, 860)], "max_drop", 1) == (0, False)


def test_a_point_is_taken_by_its_position_and_refused_beyond_the_last() -> None:
    points = [_point(0.5, 899), _point(0.3, 860)]
    assert choose(ORIGINAL, points, "point", 1) == (1, True)
    for value in (2, -1, 0.5):
        with pytest.raises(BadInput, match="points 0 to 1"):
            choose(ORIGINAL, points, "point", value)
    with pytest.raises(BadInput, match="max_drop, speedup"):
        choose(ORIGINAL, points, "fastest", 1)


def test_a_file_that_was_not_timed_is_never_fast_enough() -> None:
    untimed = Measurement("model.int8.onnx", "onnxruntime", 1, 1, 1)
    assert milliseconds(untimed) == float("inf")
    assert speedup(ORIGINAL, untimed) == speedup(untimed, ORIGINAL) == 0.0
