"""``gleanet demo``: the main job on images that come with the installation, from nothing, to see what it does."""

from pathlib import Path
from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.jobs import show
from gleanet.cli.terminal import TerminalProgress, print_text
from gleanet.core.errors import BadInput
from gleanet.core.settings import Pruning, ShrinkSettings, Training, TrainSettings
from gleanet.core.store import RECORD

OUT = Path("runs/demo")


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; the network that is trained first goes to the same name with -base.")] = OUT,
    epochs: Annotated[float, typer.Option(help="Passes over the digits to train the network.")] = 20,
    recovery: Annotated[float, typer.Option(help="Passes to recover after pruning.")] = 5,
    json: o.Json = False,
) -> int:
    """Train a small network on real digits, halve its work, quantize it, write the report: what `train` and `shrink` do, in one go.

    Example: [bold]gleanet demo[/]
    """
    import gleanet.pipeline as pipeline

    base = out.with_name(f"{out.name}-base")
    taken = next((folder for folder in (base, out) if (folder / RECORD).exists()), None)
    if taken is not None:  # said before the work, not after half of it
        raise BadInput(f"{taken} already holds a run: remove it, or choose another folder with --out", slug="run-exists")
    with TerminalProgress() as progress:
        pipeline.train(
            TrainSettings("resnet8", "digits", training=Training(epochs, lr=0.1, weight_decay=5e-4, distill=0)), out=base, progress=progress
        )
        settings = ShrinkSettings(
            str(base / "model.gleanet"),
            "digits",
            fair_baseline=recovery > 0,
            pruning=Pruning(flops=0.5),
            training=Training(recovery, lr=0.02),
        )
        run = pipeline.shrink(settings, out=out, progress=progress)
    code = show(run, json)
    if not json:
        print_text(f"look: {out / 'report.html'}; try it in the browser: gleanet serve {out}")
    return code
