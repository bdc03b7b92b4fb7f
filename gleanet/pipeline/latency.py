"""Budgets in time: the table of widths of a network on this machine, and the measured time of what a plan leaves."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LatencyTable
from gleanet.export import export_onnx
from gleanet.measure import latency, width_times
from gleanet.prune import Plan, apply, find_groups, measured_widths

SECONDS = 1.0  # for each of the two files of one comparison


def latency_table(
    model: nn.Module,
    example_input: torch.Tensor,
    *,
    align: int = 8,
    floor: float = 0.1,
    residual: bool = False,
    batch: int = 1,
    threads: int = 1,
    base: Path | None = None,
    progress: Progress = SILENT,
) -> LatencyTable:
    """What each width of each layer of a network takes on this machine, in ONNX Runtime: for ``gleanet.plan(..., latency=0.5, table=...)``.

    Args:
        model: a classifier, [N, C, H, W] float32 -> [N, K].
        example_input: float [N, C, H, W].
        align, floor, residual: as for the plan: they say which widths there are to measure.
        batch, threads: of each timed call.
        base: the exported network, when there is a file of it already.

    Raises:
        ModelError: the network cannot be traced or has nothing to prune.
        ExportError: it cannot be exported.

    Example:
        >>> table = latency_table(net, x)  # doctest: +SKIP
        >>> small = prune(net, x, latency=0.5, table=table)  # doctest: +SKIP
    """
    axes = measured_widths(find_groups(model, example_input, residual=residual), align=align, floor=floor)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        file = base or export_onnx(model, example_input, Path(folder) / "base.onnx").path
        return width_times(file, axes, batch=batch, threads=threads, progress=progress)


def timed(
    model: nn.Module, example_input: torch.Tensor, base: Path, *, batch: int = 1, threads: int = 1, progress: Progress = SILENT
) -> Callable[[Plan], float]:
    """A function that measures a plan: the median time of the pruned network as a fraction of that of ``base``, in turns.

    The channels are removed and nothing is refitted: a time does not depend on the weights.
    """

    def measure(plan: Plan) -> float:
        with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
            small = export_onnx(apply(model, plan), example_input, Path(folder) / "small.onnx").path
            times = latency([base, small], batches=(batch,), threads=threads, seconds=SECONDS, image_shape=plan.input_shape)
        ratio = times[small][0].p50_ms / times[base][0].p50_ms
        progress.say(f"planned {(plan.ms_after or 0) / (plan.ms_before or 1):.3f} of the float latency, measured {ratio:.3f}")
        return ratio

    return measure
