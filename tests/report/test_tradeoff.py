"""Every candidate is a point that says what it is: the chosen one is marked, what another one beats is faint, names cover little."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleanet.core.records import Trial
from gleanet.core.stats import wilson
from gleanet.report import charts, tradeoff
from gleanet.report.labels import LINE, Spot, place
from tests.report.example import example_run

RUN = example_run()


def marks(svg: str | None) -> dict[str, ElementTree.Element]:
    """Marks by the first line of what they say."""
    assert svg is not None
    found = [element for element in ElementTree.fromstring(svg).iter() if element.get("class") == "tip"]
    return {str(element.findtext("title")).split("\n")[0]: element for element in found}


def point(ms: float, value: float, kind: str = "") -> tradeoff.Point:
    return tradeoff.Point(f"{ms} {value}", kind, ms, value, value - 1, value + 1, "")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_what_is_faint_is_beaten_and_nothing_else(pairs: list[tuple[int, int]]) -> None:
    found = tradeoff.ranked([point(ms, value) for ms, value in pairs])
    for one in found:
        better = [o for o in found if o.ms <= one.ms and o.value >= one.value and (o.ms < one.ms or o.value > one.value)]
        assert (one.kind == "beaten") == bool(better)


def test_every_candidate_with_figures_says_name_accuracy_and_time() -> None:
    found = marks(tradeoff.candidates(RUN.trials, charts.WIDE))
    measured = [trial for trial in RUN.trials if trial.accuracy is not None]
    assert set(found) == {trial.method for trial in measured}
    said = str(found["u8s8 per channel"].findtext("title"))
    assert said == "u8s8 per channel\n86.0 % (85.3 to 86.6)\n0.327 ms at batch 1\nchosen\n225 kB, SQNR 26.4 dB"
    looks = {name: (element.get("fill"), float(element.get("opacity") or 1)) for name, element in found.items()}
    assert [name for name, (fill, _) in looks.items() if fill == charts.ACCENT] == ["u8s8 per channel"]
    assert looks["dynamic"][1] < 0.5
    assert looks["s8s8 per channel"][1] < 0.5 or looks["s8s8 per channel"][0] == charts.INK


def test_the_float_file_is_there_when_it_was_measured() -> None:
    base = (wilson(8638, 10_000), RUN.rows[3].measured.latencies)
    assert "float" in marks(tradeoff.candidates(RUN.trials, charts.WIDE, base=base))


def test_figures_in_what_is_said_are_not_shortened() -> None:
    """Coordinates are."""
    rows = [
        replace(row, measured=replace(row.measured, latencies=(replace(row.measured.latencies[0], p50_ms=0.0372),))) for row in RUN.rows
    ]
    svg = tradeoff.steps(rows, charts.WIDE)
    assert "0.037 ms at batch 1" in str(marks(svg)["as given"].findtext("title"))
    drawn = re.sub(r"<title>[^<]*</title>|<text[^>]*>[^<]*", "", str(svg))
    assert not re.search(r"\d\.\d{3}", drawn)


def test_what_lies_far_outside_is_at_the_edge_and_says_its_own_figures() -> None:
    def trial(name: str, correct: int, ms: float) -> Trial:
        latency = replace(RUN.trials[0].latencies[0], p50_ms=ms)
        return Trial(name, "slower", "", accuracy=wilson(correct, 1000), latencies=(latency,))

    svg = tradeoff.candidates(
        [trial("good", 900, 1.0), trial("fast", 890, 0.9), trial("broken", 100, 0.95), trial("slow", 880, 9.0)], charts.WIDE
    )
    found = marks(svg)
    assert "10.0 % (" in str(found["broken"].findtext("title"))
    assert "9.00 ms" in str(found["slow"].findtext("title"))
    shapes = {name: str(element.get("d")).count("A") for name, element in found.items()}
    assert {name for name, arcs in shapes.items() if arcs == 0} == {"broken", "slow"}  # triangles


@pytest.mark.parametrize("shape", [charts.WIDE, charts.NARROW])
def test_names_do_not_cover_each_other(shape: charts.Shape) -> None:
    spots = [Spot(100.0 + 3 * i, 150.0 + 2 * i, 140.0, 165.0) for i in range(5)]
    found = place(spots, ["name"] * 5, spots, shape)
    for index, one in enumerate(found):
        assert one.left >= 0
        assert one.left + one.width <= shape.width + 40
        for other in found[:index]:
            assert abs(one.y - other.y) >= LINE or one.left + one.width <= other.left or other.left + other.width <= one.left
