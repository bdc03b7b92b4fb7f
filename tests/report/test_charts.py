"""The pictures: well-formed, themeable, and showing every candidate they should."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gleanet.core.records import Curve, CurvePoint
from gleanet.report import charts, curves, tradeoff
from tests.report.example import example_run

RUN = example_run()
SHAPES = (charts.WIDE, charts.NARROW)
COLOURS = {charts.INK, charts.MUTED, charts.GRID, charts.ACCENT, charts.FAINT, charts.PAPER, "none", "transparent"}


def every_picture(shape: charts.Shape) -> list[str]:
    found = [
        tradeoff.steps(RUN.rows, shape, chosen=RUN.rows[-1]),
        charts.widths(RUN.widths, shape),
        charts.learning(RUN.curves, "accuracy", shape),
        charts.learning(RUN.curves, "loss", shape),
        charts.width_times(curves.width_curves(RUN.table), shape),
        charts.sensitivity(RUN.sensitivity, shape),
        charts.ranges(RUN.ranges, "mse", shape),
        tradeoff.candidates(RUN.trials, shape),
    ]
    return [svg for svg in found if svg is not None]


def texts(svg: str | None) -> set[str]:
    assert svg is not None
    return {element.text for element in ElementTree.fromstring(svg).iter("text") if element.text}


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_are_xml_in_placeholder_colours_only(shape: charts.Shape) -> None:
    """A colour that the style sheet does not know would be invisible in one of light and dark."""
    pictures = every_picture(shape)
    assert len(pictures) == 8
    for svg in pictures:
        ElementTree.fromstring(svg)
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) <= COLOURS
        assert "http" not in svg
        assert "role=" not in svg  # the figure around it speaks for the picture


def test_the_style_sheet_knows_every_placeholder() -> None:
    css = (Path(charts.__file__).parent / "page.css").read_text("utf-8")
    for colour in COLOURS - {"none", "transparent"}:
        for attribute in ("fill", "stroke"):
            assert f'.chart [{attribute}="{colour}"] {{ {attribute}: var(--' in css


def test_pictures_have_no_ids_to_clash_on_one_page() -> None:
    assert not [svg for shape in SHAPES for svg in every_picture(shape) if re.search(r"\bid=|url\(", svg)]


def test_the_tradeoff_names_every_row_and_marks_the_chosen_one() -> None:
    svg = tradeoff.steps(RUN.rows, charts.WIDE, chosen=RUN.rows[-1])
    assert {row.label for row in RUN.rows} <= texts(svg)
    assert svg is not None
    marked = [path for path in re.findall(r"<path[^>]*>", svg) if f'fill="{charts.ACCENT}"' in path]
    assert len(marked) == 1


def test_a_picture_without_figures_is_not_drawn() -> None:
    silent = [replace(row, measured=replace(row.measured, accuracy=None)) for row in RUN.rows]
    assert tradeoff.steps(silent, charts.WIDE) is None
    assert tradeoff.steps(RUN.rows[:1], charts.WIDE) is None
    assert charts.widths((), charts.WIDE) is None
    assert charts.learning((), "loss", charts.WIDE) is None
    assert charts.learning((Curve("x", (CurvePoint(0, 0, 0.1, 1.0),)),), "accuracy", charts.WIDE) is None


def test_every_layer_says_what_is_left() -> None:
    for shape in SHAPES:
        found = texts(charts.widths(RUN.widths, shape))
        assert {layer.layer for layer in RUN.widths} <= found
        assert any(text.startswith("24 of 64") for text in found)


def test_a_long_curve_is_thinned_but_keeps_its_level() -> None:
    points = tuple(CurvePoint(step / 1000, step, 0.1, 2.0 + (-1) ** step) for step in range(20_000))
    svg = charts.learning((Curve("noisy", points),), "loss", charts.WIDE)
    assert svg is not None
    assert len(svg) < 20_000


def test_markup_in_a_name_is_text() -> None:
    rows = [replace(RUN.rows[0], label="<script>a&b</script>"), *RUN.rows[1:]]
    svg = tradeoff.steps(rows, charts.WIDE)
    assert svg is not None
    assert "<script" not in svg
    assert "<script>a&b</script>" in texts(svg)


def test_a_picture_on_its_own_keeps_no_placeholder_without_a_colour() -> None:
    svg = charts.standalone(str(tradeoff.steps(RUN.rows, charts.WIDE)))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = svg[svg.index("<style>") : svg.index("</style>")]
    drawn = svg[svg.index("</style>") :]
    for attribute, colour in set(re.findall(r'(fill|stroke)="(#00000\d)"', drawn)):
        assert style.count(f'[{attribute}="{colour}"]') == 2  # light and dark


def test_every_measured_width_is_a_mark() -> None:
    drawn = curves.width_curves(RUN.table)
    assert [curve.side for curve in drawn] == ["inputs", "outputs"]
    for shape in SHAPES:
        svg = charts.width_times(drawn, shape)
        assert {"conv 3x3, 8 x 8 pixels", "Inputs of layer3.0.conv2 and 2 more", "µs"} <= texts(svg)
        assert svg is not None
        marks = [element for element in ElementTree.fromstring(svg).iter("path") if "A" in (element.get("d") or "")]
        assert len(marks) == sum(len(curve.points) + len(curve.odd) for curve in drawn)


def test_labels_of_a_small_scale_are_not_rounded_away() -> None:
    """Coordinates are shortened, what stands on the axis is not."""
    times = (0.04, 0.03, 0.02, 0.02, 0.01)
    small = [
        replace(row, measured=replace(row.measured, latencies=(replace(row.measured.latencies[0], p50_ms=ms),)))
        for row, ms in zip(RUN.rows, times, strict=True)
    ]
    svg = tradeoff.steps(small, charts.WIDE)
    assert svg is not None
    numbers = [e.text for e in ElementTree.fromstring(svg).iter("text") if re.fullmatch(r"0\.0\d+", e.text or "")]
    assert len(numbers) > 3
    assert len(numbers) == len({float(text or 0) for text in numbers} - {0.0}) + numbers.count("0.000")
