"""The same through the real command: exit code 2, one line, no traceback, nothing executed, nothing left behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Gleanet
from tests.cli.conftest import gleanet as gleanet
from tests.cli.test_bad_input import assert_one_line
from tests.fuzz.corpus import Case, cases

# Case -> the command that meets it; {case} is its folder.
COMMANDS = {
    "code in a CIFAR pickle: os.system, protocol 2": "train resnet8 --data {case}/data",
    "code in a torch checkpoint: os.system": "shrink resnet8 --weights {case}/w.pt --data digits",
    "code in an old torch checkpoint: exec": "prune resnet8 --weights {case}/w.th --data digits",
    "code in a pickled checkpoint: os.system, protocol 4": "export resnet8 --weights {case}/w.pt --out {case}/out",
    "a checkpoint that names code": "prune {case}/m.gleanet --data digits",
    "external data at '../../outside/canary'": "measure {case}/m.onnx --data digits",
    "external data read from '/etc/passwd'": "quantize {case}/m.onnx --data digits",
    "external data at 'link'": "measure {case}/m.onnx --random-data",
    "50,000 x 50,000 PNG in a folder": "train resnet8 --data {case}/data",
    "50,000 x 50,000 JPEG in Parquet": "train resnet8 --data {case}/data",
    "NaN in weights, zip": "shrink resnet8 --weights {case}/w.pt --data digits",
    "inf in a checkpoint": "shrink {case}/m.gleanet --data digits",
    "a checkpoint for images [3, 20000, 20000]": "export {case}/m.gleanet --out {case}/out",
    "a checkpoint with arguments {'num_classes': 1000000000}": "shrink {case}/m.gleanet --data digits",
    "a torch tensor as large as memory is not": "shrink resnet8 --weights {case}/w.pt --data digits",
    "an input of 2^36 pixels, onnx_file": "measure {case}/m.onnx --data digits",
    "a weight of 2^36 values without its values, onnx_file": "quantize {case}/m.onnx --random-data",
    "a graph that feeds itself, onnx_file": "measure {case}/m.onnx --random-data",
    "deep nesting in c.toml": "train resnet8 --config {case}/c.toml",
    "epochs = nan in a settings file": "train resnet8 --data digits --config {case}/c.toml",
    "lr = inf in a settings file": "train resnet8 --data digits --config {case}/c.toml",
    "a class folder '\\x1b[2J'": "train resnet8 --data {case}/data",
    "parquet 7": "train resnet8 --data {case}/data",
}
QUICK = 4


def chosen() -> Iterator[object]:
    known = {case.name: case for case in cases()}
    for at, (name, command) in enumerate(COMMANDS.items()):
        marks = [] if at % (len(COMMANDS) // QUICK) == 0 else [pytest.mark.slow]
        yield pytest.param(known[name], command, id=name, marks=marks)


@pytest.mark.parametrize(("case", "command"), list(chosen()))
def test_the_command_refuses_it_in_one_line(gleanet: Gleanet, tmp_path: Path, case: Case, command: str) -> None:
    folder = tmp_path / "sandbox" / "case"
    folder.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_bytes(b"alive")
    case.make(folder)
    before = everything(tmp_path)
    done = gleanet(*(word.format(case=folder) for word in command.split()), cwd=folder, GLEANET_CACHE=str(tmp_path / "sandbox" / "cache"))
    assert_one_line(done)
    assert done.stderr.splitlines()[-1].isprintable()
    assert everything(tmp_path) - before <= {"sandbox/case/runs", "sandbox/cache"}


def everything(root: Path) -> set[str]:
    return {os.path.relpath(path, root) for path in root.rglob("*")}
