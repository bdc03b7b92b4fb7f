"""Filter Contribution Recycle inside a training loop (Z. Chen et al., KSII TIIS 16(11), 2022; our reading: DESIGN 5.3).

    fcr = FCR(model, example_input, flops=0.5, total_steps=steps)
    for x, y in loader:
        ...; optimizer.step(); fcr.step()
    small = fcr.finish()
"""

from typing import Any, Literal

import torch
from torch import nn

from gleanet.core.errors import SettingsError
from gleanet.prune.allocate import Allocation
from gleanet.prune.apply import apply, zero_channels
from gleanet.prune.budget import CostModel
from gleanet.prune.groups import find_groups
from gleanet.prune.importance import CRITERIA, Criterion, scores
from gleanet.prune.plan import Plan, make_plan
from gleanet.prune.plan import plan as make_first_plan
from gleanet.prune.recycle import collect_and_assign

Recycle = Literal["weights", "none"]


class FCR:
    """Decays small filters to zero while training goes on, and recycles what they contributed into those that stay.

    Every ``interval`` steps of the pruning phase each group is ranked anew, the mixed contribution collector of its small filters is
    assigned to the others, and the small filters, with their batch-norm scale and shift, are decayed; a filter can come back until
    the phase ends. From then on the small filters are held at zero, so that removal in :meth:`finish` is exact.

    Args:
        model: the network being trained; changed in place by :meth:`step`.
        example_input: float [N, C, H, W].
        flops: fraction of the MACs to keep.
        total_steps: optimizer steps of the whole training.
        criterion: a data-free criterion by name, or any callable from a group's tensors to scores [C].
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
        self.model = model
        self._grouping = find_groups(model, example_input, residual=residual)
        self._criterion = criterion if callable(criterion) else CRITERIA.get(criterion)
        self.plan: Plan = make_first_plan(
            model, example_input, flops=flops, criterion=criterion, allocation=allocation, align=align, floor=floor,
            residual=residual, seed=seed, grouping=self._grouping,
        )  # fmt: skip
        self._cost = CostModel(self._grouping)
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
        if self._step < self._phase_end and self._step % self._interval == 0:
            self._rank()
            self._decay()
        elif self._step == self._phase_end:
            self._rank()
            self._hold()
        elif self._step > self._phase_end:
            self._hold()

    def finish(self) -> nn.Module:
        """The plain, smaller network. Before the end of the phase the small filters are zeroed at once."""
        if not self.frozen:
            self._rank()
        self._hold()
        return apply(self.model, self.plan, grouping=self._grouping)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold for :meth:`load_state_dict` to go on: the step and the kept channels."""
        return {"step": self._step, "keep": {part.name: list(part.keep) for part in self.plan.groups}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state_dict` gave."""
        self._step = int(state["step"])
        self._adopt({name: tuple(keep) for name, keep in state["keep"].items()})

    def _adopt(self, keep: dict[str, tuple[int, ...]]) -> None:
        old = self.plan
        self.plan = make_plan(
            self._grouping, self._cost, keep, criterion=old.criterion, allocation=old.allocation, align=old.align,
            target=old.target, residual=old.residual,
        )  # fmt: skip

    def _rank(self) -> None:
        """Rank each group anew; widths stay as planned (step 2)."""
        assert self._criterion is not None
        score = scores(self._grouping.groups, self.model, self._criterion, self._seed + self._step)
        widths = {part.name: len(part.keep) for part in self.plan.groups}
        keep = {name: tuple(sorted(s.argsort(descending=True, stable=True)[: widths[name]].tolist())) for name, s in score.items()}
        self._adopt(keep)
        self._score = score

    def _decay(self) -> None:
        """Collect, assign, decay (steps 3 to 5)."""
        before, now = (self._keep_factor(self._step - self._interval), self._keep_factor(self._step))
        ratio = now / before if before > 0 else 0.0
        known = self._grouping.named()
        for part in self.plan.groups:
            drop = list(part.drop())
            if not drop:
                continue
            group = known[part.name]
            if self._recycle == "weights":
                for member in group.producers():
                    weight = self.model.get_submodule(member.path).weight
                    assert isinstance(weight, torch.Tensor)
                    order = torch.tensor([positions[0] for positions in member.index])
                    # what this event takes from the small filters is what it may give to the others
                    strength = self._strength * (1 - ratio)
                    collect_and_assign(weight, order[list(part.keep)], order[drop], self._score[part.name], order, strength, self._aligned)
            zero_channels(self.model, group, drop, factor=ratio)

    def _keep_factor(self, step: int) -> float:
        """d(t): 1 at the start, 0 at the end of the phase, quadratic so that most of the decay comes while ranks still settle."""
        return (1 - min(1.0, max(0, step) / self._phase_end)) ** 2

    def _hold(self) -> None:
        known = self._grouping.named()
        for part in self.plan.groups:
            if len(part.keep) < part.channels:
                zero_channels(self.model, known[part.name], list(part.drop()))
