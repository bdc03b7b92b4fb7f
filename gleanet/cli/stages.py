"""Commands for one stage on files: export, quantize, measure."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleanet.cli import options as o
from gleanet.cli.jobs import BELOW_BAR, ROW_LAST, print_run
from gleanet.cli.terminal import TerminalProgress, print_json, print_note, print_table, print_text
from gleanet.core.errors import SettingsError
from gleanet.core.files import is_onnx
from gleanet.core.records import Preprocess, Row
from gleanet.core.settings import Input, QuantizeSettings, Quantizing
from gleanet.report import table, trial_table

# columns of the table of methods that a narrow terminal does without, the first first
TRIAL_LAST = ("Why", "Peak memory", "SQNR", "p50, batch 64", "Same answer", "Accuracy", "On disk")
Output = Literal["logits", "softmax", "argmax"]
Layout = Literal["NCHW", "NHWC"]


def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A .gleanet file, any MODEL together with --weights, or any .onnx file.")],
    weights: o.Weights = None,
    data: o.Data = None,
    input: Annotated[
        Input | None, typer.Option(help="float: normalised images. uint8: pixels, with the normalisation inside the graph. Default: float.")
    ] = None,
    output: Annotated[
        Output | None, typer.Option(help="logits; softmax: probabilities; argmax: the class, int64 [N]. Default: logits.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Images per call, all shapes static; or dynamic. Default: dynamic.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="Of the input; NHWC is what cameras give. Default: NCHW.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean of each channel, with commas, of pixels scaled to 0..1; for a file that does not say.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation of each channel, likewise.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder or .onnx file to write. Default: beside the source.")] = None,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Export a checkpoint to ONNX, checked against torch; or bring any .onnx file, float or quantized, into another form, checked too.

    Example: [bold]gleanet export runs/base/model.gleanet --data digits[/]

    For a camera: [bold]gleanet export runs/demo/model.int8.onnx --input uint8 --layout NHWC --output argmax --batch 1[/]

    Not made here: [bold]gleanet export other.onnx --input uint8 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225[/]
    """
    import gleanet.pipeline as pipeline

    forms = [input, output, batch and f"batch-{batch}", layout and layout.lower()]
    target = _target(source, out, ".".join(word for word in forms if word))
    with TerminalProgress() as progress:
        done = pipeline.export(
            source,
            target,
            weights=weights,
            input=input,
            output=output,
            batch=_batch(batch),
            layout=layout,
            preprocess=_preprocess(mean, std),
            data=data,
            progress=progress,
        )
    size = done.path.stat().st_size
    if json:
        print_json({"file": str(done.path), "bytes": size, "max_abs_diff": done.max_abs_diff, "input": input or "float"})
    else:
        whose = source if is_onnx(source) else "torch"
        print_text(f"{done.path}: {size:,} bytes, within {done.max_abs_diff:.1e} of {whose}'s")
    return 0


def _target(source: str, out: Path | None, forms: str) -> Path:
    """The file to write: another form of an ONNX file gets the form into its name, so that it does not replace it."""
    if out is not None and out.suffix == ".onnx":
        return out
    given = Path(source)
    name = f"{given.stem if given.suffix else source.rpartition(':')[2]}.onnx"
    if is_onnx(given):
        name = f"{given.stem}.{forms or 'reformed'}.onnx"
    return (out or (given.parent if given.is_file() else Path())) / name


def _batch(text: str | None) -> int | Literal["dynamic"] | None:
    if text is None:
        return None
    if text == "dynamic":
        return "dynamic"
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"--batch must be a number of images, at least 1, or dynamic, got {text!r}")
    return int(text)


def _preprocess(mean: str | None, std: str | None) -> Preprocess | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise SettingsError(f"--mean and --std belong together: --{'mean' if mean is None else 'std'} is missing")
    means, stds = _numbers("--mean", mean), _numbers("--std", std)
    # Pixels scaled to 0..1 have neither a mean nor a standard deviation above 1: these are of pixels from 0 to 255.
    if max(*means, *stds) <= 1:
        return Preprocess(mean=means, std=stds)
    if 0 < max(means) <= 1:
        raise SettingsError(f"--mean {mean} is of pixels scaled to 0..1, --std {std} of pixels from 0 to 255: give both on the same scale")
    print_note("--mean and --std are above 1: taken as those of pixels from 0 to 255")
    return Preprocess(range=(0.0, 255.0), mean=means, std=stds)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"{option} must be numbers with commas between, such as 0.49,0.48,0.45, got {text!r}") from error


def quantize(
    model: Annotated[str | None, typer.Argument(metavar="MODEL.onnx", help="Any ONNX image classifier.")] = None,
    data: o.Data = None,
    random_data: o.RandomData = False,
    method: o.Method = "auto",
    max_drop: o.MaxDrop = None,
    calibration: o.Calibration = 512,
    selection: Annotated[int, typer.Option(help="Further training images on which the methods are compared.")] = 2000,
    runtime: Annotated[str, typer.Option(help="Runtimes that may win: onnxruntime, openvino, both with a comma, or all.")] = "onnxruntime",
    repair: Annotated[
        bool | None,
        typer.Option(
            "--repair/--no-repair",
            help="Where a fast method loses too much: equalize, correct biases, leave the most sensitive layers in float. "
            "Default: yes, but not for methods that are named.",
        ),
    ] = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Rank the layers by what quantizing each of them costs.")] = False,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    out: o.Out = None,
    resume: o.Resume = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Try quantization methods on this machine and keep the fastest within --max-drop.

    Example: [bold]gleanet quantize runs/demo/model.onnx --data digits[/]
    """
    import gleanet.pipeline as pipeline

    settings = None
    if resume is None:
        settings = QuantizeSettings(
            model=o.required(model, "MODEL.onnx", "gleanet quantize model.onnx --data cifar10"),
            data=data,
            random_data=random_data,
            runtime=runtime,
            repair=repair,
            sensitivity=sensitivity,
            seed=seed,
            threads=threads,
            quantizing=Quantizing(method, max_drop, calibration, selection),
        )
    with TerminalProgress() as progress:
        run = pipeline.quantize_file(settings, out=out, resume=resume, progress=progress)
    if json:
        print_json(run)
    else:
        print_table(trial_table(run.trials), last=TRIAL_LAST)
        print_run(run)
    return BELOW_BAR if run.status == "below bar" else 0


def measure(
    files: Annotated[list[str], typer.Argument(help="ONNX files and .gleanet checkpoints; the first is the baseline.")],
    data: o.Data = None,
    random_data: o.RandomData = False,
    runtime: Annotated[str, typer.Option(help="onnxruntime, openvino, both with a comma, or all that are installed.")] = "onnxruntime",
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Accuracy, agreement, size and latency of files, side by side; checkpoints are exported to ONNX first.

    Example: [bold]gleanet measure runs/demo/base.onnx runs/demo/model.int8.onnx --data digits[/]
    """
    import gleanet.pipeline as pipeline

    with TerminalProgress() as progress:
        measured = pipeline.measure(files, data, random_data=random_data, runtime=runtime, threads=threads, progress=progress)
    several = len({m.runtime for m in measured}) > 1
    rows = [Row(f"{Path(m.file).name}, {m.runtime}" if several else Path(m.file).name, "given", m) for m in measured]
    if json:
        print_json({"measurements": measured})
    else:
        print_table(table(rows, rows[0]), last=ROW_LAST)
        for row in rows:
            for note in row.measured.notes:
                print_text(f"{row.label}: {note}")
    return 0
