"""The site: the public names are documented, the notebook runs, the built pages are whole and fetch nothing."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import gleanet

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^::: (\S+)\n(?: {4}.*\n)*? {6}heading: gn\.(\w+)$", re.MULTILINE)
FETCHED = re.compile(r'<(?:script|img|iframe|link(?! rel="canonical"))\b[^>]*?(?:src|href)="(https?:)?//[^"]*"')


def test_the_reference_has_every_public_name_and_means_the_same_thing() -> None:
    entries = {name: path for path, name in ENTRY.findall((ROOT / "docs/api/gleanet.md").read_text())}
    assert set(entries) == set(gleanet.__all__) - {"__version__"}
    for name, path in entries.items():
        module, _, attribute = path.rpartition(".")
        assert getattr(import_module(module), attribute) is getattr(gleanet, name)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    before, after = (int(number) for number in re.findall(r"(\d+) multiply-accumulates", printed))
    assert 0.4 * before < after <= 0.5 * before
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["base.onnx", "small.onnx", "small.int8.onnx"]


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("latex2mathml")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not FETCHED.search(html), page
        assert "arithmatex" not in html, page
        assert ":func:" not in html, page
    assert "<math" in (tmp_path / "site/definitions.html").read_text(encoding="utf-8")
