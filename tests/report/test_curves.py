"""What the curves of a table of times say: the numbers are the record's, and the price of an unaligned width is in words."""

from dataclasses import replace
from typing import cast

from gleanet.core.records import LatencyTable
from gleanet.report import curves
from tests.report.example import example_run

TABLE = cast(LatencyTable, example_run().table)


def test_a_curve_varies_one_side_and_holds_the_other_whole() -> None:
    inputs, outputs = curves.width_curves(TABLE)
    first, second = TABLE.layers[:2]
    assert inputs.points == tuple(zip(first.ins, first.ms[0], strict=True))
    assert outputs.points == tuple((out, row[0]) for out, row in zip(second.outs, second.ms, strict=True))
    assert [width for width, _ in inputs.odd] == [31, 63]
    assert outputs.total_ms == 2 * second.ms[-1][-1]


def test_a_layer_with_both_sides_free_gives_two_curves() -> None:
    both = replace(TABLE.layers[0], outs=(32, 48, 64), ms=tuple(TABLE.layers[0].ms[0] for _ in range(3)))
    found = curves.width_curves(replace(TABLE, layers=(both,)))
    assert [(curve.side, len(curve.points)) for curve in found] == [("outputs", 3), ("inputs", 8)]


def test_the_caption_says_where_and_what_an_unaligned_width_costs() -> None:
    """31 inputs take 1.5 * 31 / 32 = 1.45 times 32; of the outputs, 15 take 1.5 times 16: the dearest is named."""
    text = curves.curve_caption(TABLE, "Some CPU")
    assert "onnxruntime on Some CPU, one thread, batch 1, 300 interleaved rounds" in text
    assert "An unaligned width costs up to 1.5 times the next wider aligned one: 15 outputs of layer2.1.conv1 and 1 more take" in text
    aligned = replace(TABLE, layers=tuple(replace(layer, odd=()) for layer in TABLE.layers))
    assert "nligned" not in curves.curve_caption(aligned, "").split("taken off.")[1]
    assert curves.curve_caption(None, "x") == ""


def test_the_picture_shows_the_layers_that_take_the_time() -> None:
    few = replace(TABLE.layers[0], ms=(tuple(ms / 100 for ms in TABLE.layers[0].ms[0]),))
    many = curves.width_curves(replace(TABLE, layers=(few, *(TABLE.layers[1],) * 6)))
    chosen = curves.picked(many)
    assert few.layers[0] not in {curve.name.split(" ")[0] for curve in chosen}
    assert len(many) == 7


def test_the_table_lists_every_curve() -> None:
    table = curves.curve_table(TABLE)
    assert [row[0] for row in table.cells] == ["layer3.0.conv2 and 2 more (inputs)", "layer2.1.conv1 and 1 more (outputs)"]
    assert table.cells[1][2] == "8: 11.5, 16: 11.5, 24: 23.0, 32: 23.0"
