"""One-shot pruning: plan, remove, recycle, in one call."""

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import nn

from gleanet.core.errors import SettingsError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LatencyTable
from gleanet.nn.usable import clone, usable
from gleanet.prune.allocate import Allocation
from gleanet.prune.apply import apply, grouping_for
from gleanet.prune.collect import recycle_weights
from gleanet.prune.groups import Grouping, find_groups
from gleanet.prune.importance import Criterion
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.least_squares import labelled_batches
from gleanet.prune.plan import Plan
from gleanet.prune.plan import plan as make_plan
from gleanet.prune.recycle import recycle_features
from gleanet.prune.similarity import recycle_similarity

Recycle = Literal["features", "similarity", "weights", "none"]


def prune(
    model: nn.Module,
    example_input: torch.Tensor,
    *,
    flops: float | None = None,
    params: float | None = None,
    bytes: float | None = None,
    latency: float | None = None,
    table: LatencyTable | None = None,
    criterion: str | Criterion | None = None,
    allocation: Allocation | None = None,
    recycle: Recycle | None = None,
    align: int = 8,
    floor: float = 0.1,
    residual: bool = False,
    calibration: Iterable[object] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> nn.Module:
    """A smaller copy of ``model`` that keeps a fraction of its MACs, parameters, bytes or time, without any training.

    Args:
        recycle: "features" refits the next layers on calibration images (default when there are any), "similarity" predicts the
            dropped features from the kept ones by filter geometry alone (default without images, for uniform allocation), "weights"
            mixes the dropped filters into the kept ones, "none" only removes.
        model, example_input, flops, params, bytes, latency, table, criterion, allocation, align, floor, residual, calibration, seed: as
            in :func:`gleanet.prune.plan.plan`.

    Example:
        >>> small = prune(net, x, flops=0.5, calibration=[images])  # doctest: +SKIP

    Raises:
        BudgetError, ModelError, SettingsError: see :func:`gleanet.prune.plan.plan`.
    """
    _check(recycle, calibration)
    model = usable(model)
    grouping = find_groups(model, example_input, residual=residual)
    batches = None if calibration is None else labelled_batches(calibration, grouping)
    chosen = make_plan(
        model, example_input, flops=flops, params=params, bytes=bytes, latency=latency, table=table, criterion=criterion,
        allocation=allocation, align=align, floor=floor, residual=residual, calibration=batches, seed=seed, grouping=grouping,
        progress=progress,
    )  # fmt: skip
    return carry_out(model, chosen, recycle=recycle, calibration=batches, seed=seed, progress=progress, grouping=grouping)


def carry_out(
    model: nn.Module,
    plan: Plan,
    *,
    recycle: Recycle | None = None,
    calibration: Iterable[object] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    grouping: Grouping | None = None,
    keep: Keep = FORGET,
) -> nn.Module:
    """Carry out a plan that is made already: remove its channels and recycle what they gave.

    Args:
        model: the network the plan was made for; not changed.
        plan: which channels stay.
        recycle, calibration, seed: as in :func:`prune`.
        grouping: the groups of ``model``, when they are known already.
        keep: layers that "features" had refitted before the process was killed are not refitted again.

    Raises:
        SettingsError: the plan is for another network, unknown way of recycling, or "features" without calibration images.
    """
    _check(recycle, calibration)
    how = recycle or _best_measured(plan, calibration)
    grouping = grouping_for(model, plan, grouping)
    if how == "weights":
        model = clone(model)
        recycle_weights(model, plan, grouping)
    elif how == "similarity":
        model = clone(model)
        recycle_similarity(model, plan, grouping)
    small = apply(model, plan, grouping=grouping)
    if how == "features":
        assert calibration is not None
        recycle_features(model, small, plan, grouping, calibration, seed=seed, progress=progress, keep=keep)
    return small


def _best_measured(plan: Plan, calibration: Iterable[object] | None) -> Recycle:
    """Without images similarity helps where all layers keep one ratio, and harms where some are nearly emptied, as "global" empties them
    (benchmarks/pruning_steps.py; docs/evidence.md)."""
    if calibration is not None:
        return "features"
    return "similarity" if plan.allocation == "uniform" else "none"


def _check(recycle: Recycle | None, calibration: Iterable[object] | None) -> None:
    if recycle is not None and recycle not in get_args(Recycle):
        raise SettingsError(f"unknown recycle {recycle!r}: choose {', '.join(get_args(Recycle))}")
    if recycle == "features" and calibration is None:
        raise SettingsError("recycle='features' refits layers on images: pass calibration=batches of images")
