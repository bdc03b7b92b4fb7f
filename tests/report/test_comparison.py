"""The tables and the page of a comparison: what was measured is there, what is foreign is escaped."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gleanet.core.errors import StoreError
from gleanet.core.framework_entries import Attributes, Calls, Cell, Check, Conclusion, Entry, Round, Spread
from gleanet.core.records import Run, dumps, loads
from gleanet.report import attribute_table, comparison_tables, render_comparison
from gleanet.report.comparison_page import answer, comparison_document

CALLS = Calls(Spread(12.0, 13.0), Spread(10.0, 11.0), 0.5)
CHECK = Check("float32", 1e-7, "right", "first", 0.0, 2e-6, 2e-6, "conv1.w", 1e-8, (2.3, 2.1), 1e-6)
FAST = Entry(
    "fast",
    "Fast",
    "default",
    status="ok",
    version="1.0",
    python="3.8.18",
    max_relative_gradient_error=2e-6,
    check=CHECK,
    lines=9,
    tokens=140,
    cold_s=3.0,
    bytes=200_000_000,
    rounds=(Round(0.5, 0.1, CALLS, CALLS, 10**8),),
    import_s=0.5,
    build_s=0.1,
    step=CALLS,
    inference=CALLS,
    memory=10**8,
    cores_used=0.98,
    place=(1, 1),
    inference_place=(1, 2),
)
SLOW = replace(FAST, name="slow", title="<b>Slow</b>", step=replace(CALLS, cpu=Spread(40.0, 41.0)), place=(2, 2), to_fastest=(3.9, 4.1))
BROKEN = Entry("broken", "Broken", "default", status="failed", reason="SIGSEGV <script>")
TIED = replace(FAST, name="tied", title="Tied", check=replace(CHECK, dtype="float64", gradient_error=1e-15, gradient_error_float32=2e-2))


def run_of(*entries: Entry) -> Run:
    """A record as it comes back from its file."""
    table = Attributes(
        {"licence": "Licence"},
        {"Fast": {"licence": Cell("MIT", "https://example.org/a?b=1&c=2")}, "Slow": {"licence": Cell("?", "javascript:alert(1)")}},
    )
    results = {
        "frameworks": entries,
        "conclusions": (Conclusion("All is <i>fast</i>", "refuted", "4 times"),),
        "attributes": table,
        "load": 3.0,
    }
    settings = {"names": ["fast"], "steps": 20, "threads": 1, "rounds": 1}
    run = Run("r", "frameworks run", "m", "done", "2026-01-01T00:00:00+00:00", 61.0, settings, {"python": "3.11"}, {"cpu": "A CPU"})
    return loads(dumps(replace(run, data={"title": "digits"}, results=results)), Run, "r")


def test_the_tables_hold_every_row_with_its_numbers() -> None:
    correct, training, inference, costs, absent, conclusions = comparison_tables(run_of(SLOW, FAST, BROKEN))
    assert [row[0] for row in correct.cells] == ["<b>Slow</b>", "Fast"]
    assert correct.cells[1][1:] == ("1.0", "2e-06", "2e-06", "1e-07", "first", "0", "2.1000", "1e-06", "right")
    assert training.cells[0] == ("Fast", "1.0", "10.0 ms", "11.0 ms", "12.0 ms", "13.0 ms", "–", "1", "140", "9"), "the fastest first"
    assert training.cells[1][6:8] == ("3.90 to 4.10", "2")
    assert inference.cells[0][7] == "1 to 2"
    assert costs.cells[1] == ("Fast", "3.8.18", "0.5 s", "0.1 s", "0.5 s", "3.0 s", "100.0 MB", "200.0 MB", "0.98")
    assert absent.cells == (("Broken", "failed", "SIGSEGV <script>"),)
    assert conclusions.cells == (("All is <i>fast</i>", "refuted", "4 times"),)


def test_ties_broken_by_rounding_are_said() -> None:
    row = comparison_tables(run_of(TIED))[0].cells[0]
    assert row[2] == "1e-15 (float64)"
    assert row[3] == "2e-02"
    assert row[-1] == "right; in float32 rounding breaks ties"


def test_a_drift_that_float64_does_not_have_is_rounding() -> None:
    check = replace(CHECK, loss_drift=3e-4, loss_drift_float64=2e-16)
    row = comparison_tables(run_of(replace(FAST, check=check)))[0].cells[0]
    assert row[-1] == "right; by step 2 rounding has tipped a decision (float64: off by 2e-16)"
    assert comparison_tables(run_of(replace(FAST, check=replace(check, loss_drift_float64=1e-3))))[0].cells[0][-1] == "right"


def test_what_is_wrong_has_no_time() -> None:
    wrong = replace(FAST, status="wrong", reason="the gradient of conv1.w differs by 1.0e-03", rounds=(), step=None, inference=None)
    titles = [table.header[0] for table in comparison_tables(run_of(wrong))]
    assert titles == ["Framework", "No result", "The paper says"]


def test_the_answer_counts_and_compares() -> None:
    assert answer((FAST, SLOW, BROKEN)) == (
        "2 of 2 ways to train the same network compute the right gradients; "
        "a step takes 4.0× as much processor time in <b>Slow</b> as in Fast."
    )


def test_the_page_escapes_links_only_to_the_web_and_loads_nothing(tmp_path: Path) -> None:
    run = run_of(SLOW, FAST, BROKEN)
    path = render_comparison(run, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text == comparison_document(run)
    assert "<script" not in text
    assert "&lt;b&gt;Slow&lt;/b&gt;" in text
    assert "javascript:" not in text
    links: list[str] = []
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br"):
                opened.append(tag)
            links.extend(value or "" for name, value in attrs if name in ("href", "src"))

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(text)
    assert not opened, "every element is closed"
    assert links == ["https://example.org/a?b=1&c=2"]
    assert "The machine was not quiet (load up to 3.0)" in text


def test_a_run_of_another_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="r is a run of `gleanet shrink`"):
        render_comparison(replace(run_of(FAST), command="shrink"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_attribute_table_marks_what_has_no_page() -> None:
    found = Attributes(
        {"a": "A"}, {"X": {"a": Cell("yes", "measured")}, "Y": {"a": Cell("no", "")}, "Z": {"a": Cell("so", "https://example.org")}}
    )
    assert attribute_table(found).cells == (("X", "yes *"), ("Y", "no ?"), ("Z", "so"))
