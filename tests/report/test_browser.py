"""The page in a real browser, opened as a file: it sorts, filters, speaks, copies, fits, and no checker finds fault with it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gleanet.core.records import Run, Trial, dumps
from gleanet.core.store import RunFolder
from gleanet.report import units
from gleanet.report.again import render_side_by_side
from gleanet.report.html import render
from gleanet.report.quantization import decisive, trial_table
from tests.report.axe import axe_source, violations
from tests.report.example import example_answers, example_run

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LOOKS = [("wide", WIDE, "light"), ("dark", WIDE, "dark"), ("narrow", NARROW, "light"), ("narrow-dark", NARROW, "dark")]
ROWS = "rows => rows.filter(row => row.checkVisibility()).map(row => row.querySelector('th').textContent)"


def long_run() -> Run:
    """The example with as many methods as ``--method all`` tries."""
    run = example_run()
    more = [
        replace(t, method=f"{t.method}-{k}", verdict="slower" if t.verdict == "chosen" else t.verdict) for k in range(9) for t in run.trials
    ]
    return replace(run, trials=(*run.trials, *more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "long"
    folder.mkdir()
    (folder / "run.json").write_bytes(dumps(long_run()))
    (folder / "answers.json").write_bytes(dumps(example_answers()))
    for name in ("base.onnx", "model.onnx", "model.int8.onnx", "model.gleanet"):
        (folder / name).write_bytes(b"x")
    render(long_run(), folder)
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> Path:
    """Three runs side by side."""
    others = [folder.parent / name for name in ("one", "two")]
    for other in others:
        other.mkdir()
        (other / "run.json").write_bytes(dumps(replace(example_run(), id=other.name, settings={"seed": other.name})))
    return render_side_by_side([RunFolder(folder), *map(RunFolder, others)], folder.parent / "both.html")


@contextmanager
def opened(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    """The page; whatever it asks of the network, and whatever goes wrong on it, fails the test."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url))
    try:
        page.goto(file.as_uri())
        yield page
        assert wrong == []
    finally:
        context.close()


def report(folder: Path) -> Path:
    return folder / "report.html"


def methods(page: Any) -> list[str]:
    """Names of the visible rows of the table of quantization."""
    found: list[str] = page.locator(".trials tbody tr").evaluate_all(ROWS)
    return found


@pytest.mark.parametrize(("name", "viewport", "scheme"), LOOKS)
def test_no_checker_finds_fault_and_nothing_sticks_out(
    browser: Any, folder: Path, both: Path, tmp_path: Path, name: str, viewport: dict[str, int], scheme: str
) -> None:
    source = axe_source()
    for file in (report(folder), both):
        with opened(browser, file, viewport=viewport, color_scheme=scheme) as page:
            page.locator("details").evaluate_all("all => all.forEach(one => { one.removeAttribute('name'); one.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert violations(page, source) == []
            picture = tmp_path / f"{name}.png"
            page.screenshot(path=picture, full_page=True)
            assert picture.stat().st_size > 50_000


def test_every_part_is_there(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder)) as page:
        assert page.locator("h1").inner_text().startswith("Half the work")
        links = page.locator("h1 a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
        assert links == ["model.int8.onnx", "model.onnx", "model.gleanet"]
        assert page.locator("section").count() == 12
        for target in page.locator("nav a").evaluate_all("all => all.map(one => one.getAttribute('href'))"):
            assert page.locator(target).is_visible()
        assert page.locator(".thumbs img").evaluate_all("all => all.every(one => one.naturalWidth === 32)")
        assert page.locator(".snippet").count() == 6


def test_it_opens_without_scripts_too(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder), java_script_enabled=False) as page:
        assert page.locator(".trials tbody tr").count() == len(long_run().trials)
        assert page.locator(".trials tbody tr").last.is_visible()
        assert page.locator("button").count() == 0


def test_a_long_table_shows_what_decides_and_the_rest_when_asked(browser: Any, folder: Path) -> None:
    table = trial_table(long_run().trials)
    with opened(browser, report(folder)) as page:
        section = page.locator("section", has=page.locator("#quantization"))
        assert methods(page) == [table.cells[row][0] for row in table.first]
        assert section.locator(".count").inner_text() == f"{len(table.first)} of {len(table.cells)} rows, those that matter most"
        section.get_by_role("button", name=f"Show all {len(table.cells)}").click()
        assert methods(page) == [row[0] for row in table.cells]
        section.get_by_role("button", name="Show fewer").click()
        assert len(methods(page)) == len(table.first)


def test_filters_are_words_and_verdicts(browser: Any, folder: Path) -> None:
    table = trial_table(long_run().trials)
    with opened(browser, report(folder)) as page:
        section = page.locator("section", has=page.locator("#quantization"))
        section.get_by_label("Verdict").select_option("too inaccurate")
        assert methods(page) == [row[0] for row, tag in zip(table.cells, table.tags, strict=True) if tag == "too inaccurate"]
        section.get_by_label("Filter").fill("DYNAMIC-3 too")
        assert methods(page) == ["dynamic-3"]
        section.get_by_label("Filter").fill("no such method")
        assert methods(page) == []
        assert section.locator(".count").inner_text().startswith("0 of ")


@pytest.mark.parametrize("column", ["Method", "On disk", "Accuracy", "Against float", "SQNR", "p50, batch 1"])
def test_a_column_sorts_both_ways_by_what_it_means(browser: Any, folder: Path, column: str) -> None:
    table = trial_table(long_run().trials)
    place = next(i for i, name in enumerate(table.header) if name.startswith(column))
    with opened(browser, report(folder)) as page:
        page.get_by_role("button", name=re.compile("^Show all")).first.click()
        head = page.locator(".trials thead th").nth(place)
        read = "(rows, place) => rows.map(row => row.cells[place].textContent.trim().replace(/\\u00a0/g, ' '))"
        for way, sign in (("ascending", 1), ("descending", -1)):
            head.get_by_role("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == way
            assert page.locator(".trials [aria-sort]").count() == 1
            shown = page.locator(".trials tbody tr").evaluate_all(read, place)
            numbers = [number for text in shown if (number := units.number(text)) is not None]
            if column == "Method":
                assert sorted(shown) != shown or sign > 0
                assert {re.split("[ -]", text)[0] for text in (shown[0], shown[-1])} == {"dynamic", "u8u8"}
            else:
                assert numbers == sorted(numbers, key=lambda number: sign * number)
                assert all(text == "–" for text in shown[len(numbers) :])  # what has no figure is last, both ways


def test_what_decides_is_little_and_holds_the_choice() -> None:
    trials = sorted(long_run().trials, key=lambda trial: trial.verdict != "chosen")
    rows = decisive(trials)
    assert 0 < len(rows) <= 12
    assert trials[rows[0]].verdict == "chosen"
    assert {trials[row].verdict for row in rows} == {"chosen", "slower", "too inaccurate", "failed"}
    assert decisive(trials[:12]) == ()


def said(page: Any) -> list[str]:
    box = page.locator(".tip-box")
    return str(box.inner_text()).split("\n") if box.is_visible() else []


def test_a_point_says_what_it_is_when_pointed_at(browser: Any, folder: Path) -> None:
    run = long_run()
    with opened(browser, report(folder)) as page:
        figure = page.locator("figure", has_text="Every quantization candidate")
        assert figure.locator(".wide .tip").count() == sum(trial.accuracy is not None for trial in run.trials)
        chosen = page.locator("figure", has_text="The steps").locator(".wide .tip").last
        chosen.hover()
        row = run.rows[-1]
        expected = [
            row.label,
            units.accuracy(row.measured.accuracy),
            "0.327 ms at batch 1",
            "20.2 M MACs, 225 kB",
            units.change(row.measured.change),
        ]
        assert said(page) == expected
        page.mouse.move(5, 5)
        assert said(page) == []


def test_the_arrow_keys_step_through_the_points(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder)) as page:
        chart = page.locator("figure", has_text="The steps").locator(".chart")
        chart.focus()
        names = []
        for _ in long_run().rows:
            page.keyboard.press("ArrowRight")
            names.append(said(page)[0])
        assert set(names) == {row.label for row in long_run().rows}
        assert names[0] == "quantized (U8S8)"  # from left to right
        page.keyboard.press("ArrowLeft")
        assert said(page)[0] == names[-2]
        page.keyboard.press("Escape")
        assert said(page) == []


def test_code_is_copied_as_it_stands(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder), permissions=["clipboard-read", "clipboard-write"]) as page:
        block = page.locator("section", has=page.locator("#again"))
        block.get_by_role("button", name="Copy").click()
        block.get_by_role("button", name=re.compile("Copied|Selected")).wait_for()
        assert page.evaluate("getSelection().toString() || navigator.clipboard.readText()") == block.locator("code").text_content()


def test_the_keyboard_reaches_the_content_first(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder)) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
        page.keyboard.press("Enter")
        assert page.url.endswith("#content")
        page.locator(".trials .sort").first.focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_narrow_screen_has_cards_that_can_be_sorted(browser: Any, folder: Path) -> None:
    with opened(browser, report(folder), viewport=NARROW) as page:
        section = page.locator("section", has=page.locator("#quantization"))
        assert section.locator(".trials thead").is_hidden()
        section.get_by_label("Verdict").select_option("too inaccurate")
        section.get_by_label("Sort by").select_option(label="Method ↓")
        assert methods(page)[0].startswith("u8u8")
        section.get_by_label("Sort by").select_option(label="Method ↑")
        assert methods(page)[0].startswith("dynamic")


def test_paper_has_what_was_shown_and_no_tools(browser: Any, folder: Path, tmp_path: Path) -> None:
    with opened(browser, report(folder), viewport={"width": 700, "height": 900}) as page:
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for hidden in (".tools", ".copy", "nav"):
            assert page.locator(hidden).first.is_hidden()
        assert page.locator(".trials tbody tr:not([hidden])").count() == len(trial_table(long_run().trials).first)
        assert len(page.pdf()) > 10_000


def test_a_deep_network_stays_below_three_megabytes(tmp_path: Path) -> None:
    run = long_run()
    deep = replace(run, widths=run.widths * 6, ranges=run.ranges * 60, sensitivity=run.sensitivity * 30, curves=run.curves * 2)
    (tmp_path / "answers.json").write_bytes(dumps(example_answers(10_000)))
    assert render(deep, tmp_path).stat().st_size < 3_000_000


def test_names_from_a_record_are_text_in_the_browser(browser: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)><b>n</b>"
    run = long_run()
    trials: tuple[Trial, ...] = tuple(replace(trial, method=f"{evil}{k}", verdict=trial.verdict) for k, trial in enumerate(run.trials))
    rows = (replace(run.rows[0], label=evil), *run.rows[1:])
    render(replace(run, trials=trials, rows=rows, notes=(evil,)), tmp_path)
    with opened(browser, tmp_path / "report.html") as page:
        assert page.locator("img, .trials b").count() == 0
        page.locator("figure", has_text="The steps").locator(".wide .tip").nth(1).hover()
        chart = page.locator("figure", has_text="The steps").locator(".chart")
        chart.focus()
        for _ in run.rows:
            page.keyboard.press("ArrowRight")
            assert page.locator(".tip-box img").count() == 0
