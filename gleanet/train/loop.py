"""``fit``: one readable training loop, used to train, to fine-tune and to recover after pruning. Resumable to the bit."""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gleanet.core.errors import GleanetError, ModelError
from gleanet.core.interrupt import Deferred
from gleanet.core.progress import SILENT, Advance, Listener, Progress
from gleanet.core.records import Curve, CurvePoint, Preprocess
from gleanet.data import ImageSet, epoch
from gleanet.nn import class_count
from gleanet.nn.modes import mode
from gleanet.train import resume
from gleanet.train.evaluate import count_correct, device_of
from gleanet.train.randomness import forked_random, seed_random
from gleanet.train.rangetest import range_test
from gleanet.train.recipe import Recipe, learning_rate, optimizer, steps_per_epoch, total_steps
from gleanet.train.step import batch_loss
from gleanet.train.team import ALONE, Team

SAVE_EVERY_S = 20.0
POINTS_PER_EPOCH = 10
CHECK_EVERY = 50  # steps between looks at the losses; a look waits for the device


@dataclass(frozen=True)
class _Job:
    """All that stays the same during one training."""

    model: nn.Module
    called: nn.Module  # what a step calls: the model, or what shares it with other processes
    images: ImageSet
    recipe: Recipe
    preprocess: Preprocess
    seed: int
    teacher: nn.Module | None
    after_step: Callable[[int], None] | None
    evaluate: ImageSet | None
    checkpoint: Path | None
    along: resume.Stateful | None
    name: str
    device: torch.device
    per_epoch: int
    total: int
    sgd: torch.optim.SGD
    team: Team
    progress: Progress


@dataclass
class _State:
    """All that changes, beside network and optimizer."""

    standing: resume.Standing
    pending: list[Tensor] = field(default_factory=list)  # losses still on the device
    recorded: int = 0  # steps that the curve knows of
    saved_at: float = field(default_factory=time.monotonic)


def fit(
    model: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    *,
    preprocess: Preprocess,
    seed: int,
    teacher: nn.Module | None = None,
    after_step: Callable[[int], None] | None = None,
    evaluate: ImageSet | None = None,
    checkpoint: Path | None = None,
    along: resume.Stateful | None = None,
    name: str = "train",
    team: Team = ALONE,
    progress: Progress = SILENT,
) -> tuple[nn.Module, Curve]:
    """Train ``model`` in place by the recipe. On the CPU two runs with the same arguments give the same bits.

    Several processes (``team``) train as one: each batch is the one that a single process would take, each process computes its share,
    and all end with the same network. Layers that draw random numbers draw others.

    Args:
        model: a classifier; trained on the device it is on, its weights put into channels-last layout.
        images: what to train on.
        recipe: epochs, learning rate, loss and augmentation.
        preprocess: how pixels become input.
        seed: of data order and augmentation, and of layers that draw random numbers.
        teacher: its logits are the soft targets where ``recipe.distill`` > 0; not changed.
        after_step: called after each optimizer step with the number of steps done (1, 2, ...); may change weights in place. For a resumed
            training to equal an uninterrupted one it must depend on the step, the weights and the state of ``along`` alone.
        evaluate: images for the accuracy of the learning curve, after every epoch.
        checkpoint: file for the whole state, written at most every 20 s and after every epoch. Where it exists, training goes on from it,
            in as many processes as before or in others; only the process of rank 0 looks at it.
        along: what ``after_step`` changes beside the weights; its state is kept with that of the training.
        name: of the curve and the progress bar.
        team: the processes that train together; all call this function with the same arguments.
        progress: told about every step, in images.

    Returns:
        ``model``, in the mode it came in, and its learning curve (mean training loss since the point before; learning rate of the step).

    Raises:
        ModelError: the network does not accept the images, or another number of classes.
        CheckpointError: ``checkpoint`` belongs to another training.
        GleanetError: the loss is not finite; says at which step.
        PeerLost: another process of the team has died.
        KeyboardInterrupt: after the state was saved.
    """
    total = total_steps(len(images), recipe)
    if total == 0:
        return model, Curve(name, ())
    device = device_of(model)
    _check_classes(model, images, device)
    expected, found = team.shared(lambda: _found(model, images, recipe, seed, teacher, checkpoint))
    peak = found[0].peak if found else recipe.lr
    if peak is None:
        peak = range_test(model, images, recipe, preprocess=preprocess, seed=seed, teacher=teacher, team=team, progress=progress)
    guide = None if teacher is None else _frozen(teacher, device)  # before a saved state is put into the network, which may be the teacher
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer(model, recipe, peak)
    if found is not None:
        _go_on(model, sgd, along, *found)
    state = _State(found[0] if found else resume.Standing(expected, 0, peak))
    with mode(model, training=True), forked_random(device), team.together(model) as called:
        job = _Job(
            model, called, images, recipe, preprocess, seed, guide, after_step, evaluate, checkpoint, along, name, device,
            steps_per_epoch(len(images), recipe), total, sgd, team, progress,
        )  # fmt: skip
        _run(job, state)
    return model, Curve(name, state.standing.points)


_Found = tuple[dict[str, str], tuple[resume.Standing, dict[str, Tensor]] | None]


def _found(model: nn.Module, images: ImageSet, recipe: Recipe, seed: int, teacher: nn.Module | None, checkpoint: Path | None) -> _Found:
    """What this training is, where a state is kept, and the state that there is."""
    if checkpoint is None:
        return {}, None
    expected = resume.identity(model, images, recipe, seed, teacher)
    return expected, resume.read(checkpoint, expected)


def _go_on(
    model: nn.Module, sgd: torch.optim.SGD, along: resume.Stateful | None, standing: resume.Standing, tensors: dict[str, Tensor]
) -> None:
    resume.put(model, sgd, tensors)
    if along is not None:
        along.load_state_dict(resume.state_along(standing, tensors))


def _run(job: _Job, state: _State) -> None:
    whole, done = _images_until(job, job.total), _images_until(job, state.standing.step)
    with job.progress.task(job.name, whole, "images") as advance, Deferred(patient=job.team.size > 1) as ctrl_c:
        advance(done)
        try:
            for index in itertools.count(state.standing.step // job.per_epoch):
                if state.standing.step >= job.total:
                    break
                _epoch(job, state, index, advance, ctrl_c)
        except KeyboardInterrupt:
            if not ctrl_c.forced:
                if state.recorded < state.standing.step:  # after_step raised it
                    _record(job, state)
                _save(job, state)
            raise


def _epoch(job: _Job, state: _State, index: int, advance: Advance, ctrl_c: Deferred) -> None:
    """The rest of epoch ``index``, from the batch where the standing is."""
    recipe = job.recipe
    batches = epoch(
        job.images,
        recipe.batch_size,
        job.seed,
        index,
        augment=recipe.augment,
        preprocess=job.preprocess,
        flip=recipe.flip,
        start=state.standing.step % job.per_epoch,
        part=(job.team.rank, job.team.size),
        device=job.device,
    )
    for step, (x, y) in enumerate(batches, start=state.standing.step):
        if step >= job.total:
            break
        whole = _images_until(job, step + 1) - _images_until(job, step)
        state.pending.append(_step(job, step, state.standing.peak, (x, y), whole))
        state.standing = replace(state.standing, step=step + 1)
        if job.after_step is not None:
            job.after_step(step + 1)
        advance(whole)
        due = job.checkpoint is not None and time.monotonic() - state.saved_at > SAVE_EVERY_S
        stop, save = job.team.any(ctrl_c.pending, due)  # all processes stop, and save, after the same step
        _record(job, state, save)
        if stop and job.team.size > 1:
            raise KeyboardInterrupt  # the signal may have reached another process
        if stop:
            ctrl_c.deliver()


def _step(job: _Job, step: int, peak: float, batch: tuple[Tensor, Tensor], whole: int) -> Tensor:
    """One optimizer step on a part of a batch of ``whole`` images; returns its share of the loss, still on the device."""
    seed_random(job.device, job.seed, step, job.team.rank)
    lr = learning_rate(step, job.total, peak, job.recipe.warmup)
    for group in job.sgd.param_groups:
        group["lr"] = lr
    value, share = batch_loss(job.team, job.called, job.teacher, batch, whole, job.recipe)
    job.sgd.zero_grad(set_to_none=True)
    job.team.backward(value)
    job.sgd.step()
    return share


def _record(job: _Job, state: _State, save: bool = False) -> None:
    """After a step: look at the losses, add a point to the curve, save; each when it is time."""
    step = state.recorded = state.standing.step
    ends = step % job.per_epoch == 0 or step == job.total
    if len(state.pending) >= CHECK_EVERY:
        _collect(job, state)
    if ends or step % job.per_epoch % max(1, job.per_epoch // POINTS_PER_EPOCH) == 0:
        _collect(job, state)
        losses = state.standing.losses
        point = CurvePoint(
            epoch=step / job.per_epoch,
            step=step,
            lr=learning_rate(step - 1, job.total, state.standing.peak, job.recipe.warmup),
            loss=sum(losses) / len(losses),
            accuracy=_accuracy(job) if ends else None,
        )
        state.standing = replace(state.standing, points=(*state.standing.points, point), losses=())
        if isinstance(job.progress, Listener):
            job.progress.point(job.name, point)
    if save or ends:
        _save(job, state)


def _collect(job: _Job, state: _State) -> None:
    """Fetch the losses from the device, those of all processes.

    Raises:
        GleanetError: one of them is not finite.
    """
    if not state.pending:
        return
    stacked = job.team.total(torch.stack(state.pending))
    first = state.standing.step - len(state.pending) + 1
    state.pending.clear()
    bad = torch.nonzero(~torch.isfinite(stacked))
    if len(bad):
        step, peak = first + int(bad[0]), state.standing.peak
        raise GleanetError(
            f"{job.name} diverged: the loss is not finite at step {step} of {job.total} with peak learning rate {peak:g}: "
            f"lower the learning rate, say to {peak / 4:g}",
            slug="diverged",
        )
    state.standing = replace(state.standing, losses=(*state.standing.losses, *stacked.tolist()))


def _save(job: _Job, state: _State) -> None:
    if job.checkpoint is None:
        return
    _collect(job, state)
    if job.team.rank == 0:
        resume.write(job.checkpoint, job.model, job.sgd, state.standing, job.along)
    state.saved_at = time.monotonic()


def _accuracy(job: _Job) -> float | None:
    if job.evaluate is None:
        return None
    return count_correct(job.model, job.evaluate, job.preprocess, team=job.team) / len(job.evaluate)


def _images_until(job: _Job, step: int) -> int:
    epochs, batches = divmod(step, job.per_epoch)
    return epochs * len(job.images) + min(len(job.images), batches * job.recipe.batch_size)


def _frozen(teacher: nn.Module, device: torch.device) -> nn.Module:
    copied: nn.Module = copy.deepcopy(teacher).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied.eval()


def _check_classes(model: nn.Module, images: ImageSet, device: torch.device) -> None:
    found = class_count(model, torch.zeros(1, *images.images.shape[1:], device=device))
    if found != len(images.classes):
        raise ModelError(
            f"the network tells {found} classes apart, {images.name} has {len(images.classes)}: build it with that many classes",
            slug="model-classes",
        )
