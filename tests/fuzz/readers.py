"""How gleanet reads each kind of file: the calls that its commands make, in this process. Each takes the folder of one case."""

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gleanet.cli.app import main
from gleanet.core import index, store
from gleanet.core.answers import paired, read_answers
from gleanet.core.errors import GleanetError, SettingsError, StoreError
from gleanet.core.records import Preprocess
from gleanet.core.settings import PruneSettings, ShrinkSettings, TrainSettings
from gleanet.data import epoch
from gleanet.data import load as load_data
from gleanet.data.decode import bombs_are_errors, decode_all, encoding
from gleanet.data.download import unpack
from gleanet.data.stream import middle_crop, random_crop
from gleanet.measure import graph_layers, open_session, read_metadata, read_model
from gleanet.nn import architecture_of, build, load, load_weights
from gleanet.pipeline.recording import saved_settings
from gleanet.prune import Plan
from gleanet.quantize.prepare import prepare
from gleanet.report import model_card
from gleanet.report.answers import answers_view
from gleanet.report.html import document
from gleanet.sweep.run import saved as saved_sweep
from gleanet.train import resume
from tests.fuzz import specimens


def data_folder(case: Path) -> None:
    data = load_data(str(case / "data"), usual_size=16)
    for _ in epoch(data.train, 4, 0, 0, augment=True, preprocess=Preprocess()):
        pass
    data.test.images[:4].sum()


def image(case: Path) -> None:
    data = (case / "image").read_bytes()
    decode_all([data], 1, lambda row: f"row {row}")
    encoding(data, "row 0")


def streamed_image(case: Path) -> None:
    data, out = (case / "image").read_bytes(), np.empty((16, 16, 3), dtype=np.uint8)
    with bombs_are_errors():
        random_crop(data, np.random.default_rng(0), True, out, "row 0")
        middle_crop(data, out, "row 0")


def archive(case: Path) -> None:
    unpack(case / "tiny.tar.gz", specimens.ARCHIVE, case / "out")


def checkpoint(case: Path) -> None:
    net = load(case / "m.gleanet")
    with torch.no_grad():
        net(torch.zeros(1, *architecture_of(net).input_shape))


def weights(case: Path) -> None:
    load_weights(copy.deepcopy(specimens.network()), next(case.iterdir()))


def weights_of_a_name(case: Path) -> None:
    """As ``--weights`` takes any file there is."""
    build("resnet8", weights=next(case.iterdir()))


def training_state(case: Path) -> None:
    found = resume.read(case / "train.state", {})
    assert found is not None
    net: nn.Module = copy.deepcopy(specimens.network())
    resume.put(net, specimens.optimizer_of(net), found[1])


def onnx_file(case: Path) -> None:
    file = case / "m.onnx"
    session = open_session(file)
    read_metadata(file)
    session.run(np.zeros((2, *session.image_shape((3, 8, 8))), session.dtype))


def onnx_graph(case: Path) -> None:
    """What ``measure`` and ``quantize`` look at beside running it."""
    file = case / "m.onnx"
    graph_layers(file)
    prepare(read_model(file), file)


def config(case: Path) -> None:
    command("train", "resnet8", "--config", case / "c.toml")


def sweep_file(case: Path) -> None:
    command("sweep", case / "s.toml", "--dry-run")


def run_folder(case: Path) -> None:
    index.listing(case)
    run = store.find(case / "run").read()
    for kind in (TrainSettings, PruneSettings, ShrinkSettings):
        with_settings(case / "run", run.command, kind)
    with suppress(StoreError, SettingsError):
        saved_sweep(str(case / "run"))
    command("runs", "list", "--root", case)
    command("runs", "show", case / "run")


def with_settings(run: Path, name: str, kind: type[object]) -> None:
    with suppress(StoreError):  # most are another command's
        saved_settings(str(run), name, kind)


def report(case: Path) -> None:
    run = store.find(case / "run").read()
    card = model_card(run).split("---\n", 2)[2]  # what stands between the dashes is quoted YAML
    for page in (document(run, answers=read_answers(case / "run")), card):
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def answers(case: Path) -> None:
    """What a page and a comparison of runs make of ``answers.json``."""
    found = read_answers(case / "run")
    assert answers_view(found) is not None
    assert found is not None
    paired(found, found)


def plan(case: Path) -> None:
    Plan.load(case / "plan.json").diff(specimens.plan_of(0.5))
    command("plans", "show", case / "plan.json")


class _Refused(GleanetError):
    """A command that refused; carries its one line."""


def command(*arguments: object) -> None:
    """The whole command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    if code == 0:
        return
    lines = [line for line in err.getvalue().split("\n") if line]
    assert code in (1, 2), (code, lines)
    assert len(lines) == 1, lines
    assert lines[0].startswith("gleanet: "), lines
    assert "Error: " not in lines[0].split(": ")[1], lines  # OSError and MemoryError that nobody has put into words
    assert lines[0].isprintable(), lines
    raise _Refused(lines[0])


@cache
def readers() -> dict[str, Callable[[Path], None]]:
    known = (
        data_folder, image, streamed_image, archive, checkpoint, weights, weights_of_a_name, training_state, onnx_file, onnx_graph, config,
        sweep_file, run_folder, report, answers, plan,
    )  # fmt: skip
    return {reader.__name__: reader for reader in known}
