"""A forked command is the command: the same streams and exit codes as a new interpreter, and nothing is left over for the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked


@pytest.mark.parametrize("line", ["plans show", "inspect none.onnx", "papers search CIFAR10 --json"])
def test_it_answers_like_a_new_interpreter(tmp_path: Path, line: str) -> None:
    variables = {"COLUMNS": "90", "GLEANET_CACHE": str(tmp_path)}
    new = subprocess.run(
        [sys.executable, "-m", "gleanet", *line.split()], cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    found = forked.run(line.split(), tmp_path, variables)
    timeless = [[word for word in text.split() if "ms" not in word and not word[:1].isdigit()] for text in (new.stdout, found.stdout)]
    assert timeless[0] == timeless[1]
    assert (new.returncode, new.stderr) == (found.returncode, found.stderr)


def test_a_variable_is_gone_after_its_command_and_a_hanging_one_is_ended(tmp_path: Path) -> None:
    wide = forked.run(["papers", "show", "zzz"], tmp_path, {"COLUMNS": "40", "NO_COLOR": "1"})
    assert wide.returncode == 2
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(["train", "resnet8", "--data", "digits", "--epochs", "500", "--out", "run"], tmp_path, {}, timeout=1.5)
    assert forked.run(["--version"], tmp_path, {}).returncode == 0
