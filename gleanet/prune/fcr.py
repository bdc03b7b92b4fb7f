"""Filter Contribution Recycle inside a training loop (Z. Chen et al., KSII TIIS 16(11), 2022; our reading: DESIGN 5.3).

fcr = FCR(model, example_input, flops=0.5, total_steps=steps)
for x, y in loader:
    ...; optimizer.step(); fcr.step()
small = fcr.finish()
"""

import copy
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gleanet.core.errors import SettingsError
from gleanet.nn.trace import evaluating
from gleanet.prune.allocate import Allocation
from gleanet.prune.apply import apply, check_plan, zero_channels
from gleanet.prune.budget import CostModel
from gleanet.prune.collect import recycle_group
from gleanet.prune.gather import Gather
from gleanet.prune.groups import Group, find_groups
from gleanet.prune.importance import CRITERIA, Criterion, l2, scores
from gleanet.prune.least_squares import image_batches
from gleanet.prune.plan import OBSERVING, REFITTING, GroupPlan, Plan, described, make_plan
from gleanet.prune.plan import plan as make_first_plan
from gleanet.prune.recycle import recycle_features
from gleanet.prune.watch import WATCHED, Watch

Recycle = Literal["features", "weights", "none"]
INTERVAL, LEAST_EVENTS = 20, 5  # steps between two rankings, and how many rankings a short phase has at least


class FCR:
    """Prunes filters while training goes on, and recycles what they contributed into those that stay.

    ``recycle="features"``, the default and the best measured form (docs/evidence.md, recovery): the loop's own first ``images`` images
    are kept; then the plan is made on them, the small filters are set to zero, and every layer behind them is solved anew so that the
    kept filters give what the small ones gave (DESIGN 5.4). All steps that are left train the pruned network.

    ``recycle="weights"``, the literal reading (DESIGN 5.3): every ``interval`` steps of a pruning phase each group is ranked anew, the
    mixed contribution collector of its small filters is assigned to the others, and the small filters, with their batch-norm scale and
    shift, are decayed; a filter can come back until the phase ends. ``"none"`` only decays: soft filter pruning (Y. He et al., IJCAI
    2018), the natural baseline.

    From then on the small filters are held at zero, so that removal in :meth:`finish` is exact.

    Args:
        model: the network being trained; changed in place by :meth:`step`. Where several processes train it, its
            DistributedDataParallel wrapper, or ``processes``: all of them then rank by what all have seen, or refit as the first of them
            does, and make the same plan. (The inner network alone does where gradients and weights decide.)
        example_input: float [N, C, H, W].
        flops: fraction of the MACs to keep.
        total_steps: optimizer steps of the whole training.
        criterion: as in :func:`gleanet.prune.plan.plan`; default "residual" for "features", else "l2". Residuals need "features".
            For the others "taylor" and "activation" watch the loop's own batches between two rankings (until the first ranking, and for
            widths by "global", norms stand in).
        allocation: "uniform" or "global"; default "global" for residuals, else "uniform".
        recycle: "features", "weights" or "none".
        images: for "features": how many to keep.
        start: for "features": part of ``total_steps`` that comes before the first kept image; 0 suits a network that is trained already.
        strength: for "weights": rho, the share of the collector that is assigned over the whole phase; each event assigns its part.
        aligned: for "weights": scale the share of each filter by max(0, cos(filter, collector)).
        phase: for "weights" and "none": part of ``total_steps`` until the plan is frozen.
        interval: for these: steps between two rankings; default 20, or a fifth of a phase of fewer than 100 steps.
        align, floor, residual, seed: as in :func:`gleanet.prune.plan.plan`.
        processes: the process group that trains the network, where ``model`` is not its wrapper.

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
        criterion: str | Criterion | None = None,
        allocation: Allocation | None = None,
        recycle: Recycle = "features",
        images: int = 512,
        start: float = 0.0,
        strength: float = 0.2,
        aligned: bool = True,
        phase: float = 0.6,
        interval: int | None = None,
        align: int = 8,
        floor: float = 0.1,
        residual: bool = False,
        seed: int = 0,
        processes: dist.ProcessGroup | None = None,
    ) -> None:
        _check(total_steps, interval, phase, strength, recycle, images, start, criterion)
        phase_end = max(1, round(phase * total_steps))
        refits = recycle == "features"
        if isinstance(model, DistributedDataParallel):
            processes, model = model.process_group, model.module
        watched = not refits and isinstance(criterion, str) and criterion in WATCHED
        self.model = model
        self._grouping = find_groups(model, example_input, residual=residual)
        self._plan = partial(
            make_first_plan,
            model,
            example_input,
            flops=flops,
            align=align,
            floor=floor,
            residual=residual,
            seed=seed,
            grouping=self._grouping,
        )
        # what refits looks at its images first; until then norms say whether the budget can be met
        first = "l2" if watched or refits or criterion is None else criterion
        self.plan: Plan = self._plan(criterion=first, allocation=allocation or "uniform")
        self.plan = replace(self.plan, criterion=str(criterion)) if watched else self.plan
        self._watch = Watch(str(criterion), model, self._grouping, processes) if watched else None
        self._criterion: Criterion = criterion if callable(criterion) else CRITERIA.get(criterion or "l2", l2)
        self._chosen = criterion or "residual", allocation
        self._recycle, self._strength, self._aligned = recycle, strength, aligned
        self._interval = _interval(interval, phase_end, recycle)
        self._phase_end, self._seed, self._processes = phase_end, seed, processes
        self._start = round(start * total_steps)
        self._gather: Gather | None = None
        self._images = images
        self._refitted = False
        self._step = 0
        self._listen()

    @property
    def frozen(self) -> bool:
        """Whether the pruning phase is over: the plan no longer changes and the small filters are zero."""
        return self._refitted if self._recycle == "features" else self._step >= self._phase_end

    def step(self) -> None:
        """Call once after every optimizer step."""
        self._step += 1
        if self._recycle == "features":
            self._listen()
            if self._gather is not None and self._gather.enough:
                self._refit()
            if self.frozen:
                self._hold()
            return
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
        """The plain, smaller network. Before the end of the phase, or before there were enough images, it is pruned at once."""
        if self._recycle == "features":
            if self._gather is not None and self._gather.held:
                self._refit()
        elif not self.frozen and (self._watch is None or self._watch.seen):
            self._rank()
        self._hold()
        self._stop_watching()
        return apply(self.model, self.plan, grouping=self._grouping)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold, beside the model's and the optimizer's state: the step, the kept channels, what "taylor" and
        "activation" have seen since the last ranking, and the images that are kept until there are enough. Plain values and tensors."""
        more: dict[str, Any] = {} if self._watch is None else {"watched": self._watch.state_dict()}
        if self._recycle == "features":
            more = {"refitted": self._refitted, "images": [] if self._gather is None else list(self._gather.images)}
        return {"step": self._step, "keep": {part.name: list(part.keep) for part in self.plan.groups}, **more}

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
            if self._recycle == "features":
                self._refitted, images = bool(state["refitted"]), [torch.as_tensor(batch) for batch in state["images"]]
        except (KeyError, TypeError, ValueError) as error:
            what = "kept images" if self._watch is None else f"criterion {self.plan.criterion!r}"
            raise SettingsError(f"the FCR state holds nothing of {what} for this network ({error})") from error
        self._step = step
        if self.frozen:
            self._stop_watching()
        else:
            self._listen()
        if self._gather is not None:
            self._gather.images = images
        criterion, allocation = (self.plan.criterion, self.plan.allocation) if not self._refitted else described(*self._chosen)
        self.plan = make_plan(
            self._grouping, CostModel(self._grouping), keep, criterion=criterion, allocation=allocation, align=self.plan.align,
            target=self.plan.target, residual=self.plan.residual,
        )  # fmt: skip

    def _listen(self) -> None:
        """From the right step on, keep images."""
        if self._recycle == "features" and not self._refitted and self._gather is None and self._step >= self._start:
            self._gather = Gather(self.model, self._images, self._processes)

    @torch.no_grad()
    def _refit(self) -> None:
        """Make the plan on the kept images, set the small filters to zero, and solve for all layers behind them."""
        assert self._gather is not None
        images, criterion, allocation = self._gather.images, *self._chosen
        self._stop_watching()
        if self._processes is None or dist.get_rank(self._processes) == 0:
            batches = image_batches(images, self._grouping)
            self.plan = self._plan(criterion=criterion, allocation=allocation, calibration=batches)
            original = copy.deepcopy(self.model)
            self._hold()
            with evaluating(self.model):
                recycle_features(original, self.model, self.plan, self._grouping, batches, seed=self._seed, new_biases=False)
        if self._processes is not None:
            self._follow_the_first(self._processes)
        self._refitted = True

    def _follow_the_first(self, processes: dist.ProcessGroup) -> None:
        """All processes take over plan, weights and statistics of the first one."""
        first, plan = dist.get_global_rank(processes, 0), [self.plan]
        dist.broadcast_object_list(plan, src=first, group=processes)
        self.plan = plan[0]
        for tensor in self.model.state_dict().values():
            sent = tensor.contiguous()  # NCCL takes no other layout, and weights may be channels-last
            dist.broadcast(sent, src=first, group=processes)
            tensor.copy_(sent)

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
        if self._gather is not None:
            self._gather.close()
            self._gather = None

    def _pruned(self) -> list[tuple[Group, GroupPlan]]:
        known = self._grouping.named()
        return [(known[part.name], part) for part in self.plan.groups if len(part.keep) < part.channels]


def _check(
    total_steps: int,
    interval: int | None,
    phase: float,
    strength: float,
    recycle: str,
    images: int,
    start: float,
    criterion: str | Criterion | None,
) -> None:
    if recycle not in ("features", "weights", "none"):
        raise SettingsError(f"unknown recycle {recycle!r}: FCR takes features, weights or none")
    if isinstance(criterion, str) and criterion not in (*CRITERIA, *OBSERVING):
        raise SettingsError(f"unknown criterion {criterion!r}: choose one of {', '.join((*CRITERIA, *OBSERVING))}")
    if criterion in REFITTING and recycle != "features":
        raise SettingsError(
            f"criterion {criterion!r} does not go with recycle={recycle!r}, which ranks at every event: use features, or l2"
        )
    least = min(total_steps, images, 1 if interval is None else interval)
    if least < 1 or not 0 < phase <= 1 or strength < 0 or not 0 <= start < 1:
        raise SettingsError(
            f"FCR needs total_steps >= 1, interval >= 1, 0 < phase <= 1, strength >= 0, images >= 1 and 0 <= start < 1; "
            f"got {total_steps}, {interval}, {phase}, {strength}, {images}, {start}"
        )


def _interval(asked: int | None, phase_end: int, recycle: str) -> int:
    """Steps between two rankings: as asked; else the usual number, fewer in a phase so short that it would pass without enough of them."""
    if asked is None:
        return min(INTERVAL, max(1, phase_end // LEAST_EVENTS))
    if asked >= phase_end > 1 and recycle != "features":
        raise SettingsError(
            f"interval={asked} is as long as the pruning phase of {phase_end} steps, so nothing would be recycled: "
            f"choose at most {phase_end - 1}, or train for longer"
        )
    return asked
