"""What the page and the terminal say about a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from gleanet.core.records import Change, Row, Run
from gleanet.core.settings import ShrinkSettings, Training, plain
from gleanet.report import quantization, tables, units, view
from tests.report.example import example_run

GOLD = Path(__file__).parent / "gold" / "tables.txt"


def with_last(run: Run, **fields: object) -> Run:
    """The run with fields of its last row's measurement replaced."""
    last = run.rows[-1]
    return replace(run, rows=(*run.rows[:-1], replace(last, measured=replace(last.measured, **fields))))  # type: ignore[arg-type]


def test_the_answer_comes_first() -> None:
    assert view.answer(example_run()) == (
        "Half the work (49.8 % of the MACs), 4.9 times smaller, 2.6 times as fast at batch 1 on one thread of this CPU, "
        "accuracy −2.1 points (−2.7 to −1.4); these are the files: model.int8.onnx and model.onnx."
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.5, "Half the work (50.0 % of the MACs)"),
        (0.33, "A third of the work (33.0 % of the MACs)"),
        (0.25, "A quarter of the work (25.0 % of the MACs)"),
        (0.61, "61.0 % of the work (MACs)"),
        (0.52, "52.0 % of the work (MACs)"),  # over half is not half
        (1.0, "The same work (MACs)"),
    ],
)
def test_the_answer_names_the_work_that_is_left(share: float, words: str) -> None:
    run = example_run()
    macs = round(run.rows[0].measured.macs * share)
    assert view.answer(with_last(run, macs=macs)).startswith(words + ", ")


def test_a_loss_is_called_a_loss() -> None:
    worse = with_last(example_run(), bytes=2 * 1_095_213, speedup={"1": 0.8})
    assert "2.0 times larger, 0.80 times as fast" in view.answer(worse)


def test_without_accuracy_the_answer_claims_none() -> None:
    run = example_run()
    rows = tuple(replace(row, measured=replace(row.measured, accuracy=None, change=None)) for row in run.rows)
    page = view.page(replace(run, rows=rows))
    assert "accuracy" not in view.answer(replace(run, rows=rows))
    assert "Accuracy was not measured" in page.context[0]


@pytest.mark.parametrize(("low", "high", "told"), [(-0.004, 0.002, True), (-0.004, -0.001, False), (0.001, 0.004, False)])
def test_a_change_within_the_noise_is_called_that(low: float, high: float, told: bool) -> None:
    page = view.page(with_last(example_run(), change=Change((low + high) / 2, low, high, 10_000)))
    assert ("cannot be told apart" in page.context[0]) is told


def test_a_run_with_one_network_says_what_it_is() -> None:
    run = example_run()
    assert view.answer(replace(run, rows=run.rows[1:2])) == "resnet20: 88.0 % (87.4 to 88.6) accurate, 40.6 M MACs, 1,095 kB."
    assert view.answer(replace(run, rows=(), status="running")) == "resnet20: no result yet."


def test_the_fair_baseline_is_the_fine_tuned_network() -> None:
    rows = example_run().rows
    found = tables.baseline(rows)
    assert found is not None
    assert found.role == "fine-tuned"
    unmeasured = tuple(replace(row, measured=replace(row.measured, change=None)) for row in rows)
    assert tables.baseline(unmeasured) is unmeasured[1]
    given = tuple(row for row in unmeasured if row.role != "fine-tuned")
    assert tables.baseline(given) is given[0]
    assert tables.baseline(()) is None


def test_the_run_is_about_the_last_stage_it_reached() -> None:
    rows = example_run().rows
    for end in range(1, len(rows) + 1):
        found = tables.final(rows[:end])
        assert (found.role if found else None) == [None, None, "one-shot", "recovered", "quantized"][end - 1]


def test_speedups_come_from_the_record_or_from_the_medians() -> None:
    run = example_run()
    base, last = run.rows[1], run.rows[-1]
    latency = last.measured.latencies[1]
    assert tables.speedup(last, base, latency) == last.measured.speedup["64"]
    silent = Row(last.label, last.role, replace(last.measured, speedup={}))
    assert tables.speedup(silent, base, latency) == pytest.approx(44.6 / 15.2)


def test_trials_are_ordered_by_verdict_then_speed() -> None:
    table = quantization.trial_table(example_run().trials)
    assert [row[1] for row in table.cells] == ["chosen"] + 4 * ["slower"] + 2 * ["too inaccurate"] + ["failed"]
    speeds = [float(row[8].removesuffix(" ms")) for row in table.cells[1:5]]
    assert speeds == sorted(speeds)
    assert table.strong == 0
    assert quantization.trial_table(example_run().trials[:1]).strong is None


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        (
            "0.907 ms at batch 1 (float 1.57), 50.7 ms at batch 64 (float 82.2): 0.60 of the float time, u8s8-pad takes 0.56: ONNX Runtime "
            "runs 30 of its 58 layers in float",
            "0.60 of the float time, the chosen one takes 0.56: ONNX Runtime runs 30 of its 58 layers in float",
        ),
        (
            "saves bytes, the runtime computes in float: 0.0594 ms at batch 1 (float 0.0376): 1.62 of the float time, u8s8-pad takes 0.64",
            "saves bytes, the runtime computes in float: 1.62 of the float time, the chosen one takes 0.64",
        ),
        ("loses 5.63 points (95 % interval -7.59 to -3.98, 746 images), the limit is 1 points", "loses 5.63 points, the limit is 1 points"),
        ("as fast as u8s8-pad within the noise of timing", "as fast as the chosen one within the noise of timing"),
        ("as fast as u8s8-pad-mse within the noise of timing", "as fast as u8s8-pad-mse within the noise of timing"),
    ],
)
def test_why_leaves_out_what_stands_in_other_columns(reason: str, short: str) -> None:
    assert quantization.why(reason, "u8s8-pad") == short


def test_figures_can_be_sorted_by_what_they_say() -> None:
    cells = [
        "1,095 kB",
        "12.3 MB",
        "812 bytes",
        "0.412 ms",
        "1,305 ms",
        "−0.6 points (−1.1 to −0.2)",
        "98.0 %",
        "2.6×",
        "40.6 M",
        "26.4 dB",
        "–",
        "u8s8",
    ]
    keys = [1_095_000, 12_300_000, 812, 0.412, 1305, -0.6, 98.0, 2.6, 40_600_000, 26.4, None, None]
    assert [units.number(cell) for cell in cells] == keys


def test_what_repair_did_and_what_calibration_saw_is_shown() -> None:
    page = view.page(example_run())
    assert [(row[0], row[2]) for row in page.repair.cells] == [
        ("equalization", "-0.2 dB, taken back"),
        ("bias correction", "+3.2 dB"),
        ("layers in float", "+2.5 dB"),
    ]
    assert page.repair.cells[2][4] == "conv1"
    assert page.sensitivity.cells[0] == ("conv1", "21.5 dB", "28.2 dB")
    assert page.ranges.header == ("Tensor", "Seen", "percentile", "mse")
    assert page.ranges.cells[0] == ("layer1.0.relu", "0 to 9.25", "0 to 4.5", "0 to 5.12")
    assert page.ranges.cells[1][2:] == ("–", "–")


def test_node_types_before_stand_above_those_after() -> None:
    trial = replace(example_run().trials[0], nodes={"QLinearConv": 2, "Conv": 3}, left_float=("a", "b"), saturated=("c",))
    run = replace(example_run(), trials=(trial,), results={"quantization": {"float_nodes": {"Conv": 5}}})
    assert view.page(run).nodes.cells == (
        ("before", "Conv 5", "all", "–"),
        (trial.method, "Conv 3, QLinearConv 2", "a, b", "c"),
    )


def test_every_row_is_as_long_as_its_header() -> None:
    page = view.page(example_run())
    for table in (page.results, page.trials, page.nodes, page.sensitivity, page.repair, page.ranges, page.widths, *page.facts):
        assert table.cells
        assert {len(row) for row in table.cells} == {len(table.header)}


def test_nested_settings_have_dotted_names() -> None:
    assert tables.fact_table("Settings", {"a": {"b": {"c": 1}}, "d": {}}).cells == (("a.b.c", "1"), ("d", "–"))


def test_links_go_to_the_files_that_are_there() -> None:
    run = example_run()
    assert [file.name for file in view.page(run, ["run.json", "model.onnx"]).files] == ["model.onnx", "run.json"]
    assert [file.name for file in view.page(run).files] == ["model.int8.onnx", "model.onnx", "base.onnx"]


def test_the_command_can_be_pasted() -> None:
    settings = plain(ShrinkSettings("a b.gleanet", "digits", fair_baseline=True, training=Training(epochs=2)))
    run = replace(example_run(), command="shrink", settings=settings)
    assert view.page(run).command == "gleanet shrink 'a b.gleanet' --data digits --fair-baseline --epochs 2"
    assert view.page(replace(run, settings={"of": "another version"})).command == "gleanet shrink"


def test_the_tables_read_as_they_did() -> None:
    """Delete gold/tables.txt and run again to accept a change of wording; look at the difference first."""
    page = view.page(example_run())
    lines = [" | ".join(row) for table in (page.results, page.trials, page.widths) for row in (table.header, *table.cells)]
    text = "\n".join(lines) + "\n"
    if not GOLD.exists():
        GOLD.parent.mkdir(exist_ok=True)
        GOLD.write_text(text, "utf-8")
        pytest.fail(f"wrote {GOLD}: look at it, then run again")
    assert text == GOLD.read_text("utf-8")
