"""The page as a browser reads it: self-contained, escaped, complete, and honest to the record."""

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gleanet.core.errors import StoreError
from gleanet.core.records import LayerWidth, Run, dumps, loads
from gleanet.report import tables, view
from gleanet.report.html import document, filled, render
from gleanet.report.pictures import pictures
from tests.report.example import example_answers, example_run

VOID = {"meta", "br", "img", "input", "link", "hr"}


@dataclass
class Grid:
    """One table of the page: the caption's and each cell's text."""

    caption: str = ""
    cells: list[list[str]] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)


class Reader(HTMLParser):
    """Text, tables and tags of a page; fails on a tag that closes another."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.grids: list[Grid] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.grids.append(Grid())
        elif tag == "tr":
            self.grids[-1].cells.append([])
        elif tag in ("td", "th"):
            self.grids[-1].cells[-1].append("")
            if tag == "th":
                self.grids[-1].scopes.append(dict(attrs).get("scope"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open or "script" in self._open:
            return
        self.text.append(data)
        if "caption" in self._open:
            self.grids[-1].caption += data
        elif "td" in self._open or "th" in self._open:
            self.grids[-1].cells[-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def bare(run: Run) -> Run:
    """The run with every optional part gone."""
    return replace(
        run,
        rows=(),
        widths=(),
        table=None,
        interface=None,
        trials=(),
        ranges=(),
        sensitivity=(),
        repair=(),
        curves=(),
        notes=(),
        data={},
        machine={},
        versions={},
        settings={},
    )


RUN = example_run()
ANSWERS = example_answers()
PICTURES = pictures(RUN)  # drawing takes most of the time
PAGE = filled("page.html.j2", page=view.page(RUN, answers=ANSWERS), pictures=PICTURES, linked=False)
SCRIPT = (Path(view.__file__).parent / "page.js").read_text("utf-8")


def test_the_page_needs_nothing_from_anywhere() -> None:
    reader = Reader(PAGE)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert ":" not in (attributes.get(name) or "").removeprefix("data:image/png;base64,")
    assert "http" not in re.sub(r"http-equiv|base64,[^\"]*", "", PAGE)
    assert not re.search(r"url\((?!#)|@import|@font-face", PAGE)
    assert "default-src 'none'" in PAGE


def test_the_only_script_is_ours_and_the_policy_allows_no_other() -> None:
    policy = next(attributes["content"] for _, attributes in Reader(PAGE).tags if attributes.get("http-equiv"))
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in str(policy)
    assert PAGE.count("<script") == 1
    assert f"<script>{SCRIPT}</script>" in PAGE
    assert not [name for _, attributes in Reader(PAGE).tags for name in attributes if name.startswith("on")]


def test_every_table_has_a_caption_and_scoped_headers() -> None:
    reader = Reader(PAGE)
    assert len(reader.grids) == 15
    for grid in reader.grids:
        assert grid.caption.strip()
        assert set(grid.scopes) <= {"row", "col"}
        assert len({len(row) for row in grid.cells}) == 1


@pytest.mark.parametrize(
    ("index", "table"), [(0, view.page(RUN).results), (1, view.page(RUN).widths), (2, view.page(RUN).times), (3, view.page(RUN).trials)]
)
def test_the_numbers_on_the_page_are_the_records(index: int, table: tables.Table) -> None:
    grid = Reader(PAGE).grids[index]
    shown = [[" ".join(text.split()) for text in row] for row in grid.cells]
    assert shown == [list(table.header), *(list(row) for row in table.cells)]


def test_the_page_opens_with_the_answer_and_ends_with_how_to_repeat_it() -> None:
    words = Reader(PAGE).words
    assert words.index(view.answer(RUN)) < words.index("What each step cost") < words.index(RUN.command)
    for fact in ("seed 0", "torch 2.13.0+cpu", "Intel(R) Xeon(R) Processor", "AVX512_VNNI", "CIFAR-10 (JPEG q75)", *RUN.notes):
        assert fact in words.replace("seed0", "seed 0").replace("torch2", "torch 2")


def test_pictures_have_words_and_every_label_points_somewhere() -> None:
    reader = Reader(PAGE)
    pictures = [attributes for _, attributes in reader.tags if attributes.get("role") == "img"]
    assert len(pictures) == 8
    assert all(len(attributes.get("aria-label") or "") > 40 for attributes in pictures)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for _, attributes in reader.tags if "aria-labelledby" in attributes} <= set(ids)


def test_markup_in_names_is_text() -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    assert RUN.table is not None
    row = replace(RUN.rows[0], label=evil)
    trial = replace(RUN.trials[0], method=evil, reason=evil, nodes={evil: 1})
    run = replace(
        RUN,
        model=evil,
        command=evil,
        started=evil,
        rows=(row, *RUN.rows[1:]),
        trials=(trial, *RUN.trials[1:]),
        widths=(LayerWidth(evil, 16, 8, 2, 1),),
        table=replace(RUN.table, runtime=evil, layers=tuple(replace(times, what=evil, layers=(evil,)) for times in RUN.table.layers)),
        curves=tuple(replace(curve, name=evil) for curve in RUN.curves),
        notes=(evil,),
        settings={evil: evil, "classes": [evil]},
        machine={"cpu": evil},
        versions={"gleanet": evil},
        data={"title": evil},
    )
    told = replace(ANSWERS, before=evil, after=evil, classes=(evil,) * len(ANSWERS.classes))
    page = document(run, answers=told)
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert evil in Reader(page).words
    assert RUN.interface is not None
    other = document(replace(run, interface=replace(RUN.interface, file=evil, input=evil, output=evil, classes=(evil,))))
    assert other.count("<script") == 1
    assert "<img" not in other


def test_a_picture_that_is_none_is_left_out() -> None:
    """What answers.json holds may come from anywhere."""
    odd = replace(ANSWERS, changed=(replace(ANSWERS.changed[0], png=b"<svg onload=alert(1)>"), ANSWERS.changed[1]))
    images = [attributes for tag, attributes in Reader(document(RUN, answers=odd)).tags if tag == "img"]
    assert [str(attributes["src"])[:22] for attributes in images] == ["data:image/png;base64,"]


@pytest.mark.parametrize("part", ["rows", "widths", "table", "trials", "ranges", "sensitivity", "curves"])
def test_the_page_does_without_what_is_drawn(part: str) -> None:
    nothing: Any = None if part == "table" else type(getattr(RUN, part))()
    without = replace(RUN, **{part: nothing})
    assert RUN.model in Reader(document(without)).words


@pytest.mark.parametrize("part", ["repair", "notes", "data", "machine", "versions", "settings", "interface"])
def test_the_page_does_without_what_is_told(part: str) -> None:
    nothing: Any = None if part == "interface" else type(getattr(RUN, part))()
    without = filled("page.html.j2", page=view.page(replace(RUN, **{part: nothing})), pictures=PICTURES, linked=False)
    assert RUN.model in Reader(without).words


@pytest.mark.parametrize("status", ["running", "done", "below bar", "failed", "interrupted", "broken"])
def test_an_empty_run_still_is_a_page(status: str) -> None:
    reader = Reader(document(replace(bare(RUN), status=status)))
    assert "resnet20: no result" in reader.words
    assert not [attributes for _, attributes in reader.tags if attributes.get("role") == "img"]


def test_a_run_that_did_not_finish_says_so() -> None:
    assert "was interrupted" in Reader(document(replace(RUN, status="interrupted"))).words
    assert "was interrupted" not in Reader(PAGE).words


def test_the_page_is_small_also_for_a_deep_network() -> None:
    deep = replace(RUN, widths=RUN.widths * 6, trials=RUN.trials * 5, curves=RUN.curves * 3)
    assert len(document(RUN).encode()) < 250_000
    assert len(document(deep, answers=ANSWERS).encode()) < 1_500_000


def test_every_changed_image_is_there_in_words_too() -> None:
    images = [attributes for tag, attributes in Reader(PAGE).tags if tag == "img"]
    assert len(images) == len(ANSWERS.changed) == 24
    for image in ANSWERS.changed:
        names = [ANSWERS.classes[index] for index in (image.label, image.before, image.after)]
        assert f"Test image {image.index}, {names[0]}: before {names[1]}, now {names[2]}" in {attributes["alt"] for attributes in images}


def test_render_writes_one_file_with_links_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.int8.onnx").write_bytes(b"x")
    (tmp_path / "run.json").write_bytes(dumps(RUN))
    path = render(loads((tmp_path / "run.json").read_bytes(), Run, "run.json"), tmp_path)
    links = [attributes["href"] for tag, attributes in Reader(path.read_text("utf-8")).tags if tag == "a"]
    assert [link for link in links if not str(link).startswith("#")] == ["model.int8.onnx", "model.int8.onnx", "run.json"]
    assert path == tmp_path / "report.html"
    assert len(list(tmp_path.iterdir())) == 3
    assert hashlib.sha256(b"x").hexdigest() in path.read_text("utf-8")


def test_elsewhere_there_are_no_links_to_files(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.int8.onnx").write_bytes(b"x")
    path = render(RUN, tmp_path / "run", tmp_path / "mine.html")
    assert path == tmp_path / "mine.html"
    page = path.read_text("utf-8")
    assert "model.int8.onnx" in page
    assert {str(attributes["href"])[0] for tag, attributes in Reader(page).tags if tag == "a"} == {"#"}


def test_answers_beside_the_record_are_read(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_bytes(dumps(ANSWERS))
    assert "Whose answer changed" in render(RUN, tmp_path).read_text("utf-8")
    (tmp_path / "answers.json").write_text("{}")
    with pytest.raises(StoreError, match=r"answers\.json is not"):
        render(RUN, tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        render(bare(RUN), tmp_path / "file" / "inside")
