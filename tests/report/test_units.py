"""Rounding and wording of every kind of number."""

import pytest

from gleanet.core.records import Accuracy, Change
from gleanet.core.stats import wilson
from gleanet.report import units


@pytest.mark.parametrize(
    ("correct", "n", "text"),
    [
        (10_000, 10_000, "100.0 %"),
        (9_999, 10_000, "99.9 %"),  # one miss never prints as none
        (0, 10_000, "0.0 %"),
        (1, 10_000, "0.1 %"),
        (8_801, 10_000, "88.0 %"),
    ],
)
def test_only_a_whole_is_a_hundred_percent(correct: int, n: int, text: str) -> None:
    assert units.percent(correct / n) == text
    assert units.accuracy(wilson(correct, n)).startswith(text)


def test_accuracy_and_change_carry_their_intervals() -> None:
    assert units.accuracy(Accuracy(88, 100, 0.802, 0.93)) == "88.0 % (80.2 to 93.0)"
    assert units.change(Change(-0.006, -0.011, -0.002, 100)) == "−0.6 points (−1.1 to −0.2)"
    assert units.change(Change(0.003, -0.0002, 0.006, 100)) == "+0.3 points (0.0 to +0.6)"  # never −0.0
    assert units.accuracy(None) == units.change(None) == units.size(None) == units.milliseconds(None) == units.times(None) == "–"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 k"),
        (269_722, "269.7 k"),
        (999_960, "1.0 M"),
        (40_551_808, "40.6 M"),
        (4_089_184_256, "4.1 G"),
    ],
)
def test_counts(number: int, text: str) -> None:
    assert units.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (999, "999 bytes"), (224_871, "225 kB"), (1_095_213, "1,095 kB"), (46_827_520, "46.8 MB")]
)
def test_sizes(number: int, text: str) -> None:
    assert units.size(number) == text


@pytest.mark.parametrize(("value", "text"), [(0.4123, "0.412 ms"), (1.234, "1.23 ms"), (12.34, "12.3 ms"), (1305.4, "1,305 ms")])
def test_times_have_three_digits(value: float, text: str) -> None:
    assert units.milliseconds(value) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.934, "0.93×"), (0.996, "1.0×"), (2.6, "2.6×"), (9.96, "10×"), (12.4, "12×")])
def test_speedups(ratio: float, text: str) -> None:
    assert units.times(ratio) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (59.9, "1 min 0 s"), (1874.2, "31 min 14 s"), (7384, "2 h 3 min")])
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), ("", "–"), ([], "–"), (True, "yes"), (0, "0"), (0.5, "0.5"), (["a", 1], "a, 1"), ({"a": None}, "a –")],
)
def test_settings_in_words(value: object, text: str) -> None:
    assert units.plain(value) == text
