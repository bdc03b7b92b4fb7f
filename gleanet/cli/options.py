"""Options that several commands share, with one name, one meaning and one help text each."""

from pathlib import Path
from typing import Annotated

import typer

from gleanet.core import settings
from gleanet.core.errors import SettingsError
from gleanet.core.toml import read_toml

SHARED = ("config", "help")


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Take values from a TOML file as defaults, so that the command line wins; an unknown key is an error."""
    if path is None:
        return None
    values = read_toml(path, f"--config {path}")
    known = {str(parameter.name) for parameter in context.command.params} - set(SHARED)
    given = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingsError(f"--config {path} has an unknown key {unknown[0]!r}: known are {', '.join(sorted(known))}")
    context.default_map = {**(context.default_map or {}), **given}
    return path


Config = Annotated[
    Path | None, typer.Option(callback=_config, is_eager=True, help="TOML file with any of these options by name; the command line wins.")
]
Data = Annotated[str | None, typer.Option(help="digits, cifar10, cifar100, a folder under $GLEANET_DATA, or a path.")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side of the images in pixels: a folder of image files with others is streamed and cut to it. Default: as the images are; "
        "where they differ or do not fit into memory, as the network was made for."
    ),
]
Weights = Annotated[str | None, typer.Option(help="Checkpoint to start from: a state dict (.th, .pt, .safetensors) or a .gleanet file.")]
Out = Annotated[Path | None, typer.Option(help="Folder of this run. Default: runs/<date>-<model>-<short id>.")]
Resume = Annotated[str | None, typer.Option(help="Go on with this run (its folder or id), with its settings.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option(help="Threads of the timed runtime.")]
Device = Annotated[settings.Device, typer.Option(help="Where to train.")]
Epochs = Annotated[float, typer.Option(help="Passes over the training images; 0: no training.")]
Lr = Annotated[float | None, typer.Option(help="Peak learning rate. Default: from a short range test.")]
BatchSize = Annotated[int, typer.Option(help="Images a training step.")]
WeightDecay = Annotated[float, typer.Option(help="Weight decay, not on norms and biases.")]
LabelSmoothing = Annotated[float, typer.Option(help="Label smoothing, in [0, 1).")]
Precision = Annotated[
    settings.Precision | None,
    typer.Option(help="What convolutions and linear layers compute in; the weights stay float32. Default: bf16 on GPUs that have it."),
]
Distill = Annotated[
    float | None,
    typer.Option(help="Weight of the teacher (the given network) in the loss. Default: 0.5 where it knows the training images, else 0."),
]
Flops = Annotated[float | None, typer.Option(help="Budget: fraction of the multiply-accumulates to keep; 0.5 where no budget is given.")]
Params = Annotated[float | None, typer.Option(help="Budget: fraction of the parameters to keep.")]
Bytes = Annotated[float | None, typer.Option(help="Budget: fraction of the 8-bit file to keep, or its size in bytes.")]
Latency = Annotated[float | None, typer.Option(help="Budget: fraction of the float latency to keep, as measured on this machine.")]
Criterion = Annotated[
    str | None,
    typer.Option(help="l1, l2, bn_scale, fpgm, taylor, activation, residual, local_residual or random. Default: the best measured one."),
]
Allocation = Annotated[
    settings.Allocation | None,
    typer.Option(help="One ratio everywhere, or the least important anywhere: for the budget or for the time. Default: the best measured."),
]
Recycle = Annotated[
    settings.Recycle | None,
    typer.Option(help="How removed filters are given back; similarity needs no images. Default: the best measured way."),
]
Align = Annotated[int, typer.Option(help="Kept widths are multiples of this; 8 suits ONNX Runtime on x86.")]
Floor = Annotated[float, typer.Option(help="Least fraction of each layer that stays.")]
Residual = Annotated[bool, typer.Option("--residual", help="Also prune the widths that pass through residual adds.")]
Calibration = Annotated[int, typer.Option(help="Training images to calibrate on; labels are used by --criterion taylor alone.")]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="Points of accuracy that it may cost; exit code 3 when it costs more, or may for all the images can tell."),
]
Log = Annotated[list[str] | None, typer.Option(help="Also log to tensorboard:DIR or mlflow:URI; may be given several times.")]
Method = Annotated[str, typer.Option(help="Quantization methods to try: auto, all, or names with commas.")]
Input = Annotated[settings.Input, typer.Option(help="float: normalised images. uint8: pixels, with the normalisation inside the graph.")]
RandomData = Annotated[bool, typer.Option("--random-data", help="Noise instead of data: structure and timing only.")]


def required(value: str | None, name: str, example: str) -> str:
    """A value that a command cannot do without unless it resumes.

    Raises:
        SettingsError: it is missing.
    """
    if value is None:
        raise SettingsError(f"{name} is missing: {example}")
    return value
