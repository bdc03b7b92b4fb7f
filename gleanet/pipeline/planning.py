"""Plans of the commands, and what they need to know of time: the table of widths on this machine, the measured time of a candidate."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LatencyTable
from gleanet.core.settings import Input, Pruning, plain
from gleanet.data import ImageSet
from gleanet.export import export_onnx
from gleanet.measure import latency, width_times
from gleanet.nn.weights import weights_digest
from gleanet.pipeline.subject import Subject
from gleanet.prune import Plan, apply, find_groups, least_part, measured_widths
from gleanet.prune import plan as make_plan
from gleanet.prune.keep import FORGET, Keep

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
    model: nn.Module,
    example_input: torch.Tensor,
    base: Path,
    *,
    input: Input = "float",
    batch: int = 1,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Callable[[Plan], float]:
    """A function that measures a plan: the median time of the pruned network as a fraction of that of ``base``, in turns.

    The channels are removed and nothing is refitted: a time does not depend on the weights.
    """

    def measure(plan: Plan) -> float:
        with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
            small = export_onnx(apply(model, plan), example_input, Path(folder) / "small.onnx", input=input).path
            times = latency([base, small], batches=(batch,), threads=threads, seconds=SECONDS, image_shape=plan.input_shape)
        ratio = times[small][0].p50_ms / times[base][0].p50_ms
        progress.say(f"planned {(plan.ms_after or 0) / (plan.ms_before or 1):.3f} of the float latency, measured {ratio:.3f}")
        return ratio

    return measure


def kept(folder: Path, target: Subject, pruning: Pruning, images: ImageSet, seed: int) -> Keep:
    """Where a run keeps what planning and refitting have found so far, for this network, these settings and images."""
    return Keep(folder, f"{weights_digest(target.net)} {images.digest()} {seed} {plain(pruning)}")


def without_times(plan: Plan) -> str:
    """The plan as a checkpoint remembers it: the same settings give the same file, and no two timings agree to the last digit."""
    return str(replace(plan, ms_before=None, ms_after=None, measured=None))


def planned(
    pruning: Pruning,
    target: Subject,
    calibration: list[object],
    *,
    base: Path | None,
    input: Input = "float",
    threads: int,
    seed: int,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> tuple[Plan, LatencyTable | None]:
    """The plan that the settings ask for, and the table of times it was made with.

    A latency that the inner widths of residual blocks alone cannot reach is reached with the widths between the blocks too.

    Args:
        base: the exported network, which takes ``input``, to time it and its layers; None: nothing is timed (then no latency budget).

    Raises:
        BudgetError, ExportError, ModelError, SettingsError: see :func:`gleanet.prune.plan.plan` and :func:`latency_table`.
    """
    net, example = target.net, target.example
    bound, fraction = pruning.budget
    residual, table = pruning.residual, None
    if base is not None:
        table = _table(pruning, target, residual, base, threads, progress)
        if bound == "latency" and not residual:
            grouping = find_groups(net, example)
            least = least_part(grouping, bound=bound, align=pruning.align, floor=pruning.floor, table=table)
            if least > fraction:
                progress.say(f"the inner widths of blocks alone reach {least:.3f} of the float latency: pruning the residual widths too")
                residual, table = True, _table(pruning, target, True, base, threads, progress)
    plan = make_plan(
        net,
        example,
        flops=pruning.flops,
        params=pruning.params,
        bytes=pruning.bytes,
        latency=pruning.latency,
        table=table,
        timed=None if base is None else timed(net, example, base, input=input, threads=threads, progress=progress),
        criterion=pruning.criterion,
        allocation=pruning.allocation,
        align=pruning.align,
        floor=pruning.floor,
        residual=residual,
        calibration=calibration,
        seed=seed,
        progress=progress,
        keep=keep,
    )
    return plan, table


def _table(pruning: Pruning, target: Subject, residual: bool, base: Path, threads: int, progress: Progress) -> LatencyTable:
    net, example, align, floor = target.net, target.example, pruning.align, pruning.floor
    return latency_table(net, example, align=align, floor=floor, residual=residual, threads=threads, base=base, progress=progress)
