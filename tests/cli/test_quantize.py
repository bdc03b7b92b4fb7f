"""``gleanet quantize``: what it is told about sensitivity and repair reaches the record and the page."""

import json
from pathlib import Path

from tests.cli.conftest import Gleanet
from tests.tiny_onnx import convnet, save


def test_the_command_says_what_it_repaired(gleanet: Gleanet, tmp_path: Path) -> None:
    source = save(convnet(), tmp_path / "m.onnx")
    done = gleanet(
        "quantize", source, "--random-data", "--method", "u8s8", "--sensitivity", "--repair", "--out", tmp_path / "run", "--json"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert {one["layer"] for one in record["sensitivity"]} == {"a", "b", "c", "d"}
    assert record["settings"]["repair"] is True
    assert "Which layers are sensitive" in (tmp_path / "run" / "report.html").read_text("utf-8")
