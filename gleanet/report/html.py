"""The report: one HTML file that needs nothing else, made from what the run's folder records, so an old run can be rendered again."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files as files_of_package
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gleanet.core.answers import Answers, read_answers
from gleanet.core.errors import StoreError
from gleanet.core.files import write_bytes
from gleanet.core.records import Run
from gleanet.core.store import ARTEFACTS, RECORD
from gleanet.report import charts, tables, tradeoff, units, view
from gleanet.report.pictures import pictures

REPORT = "report.html"


def render(run: Run, folder: Path, out: Path | None = None) -> Path:
    """Write ``report.html`` into the run's folder, or the page to ``out``, and return its path. Links go to the artefacts that are there.

    Raises:
        StoreError: the folder cannot be written, or its ``answers.json`` cannot be read.
    """
    target = out or folder / REPORT
    here = target.parent.resolve() == folder.resolve()  # elsewhere, links would lead nowhere
    present = [name for name in (*ARTEFACTS, RECORD) if name != REPORT and (folder / name).is_file()] if here else []
    checksums = {name: _sha256(folder / name) for name in ARTEFACTS if name != REPORT and (folder / name).is_file()}
    write_bytes(target, document(run, present, read_answers(folder), checksums).encode())
    return target


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error


def document(run: Run, files: Sequence[str] = (), answers: Answers | None = None, checksums: Mapping[str, str] = view.EMPTY) -> str:
    """The page as text.

    Args:
        files: names of the artefacts to link to (default: those the record names, without links).
        answers: what the float file and the delivered one say about the test images.
        checksums: SHA-256 of the artefacts, by name.
    """
    return filled("page.html.j2", page=view.page(run, files, answers, checksums), pictures=pictures(run), linked=bool(files))


def filled(template: str, **values: object) -> str:
    """A template of this folder with values, the style sheet and the script, which its policy allows by its hash and no other."""
    here = files_of_package("gleanet.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["split"] = tables.split
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    environment.filters["sortkey"] = units.number
    environment.globals["macros"] = environment.from_string((here / "macros.html.j2").read_text("utf-8")).module
    css, script = (Markup((here / name).read_text("utf-8")) for name in ("page.css", "page.js"))  # ours, so they may pass unescaped
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.from_string((here / template).read_text("utf-8"))
    return text.render(css=css, script=script, digest=digest, **values).lstrip()


def picture(run: Run) -> str:
    """The picture of accuracy against latency as an SVG file of its own, light and dark.

    Raises:
        ValueError: the run has fewer than two rows with both figures.
    """
    svg = tradeoff.steps(run.rows, charts.WIDE, chosen=tables.final(run.rows))
    if svg is None:
        raise ValueError(f"run {run.id} has nothing to draw")
    return charts.standalone(svg)
