"""``gleanet activations``: the table and plots of the functions; trainings that compare them or look for factors."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_json, print_table, print_text
from gleanet.core.comparison import Compared, CompareSettings, SearchSettings
from gleanet.core.errors import SettingsError
from gleanet.core.files import write_bytes
from gleanet.core.records import Run
from gleanet.core.settings import Training
from gleanet.report import Table

activations = typer.Typer(name="activations", invoke_without_command=True)

Model = Annotated[str | None, typer.Argument(help="A built-in network, a .gleanet file, or package.module:function.", show_default=False)]
Seeds = Annotated[int, typer.Option(help="Trainings of each activation, with seeds that follow on --seed.")]
TrainImages = Annotated[int | None, typer.Option(help="Train on so many images, balanced over the classes. Default: all.")]
EXAMPLE = "gleanet activations compare resnet8 --data digits --activations relu,mish,beamish --seeds 3 --epochs 3"


@activations.callback()
def table(
    context: typer.Context,
    names: Annotated[
        str | None, typer.Option("--functions", help="Only these, with factors if wanted: mish,'beamish(alpha=1,beta=2)'. Default: all.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also write a page with plots of functions and derivatives (.html).")] = None,
    json: o.Json = False,
) -> int:
    """Formula, minimum, area below the boundary, gain and reference of every activation function.

    Example: [bold]gleanet activations --plot activations.html[/]
    """
    if context.invoked_subcommand is not None:
        if names or plot or json:
            raise SettingsError(
                f"--functions, --plot and --json before {context.invoked_subcommand} belong to the table: give them without it"
            )
        return 0
    from gleanet.nn.activations import ACTIVATIONS, split_names
    from gleanet.nn.family import describe
    from gleanet.report.figures import function_table, functions_page

    shapes = describe(split_names(names) if names else ACTIVATIONS)
    if plot is not None:
        write_bytes(plot, functions_page(shapes).encode())
    if json:
        print_json(shapes)
        return 0
    whole = function_table(shapes)
    header, *cells = (line[:2] + line[3:] for line in (whole.header, *whole.cells))  # derivatives are for the page
    print_table(Table(header, tuple(cells)))
    if plot is not None:
        print_text(f"plots: {plot}")
    return 0


@activations.command()
def compare(
    model: Model = None,
    data: o.Data = None,
    activations: Annotated[
        str | None, typer.Option(help="Names with commas, factors in brackets: relu,mish,'beamish(alpha=1,beta=2)',beamish-learnable.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The activation that differences refer to. Default: the first.")] = None,
    seeds: Seeds = 3,
    epochs: o.Epochs = 10,
    train_images: TrainImages = None,
    weights: o.Weights = None,
    lr: o.Lr = None,
    batch_size: o.BatchSize = 128,
    weight_decay: o.WeightDecay = 5e-4,
    label_smoothing: o.LabelSmoothing = 0.0,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Train a network with each activation over seeds, with the same images, draws and steps; compare accuracy, time and latency.

    Example: [bold]gleanet activations compare resnet8 --data digits --activations relu,mish,beamish --seeds 3 --epochs 3[/]
    """
    import gleanet.pipeline.activations as pipeline
    from gleanet.nn.activations import split_names

    settings = None
    if resume is None:
        names = split_names(o.required(activations, "--activations", EXAMPLE))
        settings = CompareSettings(
            model=o.required(model, "MODEL", EXAMPLE),
            data=o.required(data, "--data", "name a data set, e.g. --data digits"),
            activations=names,
            baseline=baseline or names[0],
            weights=weights,
            seeds=seeds,
            train_images=train_images,
            seed=seed,
            threads=threads,
            device=device,
            training=Training(epochs, lr, batch_size, weight_decay, label_smoothing, distill=0),
        )
    with TerminalProgress() as progress:
        run = pipeline.compare(settings, out=out, resume=resume, progress=progress)
    return _show(run, json)


@activations.command()
def search(
    model: Model = None,
    data: o.Data = None,
    trials: Annotated[int, typer.Option(help="Pairs of factors to try, Mish (1, 1) among them.")] = 9,
    seeds: Seeds = 3,
    spread: Annotated[float, typer.Option(help="Both factors lie between 1/SPREAD and SPREAD.")] = 4.0,
    validation: Annotated[float, typer.Option(help="Fraction of the training images that judges instead of the test images.")] = 0.1,
    epochs: o.Epochs = 10,
    train_images: TrainImages = None,
    weights: o.Weights = None,
    lr: o.Lr = None,
    batch_size: o.BatchSize = 128,
    weight_decay: o.WeightDecay = 5e-4,
    label_smoothing: o.LabelSmoothing = 0.0,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Look for Bea-Mish's factors (alpha, beta), judged by training images that are kept apart.

    Example: [bold]gleanet activations search resnet8 --data digits --trials 5 --seeds 2 --epochs 2[/]
    """
    import gleanet.pipeline.activation_search as pipeline

    settings = None
    if resume is None:
        settings = SearchSettings(
            model=o.required(model, "MODEL", "gleanet activations search resnet8 --data digits"),
            data=o.required(data, "--data", "name a data set, e.g. --data digits"),
            weights=weights,
            trials=trials,
            seeds=seeds,
            spread=spread,
            validation=validation,
            train_images=train_images,
            seed=seed,
            threads=threads,
            device=device,
            training=Training(epochs, lr, batch_size, weight_decay, label_smoothing, distill=0),
        )
    with TerminalProgress() as progress:
        run = pipeline.search(settings, out=out, resume=resume, progress=progress)
    return _show(run, json)


def _show(run: Run, json: bool) -> int:
    from gleanet.report.figures import comparison_table

    if json:
        print_json(run)
        return 0
    rows = msgspec.convert(run.results["comparison"], tuple[Compared, ...])
    print_text(f"{run.command} {run.model} on {run.data.get('title', 'no data')}, {run.seconds:.0f} s: {run.status}")
    print_table(comparison_table(rows, run.settings.get("baseline", "beamish(alpha=1,beta=1)")))
    if "best" in run.results:
        print_text(f"best on the validation images: {run.results['best']}")
    for note in run.notes:
        print_text(note)
    print_text(f"folder: {run.results.get('folder', run.id)}")
    return 0
