"""The pages about activations: everything in them is escaped, well nested and inside the file."""

from html.parser import HTMLParser
from pathlib import Path

from gleanet.core.comparison import Compared, FunctionShape
from gleanet.core.records import Curve, CurvePoint, Latency, Run
from gleanet.core.stats import mean_interval
from gleanet.report.figures import comparison_table, functions_page, render_comparison
from gleanet.report.lines import STYLES, Line, keys

EVIL = "<script>alert(1)</script>&"
VOID = {"meta", "line", "br", "path", "rect"}


class Nesting(HTMLParser):
    """Open elements; every end must fit the innermost one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(page: str) -> None:
    nesting = Nesting()
    nesting.feed(page)
    assert not nesting.open
    assert nesting.scripts == 0
    assert "https://" not in page
    assert "&lt;script&gt;" in page


def compared() -> tuple[Run, tuple[Compared, ...]]:
    points = tuple(CurvePoint(e, e, 0.1, 2.0 / e, 0.1 * e) for e in (1, 2, 3))
    run = Run(
        *(
            "one",
            "activations compare",
            EVIL,
            "done",
            "2026-01-02T03:04:05+00:00",
            65.0,
            {"baseline": "mish"},
            {"gleanet": "1"},
            {"cpu": EVIL},
        ),
        data={"title": EVIL, "trained on": 300, "test": 100},
        curves=(Curve(EVIL, points), Curve("mish", points)),
        notes=(EVIL,),
    )
    times = (Latency(1, 1, 20, 0.25, 0.3),)
    rows = (
        Compared("mish", (0.5, 0.6), mean_interval([0.5, 0.6]), None, 61.0, 1.4868, latencies=times),
        Compared(EVIL, (0.7,), mean_interval([0.7]), mean_interval([0.2]), 62.0, 1.4, failed=1, latencies=times),
        Compared("relu", (), None, None, None, 1.4142, failed=2),
    )
    return run, rows


def test_the_report_of_a_comparison(tmp_path: Path) -> None:
    run, rows = compared()
    page = render_comparison(run, rows, "mish", tmp_path).read_text(encoding="utf-8")
    checked(page)
    assert page.count("<svg") == 2 * 2 + 2  # two pictures in two widths, and two keys
    assert "300 training images, 100 test images" in page


def test_the_table_of_a_comparison() -> None:
    _, rows = compared()
    table = comparison_table(rows, "mish")
    assert table.header[2] == "Difference to mish (95 % interval)"
    assert table.cells[0][1:] == ("55.00 % (0.00 to 100.00)", "baseline", "2", "1 min 1 s", "0.250 ms")
    assert table.cells[1][1:4] == ("70.00 %", "+20.00 points (one seed)", "1, 1 diverged")
    assert table.cells[2][1:] == ("–", "–", "0, 2 diverged", "–", "–")


def test_the_page_of_functions() -> None:
    shape = FunctionShape(EVIL, "x", "1", EVIL, (-1.0, -0.5), 0.25, 1.5, (-1.0, 0.0, 1.0), (-0.5, 0.0, 1.0), (0.0, 0.5, 1.0))
    page = functions_page([shape])
    checked(page)
    assert "-0.50000 at -1.00000" in page


def test_twelve_lines_look_different() -> None:
    looks = {(key.colour, key.dash) for key in keys([Line(str(n), ()) for n in range(len(STYLES))])}
    assert len(looks) == len(STYLES) == 12
