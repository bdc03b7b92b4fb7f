"""Commands that run for minutes in a run folder: shrink, train, prune."""

from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_json, print_table, print_text
from gleanet.core.errors import SettingsError
from gleanet.core.records import Run
from gleanet.core.settings import Allocation, PruneSettings, Pruning, Quantizing, Recycle, ShrinkSettings, Training, TrainSettings
from gleanet.report import baseline, frontier_table, table, verdict

# The names of gleanet.nn.NAMES, in words: importing them would import torch to show a help text. A test compares.
BUILT_IN = (
    "resnet8 (for digits), resnet20, resnet32, resnet44, resnet56, resnet110, resnet20_b, resnet56_b, resnet110_b, resnet18_cifar, "
    "vgg16_bn_cifar, mobilenet_v2_cifar, squeezenet1_1_cifar, densenet40 (for CIFAR: 32 x 32 pixels, 10 classes), "
    "resnet18, resnet34, resnet50, vgg16_bn, mobilenet_v2, squeezenet1_1 (for ImageNet: 224 x 224 pixels, 1000 classes)"
)
Model = Annotated[
    str | None,
    typer.Argument(
        help=f"A built-in network: {BUILT_IN}; a .gleanet file; or package.module:function.",
        show_default=False,
    ),
]
BELOW_BAR = 3
# columns of the result table that a narrow terminal does without, the first first
POINT_LAST = ("Predicted time", "On disk", "Accuracy against quantized alone", "Dropped and narrowed", "p50", "Accuracy (95 %")
ROW_LAST = ("Peak memory", "Parameters", "p50, batch 64", "Speed-up, batch 64", "MACs", "p50, batch 1", "On disk")


def shrink(
    model: Model = None,
    data: o.Data = None,
    image_size: o.ImageSize = None,
    weights: o.Weights = None,
    flops: o.Flops = None,
    params: o.Params = None,
    bytes: o.Bytes = None,
    latency: o.Latency = None,
    epochs: o.Epochs = 0,
    fair_baseline: Annotated[
        bool, typer.Option("--fair-baseline", help="Also fine-tune the given network in the same way, as the baseline.")
    ] = False,
    max_drop: o.MaxDrop = None,
    criterion: o.Criterion = None,
    allocation: o.Allocation = None,
    recycle: o.Recycle = None,
    align: o.Align = 8,
    floor: o.Floor = 0.1,
    residual: o.Residual = False,
    calibration: o.Calibration = 1024,
    method: o.Method = "auto",
    input: o.Input = "float",
    activation: Annotated[str | None, typer.Option(help="Activation of a built-in network. Default: relu, or the checkpoint's.")] = None,
    lr: o.Lr = None,
    batch_size: o.BatchSize = 128,
    weight_decay: o.WeightDecay = 1e-4,
    label_smoothing: o.LabelSmoothing = 0.0,
    distill: o.Distill = None,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    log: o.Log = None,
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """The main job: prune, recover, export, quantize, measure, report.

    Example: [bold]gleanet shrink runs/base/model.gleanet --data digits --flops 0.5 --epochs 3[/]

    Half the time: [bold]gleanet shrink runs/base/model.gleanet --data digits --latency 0.5[/]

    A file of 40 kB: [bold]gleanet shrink runs/base/model.gleanet --data digits --bytes 40000[/]
    """
    import gleanet.pipeline as pipeline
    from gleanet.pipeline.logs import logged

    settings = None
    if resume is None:
        settings = ShrinkSettings(
            model=o.required(model, "MODEL", "gleanet shrink resnet20 --weights FILE --data cifar10"),
            data=o.required(data, "--data", "name a data set, e.g. --data digits"),
            image_size=image_size,
            weights=weights,
            activation=activation,
            fair_baseline=fair_baseline,
            input=input,
            seed=seed,
            threads=threads,
            device=device,
            pruning=_pruning((flops, params, bytes, latency), criterion, allocation, recycle, align, floor, residual, calibration),
            training=Training(epochs, lr, batch_size, weight_decay, label_smoothing, distill),
            quantizing=Quantizing(method, max_drop),
        )
    with TerminalProgress() as progress, logged(log or (), progress) as listening:
        run = pipeline.shrink(settings, out=out, resume=resume, progress=listening)
        listening.finished(run)
    return show(run, json)


def train(
    model: Model = None,
    data: o.Data = None,
    image_size: o.ImageSize = None,
    weights: o.Weights = None,
    activation: Annotated[
        str | None,
        typer.Option(help="Activation of a built-in network, see `gleanet activations`: mish, beamish(alpha=1,beta=2), ..."),
    ] = None,
    epochs: o.Epochs = 10,
    lr: o.Lr = None,
    batch_size: o.BatchSize = 128,
    weight_decay: o.WeightDecay = 5e-4,
    label_smoothing: o.LabelSmoothing = 0.0,
    precision: o.Precision = None,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    log: o.Log = None,
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Train or fine-tune a network; resumable.

    Example: [bold]gleanet train resnet8 --data digits --epochs 5[/]

    In two processes, on two GPUs if there are: [bold]torchrun --nproc-per-node 2 -m gleanet train resnet8 --data digits --epochs 5[/]
    """
    import gleanet.pipeline as pipeline
    from gleanet.pipeline.logs import logged

    settings = None
    if resume is None:
        settings = TrainSettings(
            model=o.required(model, "MODEL", "gleanet train resnet8 --data digits"),
            data=o.required(data, "--data", "name a data set, e.g. --data digits"),
            image_size=image_size,
            weights=weights,
            activation=activation,
            seed=seed,
            threads=threads,
            device=device,
            training=Training(epochs, lr, batch_size, weight_decay, label_smoothing, distill=0, precision=precision),
        )
    with TerminalProgress() as progress, logged(log or (), progress) as listening:
        run = pipeline.train(settings, out=out, resume=resume, progress=listening)
        listening.finished(run)
    return show(run, json)


def prune(
    model: Annotated[
        str | None, typer.Argument(metavar="CHECKPOINT", help="A .gleanet file, or any MODEL together with --weights.")
    ] = None,
    data: o.Data = None,
    image_size: o.ImageSize = None,
    weights: o.Weights = None,
    plan: Annotated[
        str | None,
        typer.Option(help="Carry out this plan (the plan.json of another run) instead of choosing channels; its budget counts, no other."),
    ] = None,
    flops: o.Flops = None,
    params: o.Params = None,
    bytes: o.Bytes = None,
    latency: o.Latency = None,
    one_shot: Annotated[bool, typer.Option("--one-shot", help="No training at all, whatever --epochs says.")] = False,
    in_training: Annotated[
        bool, typer.Option("--in-training", help="FCR while training goes on, instead of one-shot and recovery.")
    ] = False,
    epochs: o.Epochs = 2,
    criterion: o.Criterion = None,
    allocation: o.Allocation = None,
    recycle: o.Recycle = None,
    align: o.Align = 8,
    floor: o.Floor = 0.1,
    residual: o.Residual = False,
    calibration: o.Calibration = 1024,
    lr: o.Lr = None,
    batch_size: o.BatchSize = 128,
    weight_decay: o.WeightDecay = 1e-4,
    distill: o.Distill = None,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Prune a checkpoint to a budget.

    Example: [bold]gleanet prune runs/base/model.gleanet --data digits --flops 0.5 --one-shot[/]

    By another budget: [bold]gleanet prune runs/base/model.gleanet --data digits --latency 0.6 --one-shot[/]
    """
    import gleanet.pipeline as pipeline

    if one_shot and in_training:
        raise SettingsError("--one-shot and --in-training exclude each other: choose one")
    settings = None
    if resume is None:
        settings = PruneSettings(
            model=o.required(model, "CHECKPOINT", "gleanet prune runs/base/model.gleanet --data digits --flops 0.5"),
            data=o.required(data, "--data", "name a data set, e.g. --data digits"),
            image_size=image_size,
            weights=weights,
            plan=plan,
            in_training=in_training,
            seed=seed,
            threads=threads,
            device=device,
            pruning=_pruning((flops, params, bytes, latency), criterion, allocation, recycle, align, floor, residual, calibration),
            training=Training(0 if one_shot else epochs, lr, batch_size, weight_decay, distill=distill),
        )
    with TerminalProgress() as progress:
        run = pipeline.prune(settings, out=out, resume=resume, progress=progress)
    return show(run, json)


def _pruning(
    budget: tuple[float | None, float | None, float | None, float | None],
    criterion: str | None,
    allocation: Allocation | None,
    recycle: Recycle | None,
    align: int,
    floor: float,
    residual: bool,
    calibration: int,
) -> Pruning:
    flops, params, bytes, latency = budget
    if budget == (None, None, None, None):
        flops = 0.5  # the record says what was bounded
    return Pruning(flops, criterion, allocation, recycle, align, floor, residual, calibration, params, bytes, latency)


def show(run: Run, json: bool) -> int:
    """Print a finished run and turn its status into an exit code."""
    if json:
        print_json(run)
    else:
        print_run(run)
    return BELOW_BAR if run.status == "below bar" else 0


def print_run(run: Run) -> None:
    """A run as text: what it was, its table or its accuracies, notes, files."""
    print_text(f"{run.command} {run.model} on {run.data.get('title', 'no data')}, {run.seconds:.0f} s: {run.status}")
    if "plan" in run.results and isinstance(run.results["plan"], str):
        print_text(run.results["plan"])
    measured = {"accuracy_before": "accuracy before", "accuracy_one_shot": "pruned, before recovery", "accuracy": "accuracy"}
    for name, label in measured.items():
        found = run.results.get(name)
        if isinstance(found, dict) and all(isinstance(found.get(key), int | float) for key in ("value", "low", "high", "n")):
            print_text(
                f"{label}: {100 * found['value']:.2f} % ({100 * found['low']:.2f} to {100 * found['high']:.2f}, {found['n']:,} test images)"
            )
    if run.frontier is not None:
        print_table(frontier_table(run.frontier), last=POINT_LAST)
        print_text(verdict(run.frontier))
    if run.rows:
        print_table(table(run.rows, baseline(run.rows)), last=ROW_LAST)
    for note in run.notes:
        print_text(note)
    print_text(f"folder: {run.results.get('folder', run.id)}")
