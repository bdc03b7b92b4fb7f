"""Filter Contribution Recycle inside a training loop (Z. Chen et al., KSII TIIS 16(11), 2022; our reading: DESIGN 5.3).

fcr = FCR(model, example_input, flops=0.5, total_steps=steps)
for x, y in loader:
    ...; optimizer.step(); fcr.step()
small = fcr.finish()
"""

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gleanet.core.errors import SettingsError
from gleanet.prune.allocate import Allocation
from gleanet.prune.apply import apply, check_plan, zero_channels
from gleanet.prune.budget import CostModel
from gleanet.prune.collect import recycle_group
from gleanet.prune.groups import Group, find_groups
from gleanet.prune.importance import CRITERIA, Criterion, l2, scores
from gleanet.prune.plan import GroupPlan, Plan, make_plan
from gleanet.prune.plan import plan as make_first_plan
from gleanet.prune.watch import WATCHED, Watch

Recycle = Literal["weights", "none"]


class FCR:
    """Decays small filters to zero while training goes on, and recycles what they contributed into those that stay.

    Every ``interval`` steps of the pruning phase each group is ranked anew, the mixed contribution collector of its small filters is
    assigned to the others, and the small filters, with their batch-norm scale and shift, are decayed; a filter can come back until
    the phase ends. From then on the small filters are held at zero, so that removal in :meth:`finish` is exact.

    Args:
        model: the network being trained; changed in place by :meth:`step`. Where several processes train it, its
            DistributedDataParallel wrapper: all of them then rank by what all have seen ("activation" needs that; gradients and
            weights are the same in all of them anyway), and make the same plan.
        example_input: float [N, C, H, W].
        flops: fraction of the MACs to keep.
        total_steps: optimizer steps of the whole training.
        criterion: a data-free criterion by name; "taylor" or "activation", which watch the loop's own batches between two rankings
            (until the first ranking, and for widths by "global", norms stand in); or any callable from a group's tensors to scores [C].
        allocation: "uniform" or "global".
        recycle: "weights" (FCR), or "none": soft filter pruning with decay (Y. He et al., IJCAI 2018), the natural baseline.
        strength: rho, the share of the collector that is assigned over the whole phase; each event assigns its part.
        aligned: scale the share of each filter by max(0, cos(filter, collector)).
        phase: part of ``total_steps`` until the plan is frozen.
        interval: steps between two rankings.
        align, floor, residual, seed: as in :func:`gleanet.prune.plan.plan`.

    Raises:
        BudgetError, ModelError, SettingsError: as :func:`gleanet.prune.plan.plan`.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: torch.Tensor,
        *,
        flops: float,
        total_steps: int,
        criterion: str | Criterion = "l2",
        allocation: Allocation = "uniform",
        recycle: Recycle = "weights",
        strength: float = 0.2,
        aligned: bool = True,
        phase: float = 0.6,
        interval: int = 20,
        align: int = 8,
        floor: float = 0.1,
        residual: bool = False,
        seed: int = 0,
    ) -> None:
        if criterion == "residual":
            raise SettingsError("criterion 'residual' needs calibration images at every ranking: use it with prune(), or l2 here")
        if total_steps < 1 or interval < 1 or not 0 < phase <= 1 or strength < 0 or recycle not in ("weights", "none"):
            raise SettingsError(
                f"FCR needs total_steps >= 1, interval >= 1, 0 < phase <= 1, strength >= 0 and recycle 'weights' or 'none'; "
                f"got {total_steps}, {interval}, {phase}, {strength}, {recycle!r}"
            )
        processes: dist.ProcessGroup | None = None
        if isinstance(model, DistributedDataParallel):
            processes, model = model.process_group, model.module
        watched = isinstance(criterion, str) and criterion in WATCHED
        self.model = model
        self._grouping = find_groups(model, example_input, residual=residual)
        self.plan: Plan = make_first_plan(
            model, example_input, flops=flops, criterion="l2" if watched else criterion, allocation=allocation, align=align, floor=floor,
            residual=residual, seed=seed, grouping=self._grouping,
        )  # fmt: skip
        self.plan = replace(self.plan, criterion=str(criterion)) if watched else self.plan
        self._watch = Watch(str(criterion), model, self._grouping, processes) if watched else None
        self._criterion = criterion if callable(criterion) else CRITERIA.get(criterion, l2)
        self._recycle, self._strength, self._aligned = recycle, strength, aligned
        self._interval, self._seed = interval, seed
        self._phase_end = max(1, round(phase * total_steps))
        self._step = 0

    @property
    def frozen(self) -> bool:
        """Whether the pruning phase is over: the plan no longer changes and the small filters are zero."""
        return self._step >= self._phase_end

    def step(self) -> None:
        """Call once after every optimizer step."""
        self._step += 1
        if self._watch is not None and self._step <= self._phase_end:
            self._watch.step()
        if self._step < self._phase_end and self._step % self._interval == 0:
            self._decay(self._rank())
        elif self._step == self._phase_end:
            self._rank()
            self._hold()
            self._stop_watching()
        elif self._step > self._phase_end:
            self._hold()

    def finish(self) -> nn.Module:
        """The plain, smaller network. Before the end of the phase the small filters are zeroed at once."""
        if not self.frozen and (self._watch is None or self._watch.seen):
            self._rank()
        self._hold()
        self._stop_watching()
        return apply(self.model, self.plan, grouping=self._grouping)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold, beside the model's and the optimizer's state: the step, the kept channels, and what "taylor" and
        "activation" have seen since the last ranking. Plain values."""
        watched = {} if self._watch is None else {"watched": self._watch.state_dict()}
        return {"step": self._step, "keep": {part.name: list(part.keep) for part in self.plan.groups}, **watched}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state_dict` gave, with the same settings.

        Raises:
            SettingsError: the state is of another network, or is no such state.
        """
        try:
            step, keep = int(state["step"]), {str(name): tuple(int(c) for c in kept) for name, kept in state["keep"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SettingsError(f"not a state of FCR ({type(error).__name__}: {error}): give what state_dict() returned") from error
        channels = {group.name: group.channels for group in self._grouping.groups}
        if keep.keys() != channels.keys():
            raise SettingsError(f"the FCR state is for another network: its groups are {', '.join(sorted(keep)[:3])}, ...")
        check_plan(replace(self.plan, groups=tuple(GroupPlan(name, channels[name], keep[name]) for name in channels)), self._grouping)
        try:
            if self._watch is not None:
                self._watch.load_state_dict(state["watched"])
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"the FCR state holds nothing of criterion {self.plan.criterion!r} for this network ({error})") from error
        self._step = step
        if self.frozen:
            self._stop_watching()
        self.plan = make_plan(
            self._grouping, CostModel(self._grouping), keep, criterion=self.plan.criterion, allocation=self.plan.allocation,
            align=self.plan.align, target=self.plan.target, residual=self.plan.residual,
        )  # fmt: skip

    def _rank(self) -> dict[str, torch.Tensor]:
        """Rank each group anew and give the scores; widths stay as planned (step 2)."""
        if self._watch is not None:
            score = self._watch.take()
        else:
            score = scores(self._grouping.groups, self.model, self._criterion, self._seed + self._step)
        parts = []
        for part in self.plan.groups:
            best = score[part.name].argsort(descending=True, stable=True)[: len(part.keep)]
            parts.append(GroupPlan(part.name, part.channels, tuple(sorted(best.tolist()))))
        self.plan = replace(self.plan, groups=tuple(parts))
        return score

    def _decay(self, score: dict[str, torch.Tensor]) -> None:
        """Collect, assign, decay (steps 3 to 5)."""
        before, now = self._keep_factor(self._step - self._interval), self._keep_factor(self._step)
        ratio = now / before
        for group, part in self._pruned():
            if self._recycle == "weights":
                if bool((score[part.name] < 0).any()):
                    raise SettingsError(f"the criterion gave group {part.name} scores below 0: FCR mixes in proportion to them")
                # what this event takes from the small filters is what it may give to the others
                recycle_group(self.model, group, part.keep, score[part.name], self._strength * (1 - ratio), self._aligned)
            zero_channels(self.model, group, list(part.drop()), factor=ratio)

    def _keep_factor(self, step: int) -> float:
        """d(t): 1 at the start, 0 at the end of the phase, quadratic so that most of the decay comes while ranks still settle."""
        return (1 - min(1.0, max(0, step) / self._phase_end)) ** 2

    def _hold(self) -> None:
        for group, part in self._pruned():
            zero_channels(self.model, group, list(part.drop()))

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def _pruned(self) -> list[tuple[Group, GroupPlan]]:
        known = self._grouping.named()
        return [(known[part.name], part) for part in self.plan.groups if len(part.keep) < part.channels]
