"""Commands for one stage on files: export, quantize, measure."""

from pathlib import Path
from typing import Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.jobs import BELOW_BAR, print_run
from gleanet.cli.terminal import TerminalProgress, print_json, print_table, print_text
from gleanet.core.errors import SettingsError
from gleanet.core.records import Row
from gleanet.core.settings import QuantizeSettings, Quantizing
from gleanet.report import table, trial_table

RUNTIMES = ("onnxruntime",)


def export(
    checkpoint: Annotated[str, typer.Argument(help="A .gleanet file, or any MODEL together with --weights.")],
    weights: o.Weights = None,
    data: o.Data = None,
    input: o.Input = "float",
    out: Annotated[Path | None, typer.Option(help="Folder or .onnx file to write. Default: beside the checkpoint.")] = None,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Export to ONNX: one file, batch-norm folded, dynamic batch, checked against torch (on real images with --data).

    Example: [bold]gleanet export runs/base/model.gleanet --data digits[/]
    """
    import gleanet.pipeline as pipeline

    with TerminalProgress() as progress:
        done = pipeline.export(checkpoint, _target(checkpoint, out), weights=weights, input=input, data=data, progress=progress)
    if json:
        print_json({"file": str(done.path), "bytes": done.path.stat().st_size, "max_abs_diff": done.max_abs_diff, "input": input})
    else:
        print_text(f"{done.path}: {done.path.stat().st_size:,} bytes, logits within {done.max_abs_diff:.1e} of torch's")
    return 0


def _target(checkpoint: str, out: Path | None) -> Path:
    if out is not None and out.suffix == ".onnx":
        return out
    source = Path(checkpoint)
    name = f"{source.stem if source.suffix else checkpoint.rpartition(':')[2]}.onnx"
    return (out or (source.parent if source.is_file() else Path())) / name


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="Any ONNX image classifier.")],
    data: o.Data = None,
    random_data: o.RandomData = False,
    method: o.Method = "auto",
    max_drop: o.MaxDrop = None,
    calibration: o.Calibration = 512,
    selection: Annotated[int, typer.Option(help="Further training images on which the methods are compared.")] = 2000,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "auto",
    out: o.Out = None,
    json: o.Json = False,
    config: o.Config = None,
) -> int:
    """Try quantization methods on this machine and keep the fastest within --max-drop.

    Example: [bold]gleanet quantize runs/demo/model.onnx --data digits[/]
    """
    import gleanet.pipeline as pipeline

    settings = QuantizeSettings(
        model=model,
        data=data,
        random_data=random_data,
        seed=seed,
        threads=threads,
        quantizing=Quantizing(method, max_drop, calibration, selection),
    )
    with TerminalProgress() as progress:
        run, _ = pipeline.quantize_file(settings, out=out, progress=progress)
    if json:
        print_json(run)
    else:
        print_table(trial_table(run.trials))
        print_run(run)
    return BELOW_BAR if run.status == "below bar" else 0


def measure(
    files: Annotated[list[str], typer.Argument(help="ONNX files and .gleanet checkpoints; the first is the baseline.")],
    data: o.Data = None,
    random_data: o.RandomData = False,
    runtime: Annotated[str, typer.Option(help="Runtime to measure with: onnxruntime.")] = "onnxruntime",
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

    if runtime not in RUNTIMES:
        raise SettingsError(f"unknown runtime {runtime!r}: choose {', '.join(RUNTIMES)}")
    with TerminalProgress() as progress:
        measured = pipeline.measure(files, data, random_data=random_data, threads=threads, progress=progress)
    rows = [Row(Path(m.file).name, "given", m) for m in measured]
    if json:
        print_json({"measurements": measured})
    else:
        print_table(table(rows, rows[0]))
        for row in rows:
            for note in row.measured.notes:
                print_text(f"{row.label}: {note}")
    return 0
