"""What the page, the card and the terminal show of a frontier."""

from dataclasses import replace

import pytest

from gleanet.cli.jobs import print_run
from gleanet.core.errors import StoreError
from gleanet.core.records import Change, Frontier, Latency, LayerWidth, Measurement, Point, Row, Run
from gleanet.core.stats import wilson
from gleanet.report import document, frontier_table, model_card, page, verdict
from tests.report.example import example_run


def _measured(ms: float, right: int) -> Measurement:
    delta = (right - 8801) / 10_000
    change = Change(delta, delta - 0.004, delta + 0.004, 10_000)
    return Measurement("model.int8.onnx", "onnxruntime", 1, 1, 300_000, wilson(right, 10_000), (Latency(1, 1, 300, ms, ms),), change)


def _point(index: int, ms: float, right: int, dropped: tuple[str, ...]) -> Point:
    measured = _measured(ms, right)
    assert measured.accuracy is not None
    assert measured.change is not None
    widths = (LayerWidth("layer1.0.conv1", 16, 8, 100, 50),) if dropped else ()
    return Point(f"frontier/{index}", dropped, widths, "u8s8", measured.accuracy, measured.change, measured, ms * 1.04)


def frontier_run(chosen: int = 1, met: bool = True) -> Run:
    points = (_point(0, 0.40, 8790, ()), _point(1, 0.25, 8760, ("layer1.0", "layer<1>")), _point(2, 0.20, 8500, tuple("abcde")))
    return replace(example_run(), frontier=Frontier(_measured(0.80, 8801), points, chosen, "max_drop", 1.0, met))


def test_every_point_is_a_row_and_the_delivered_one_is_marked() -> None:
    table = frontier_table(frontier_run().frontier)
    assert [row[0] for row in table.cells] == ["float, as given", "quantized alone", "point 1", "point 2"]
    assert table.strong == 2
    row = dict(zip(table.header, table.cells[2], strict=True))
    assert row["Speed-up over float"] == "3.2×"
    assert row["Speed-up over quantized alone"] == "1.6×"
    assert row["Predicted time"] == "0.260 ms, +4 %"
    assert table.cells[3][1] == "5 branches dropped: a, b, c and 2 more; 1 layer narrowed"
    assert {len(cells) for cells in table.cells} == {len(table.header)}


def test_the_sentence_compares_with_float_and_with_quantized_alone() -> None:
    assert verdict(frontier_run().frontier) == (
        "Delivered: point 1. It is 3.2× as fast as the float file, accuracy −0.4 points (−0.8 to 0.0), "
        "and 1.6× as fast as quantized alone, accuracy −0.3 points."
    )
    assert verdict(frontier_run(chosen=0).frontier).startswith("Delivered: quantized alone, not pruned. It is 2.0× as fast")
    assert verdict(frontier_run(met=False).frontier).startswith("No point meets --max-drop 1. Delivered: point 1.")


def test_page_card_and_terminal_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    run = frontier_run()
    text = document(run)
    assert text.index('id="frontier"') < text.index('id="results"')
    assert "layer&lt;1&gt;" in text
    assert "layer<1>" not in text
    assert "## Frontier" in model_card(run)
    print_run(run)
    assert verdict(run.frontier) in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [3, -1])
def test_a_delivered_point_that_is_not_there_is_one_line(chosen: int) -> None:
    for show in (document, model_card):
        with pytest.raises(StoreError, match="a frontier of 3 points"):
            show(frontier_run(chosen))


def test_a_budget_run_is_compared_with_quantized_alone() -> None:
    run = example_run()
    alone = Row("quantized alone", "quantized-alone", _measured(0.40, 8790))
    beside = "Against the network quantized and not pruned: 1.2× as fast, 86.0 % accurate instead of 87.9 %."
    assert beside in page(replace(run, rows=(*run.rows, alone))).context
    assert beside not in page(run).context


def test_a_run_without_a_frontier_is_shown_as_before() -> None:
    run = example_run()
    assert 'id="frontier"' not in document(run)
    assert "## Frontier" not in model_card(run)
    assert verdict(None) == ""
