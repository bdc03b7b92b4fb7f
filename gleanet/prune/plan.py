"""Plans: which channels of which groups stay. Made before any weight is touched; printable, savable, comparable."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gleanet.core.errors import SettingsError
from gleanet.core.files import write_bytes
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import FORMAT_VERSION, LatencyTable, LayerWidth, dumps, loads
from gleanet.core.settings import Bound, one_budget
from gleanet.prune.allocate import Allocation, allocate
from gleanet.prune.budget import CostModel
from gleanet.prune.diff import GroupDiff, PlanDiff
from gleanet.prune.groups import Grouping, LeftAlone, find_groups
from gleanet.prune.importance import CRITERIA, Criterion, scores
from gleanet.prune.keep import FORGET, Keep
from gleanet.prune.latency import TimeModel, meet
from gleanet.prune.observe import activation_scores, taylor_scores
from gleanet.prune.quantity import fraction
from gleanet.prune.residual import residual_scores
from gleanet.prune.sensitivity import weighed_residual_scores

OBSERVING = {  # criteria that look at images
    "residual": weighed_residual_scores,
    "local_residual": residual_scores,
    "taylor": taylor_scores,
    "activation": activation_scores,
}
REFITTING = ("residual", "local_residual")  # they count on a refit of the next layers
COMPARABLE = (*REFITTING, "taylor")  # their scores are in one unit for all groups


@dataclass(frozen=True)
class GroupPlan:
    """What stays of one group: positions of the kept channels, ascending, among ``channels``."""

    name: str
    channels: int
    keep: tuple[int, ...]

    def drop(self) -> tuple[int, ...]:
        kept = set(self.keep)
        return tuple(c for c in range(self.channels) if c not in kept)


@dataclass(frozen=True)
class Plan:
    """Which channels stay, what that costs, and how it was chosen. ``str(plan)`` is a table.

    ``target`` is the fraction of ``bound`` to keep. ``bytes_*``: the 8-bit file, estimated. ``ms_*``: one call of the float network, as
    predicted from measured widths; ``measured``: the time of the pruned network as a fraction of that of the whole one, as measured.
    """

    groups: tuple[GroupPlan, ...]
    input_shape: tuple[int, ...]
    criterion: str
    allocation: str
    align: int
    target: float
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    layers: tuple[LayerWidth, ...]
    left: tuple[LeftAlone, ...] = ()
    residual: bool = False
    bound: Bound = "flops"
    bytes_before: int | None = None
    bytes_after: int | None = None
    ms_before: float | None = None
    ms_after: float | None = None
    measured: float | None = None
    format_version: int = FORMAT_VERSION

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""
        write_bytes(Path(path), dumps(self))

    @staticmethod
    def load(path: str | Path) -> "Plan":
        """Read a plan that :meth:`save` wrote.

        Raises:
            SettingsError: no such file.
            StoreError: not a plan, or from a newer version.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(f"cannot read the plan {path}: {error.strerror}") from error
        return loads(data, Plan, str(path))

    def diff(self, other: "Plan") -> PlanDiff:
        """Compare with another plan of the same network; ``print`` the result.

        Raises:
            SettingsError: the plans are for different networks.
        """
        mine, theirs = ({part.name: part for part in plan.groups} for plan in (self, other))
        for name in [*mine, *theirs]:
            widths = [parts[name].channels if name in parts else None for parts in (mine, theirs)]
            if widths[0] != widths[1]:
                said = [f"{width} channels" if width else "no such group" for width in widths]
                raise SettingsError(f"the plans are for different networks: group {name} has {said[0]} in one, {said[1]} in the other")
        if (self.input_shape, self.macs_before) != (other.input_shape, other.macs_before):
            raise SettingsError(
                f"the plans are for inputs {list(self.input_shape)} and {list(other.input_shape)}: their MACs do not compare"
            )
        macs = [{layer.layer: layer.macs_after for layer in plan.layers} for plan in (self, other)]
        return PlanDiff(
            labels=(self._label(), other._label()),
            groups=tuple(
                GroupDiff(
                    name, part.channels, (len(part.keep), len(theirs[name].keep)), len({*part.keep} & {*theirs[name].keep}),
                    (macs[0][name], macs[1][name]),
                )
                for name, part in mine.items()
            ),
            macs_before=self.macs_before,
            macs=(self.macs_after, other.macs_after),
            params=(self.params_after, other.params_after),
        )  # fmt: skip

    def _label(self) -> str:
        return f"{self.criterion}, {self.allocation}, blocks of {self.align}"

    def __str__(self) -> str:
        lines = [f"{'group':<28}{'channels':>9}{'keep':>6}{'MACs of its layer':>26}"]
        lines += [
            f"{w.layer:<28}{w.before:>9}{w.after:>6}{w.macs_before / 1e6:>12.2f} M -> {w.macs_after / 1e6:>6.2f} M" for w in self.layers
        ]
        share = self.macs_after / self.macs_before
        lines.append(
            f"MACs {self.macs_before / 1e6:.2f} M -> {self.macs_after / 1e6:.2f} M ({share:.1%}), parameters "
            f"{self.params_before:,} -> {self.params_after:,}; {self._label()}"
        )
        lines.append(f"bounded: {self.bound} at {self.target:.3g} of the whole")
        if self.bytes_before and self.bytes_after:
            lines.append(
                f"8-bit file, estimated: {self.bytes_before:,} -> {self.bytes_after:,} bytes ({self.bytes_after / self.bytes_before:.1%})"
            )
        if self.ms_before and self.ms_after:
            found = "" if self.measured is None else f"; measured {self.measured:.1%}"
            share = self.ms_after / self.ms_before
            lines.append(f"float latency, predicted: {self.ms_before:.3f} -> {self.ms_after:.3f} ms ({share:.1%}){found}")
        lines += [f"left alone: {item.path} ({item.reason})" for item in self.left]
        return "\n".join(lines)


def plan(
    model: nn.Module,
    example_input: torch.Tensor,
    *,
    flops: float | None = None,
    params: float | None = None,
    bytes: float | None = None,
    latency: float | None = None,
    table: LatencyTable | None = None,
    timed: Callable[[Plan], float] | None = None,
    criterion: str | Criterion | None = None,
    allocation: Allocation | None = None,
    align: int = 8,
    floor: float = 0.1,
    residual: bool = False,
    calibration: Iterable[object] | None = None,
    seed: int = 0,
    grouping: Grouping | None = None,
    progress: Progress = SILENT,
    keep: Keep = FORGET,
) -> Plan:
    """Choose which channels stay, without touching a weight.

    Args:
        model: the network.
        example_input: float [N, C, H, W].
        flops, params, bytes, latency: one of them (default: ``flops=0.5``): the fraction to keep, in (0, 1], of the MACs, the parameters,
            the 8-bit file (above 1: its bytes) or the time of the float network; met within 1 % of the whole, from below.
        table: what each width takes, from ``gleanet.latency_table``; for ``latency`` and allocation "latency".
        timed: measures a plan's network, as a fraction of the whole one's time: ``latency`` is then met within 5 % as measured.
        criterion: a name (l1, l2, bn_scale, fpgm, random, residual, local_residual, taylor, activation), or any callable from
            :class:`~gleanet.prune.importance.GroupTensors` to scores [C]. Default: "residual" with calibration images, else "l2".
        allocation: "uniform", "global" or "latency" (global by time). Default: "global" for residuals, whose scores are errors in one
            unit, else "uniform".
        align, floor: kept widths are multiples of the first (4, 2, 1 where a group has too few channels), and at least this fraction.
        residual: also prune widths that pass through residual adds.
        calibration: batches of images float [B, C, H, W], or (images, labels) pairs, for the last four of these; "taylor" uses labels.
        seed: for "random" and for the sampling of positions in residuals.
        grouping: the groups, when they are known already.
        progress, keep: for the criteria that look at images: told how far they are; what they had found before the process was killed.

    Raises:
        BudgetError: the budget cannot be met; says how far it could go.
        SettingsError: unknown criterion or allocation, a value out of range.
        ModelError: the network cannot be traced or has nothing to prune.
    """
    criterion = criterion or ("l2" if calibration is None else "residual")
    name, how = described(criterion, allocation)
    bound, wanted = one_budget(flops=flops, params=params, bytes=bytes, latency=latency)
    _check(name, criterion, allocation, align, floor, calibration)
    grouping = grouping or find_groups(model, example_input, residual=residual)
    cost = CostModel(grouping)
    target = fraction(cost, bound, wanted)
    if name in OBSERVING and not callable(criterion):
        assert calibration is not None
        score = OBSERVING[name](model, grouping, calibration, seed=seed, progress=progress, keep=keep)
    else:
        score = scores(grouping.groups, model, criterion if callable(criterion) else CRITERIA[name], seed)
    ranked = {group: s.numpy() for group, s in score.items()}

    def at(goal: float) -> Plan:
        widths = allocate(
            cost, ranked, target=goal, kind=how, align=align, floor=floor, comparable=name in COMPARABLE, bound=bound, table=table
        )
        return make_plan(
            grouping, cost, _best(ranked, widths), criterion=name, allocation=how, align=align, target=target, residual=residual,
            bound=bound, table=table,
        )  # fmt: skip

    return at(target) if timed is None or bound != "latency" else _timed(at, target, timed)


def described(criterion: str | Criterion, allocation: Allocation | None) -> tuple[str, Allocation]:
    """The name of a criterion, and the allocation that goes with it where none is asked for."""
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
    return name, allocation or ("global" if name in REFITTING else "uniform")


def _best(ranked: Mapping[str, NDArray[np.float64]], widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Positions of the channels with the highest scores of each group."""
    return {group: tuple(sorted(np.argsort(-s, kind="stable")[: widths[group]].tolist())) for group, s in ranked.items()}


def _timed(at: Callable[[float], Plan], target: float, timed: Callable[[Plan], float]) -> Plan:
    closest, ratio = meet(at, target, timed)
    return replace(closest, measured=ratio)


def make_plan(
    grouping: Grouping,
    cost: CostModel,
    keep: dict[str, tuple[int, ...]],
    *,
    criterion: str,
    allocation: str,
    align: int,
    target: float,
    residual: bool = False,
    bound: Bound = "flops",
    table: LatencyTable | None = None,
) -> Plan:
    """A plan from kept positions that are known already, with its cost filled in."""
    widths = {name: len(kept) for name, kept in keep.items()}
    time = None if table is None else TimeModel(cost, table)
    before, after = cost.layer_macs({}), cost.layer_macs(widths)
    return Plan(
        groups=tuple(GroupPlan(g.name, g.channels, keep[g.name]) for g in grouping.groups),
        input_shape=grouping.input_shape(),
        criterion=criterion,
        allocation=allocation,
        align=align,
        target=target,
        macs_before=cost.macs_before,
        macs_after=cost.macs(widths),
        params_before=cost.params_before,
        params_after=cost.params(widths),
        layers=tuple(
            LayerWidth(g.name, g.channels, widths[g.name], before[g.producers()[0].path], after[g.producers()[0].path])
            for g in grouping.groups
        ),
        left=grouping.left,
        residual=residual,
        bound=bound,
        bytes_before=cost.int8_bytes({}),
        bytes_after=cost.int8_bytes(widths),
        ms_before=None if time is None else time.ms({}),
        ms_after=None if time is None else time.ms(widths),
    )


def _check(name: str, criterion: object, allocation: str | None, align: int, floor: float, calibration: Iterable[object] | None) -> None:
    if not callable(criterion) and name not in (*CRITERIA, *OBSERVING):
        raise SettingsError(f"unknown criterion {name!r}: choose one of {', '.join((*CRITERIA, *OBSERVING))}")
    if allocation not in (None, "uniform", "global", "latency"):
        raise SettingsError(f"unknown allocation {allocation!r}: choose uniform, global or latency")
    if align not in (1, 2, 4, 8, 16, 32):
        raise SettingsError(f"align={align} is out of range: choose 1, 2, 4, 8, 16 or 32")
    if not 0 <= floor < 1:
        raise SettingsError(f"floor={floor} is out of range: it is a fraction in [0, 1)")
    if name in OBSERVING and not callable(criterion) and calibration is None:
        raise SettingsError(f"criterion {name!r} looks at activations: pass calibration=batches of images")
