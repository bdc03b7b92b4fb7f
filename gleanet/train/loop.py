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
from gleanet.core.progress import SILENT, Advance, Listener, Progress
from gleanet.core.records import Curve, CurvePoint, Preprocess
from gleanet.data import ImageSet, epoch
from gleanet.nn import class_count
from gleanet.nn.modes import mode
from gleanet.train import resume
from gleanet.train.evaluate import accuracy, device_of, predict
from gleanet.train.interrupt import Deferred
from gleanet.train.randomness import forked_random, seed_random
from gleanet.train.rangetest import range_test
from gleanet.train.recipe import Recipe, learning_rate, loss, optimizer, steps_per_epoch, total_steps

SAVE_EVERY_S = 20.0
POINTS_PER_EPOCH = 10
CHECK_EVERY = 50  # steps between looks at the losses; a look waits for the device


@dataclass(frozen=True)
class _Job:
    """All that stays the same during one training."""

    model: nn.Module
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
    progress: Progress = SILENT,
) -> tuple[nn.Module, Curve]:
    """Train ``model`` in place by the recipe. On the CPU two runs with the same arguments give the same bits.

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
        checkpoint: file for the whole state, written at most every 20 s and after every epoch. Where it exists, training goes on from it.
        along: what ``after_step`` changes beside the weights; its state is kept with that of the training.
        name: of the curve and the progress bar.
        progress: told about every step, in images.

    Returns:
        ``model``, in the mode it came in, and its learning curve (mean training loss since the point before; learning rate of the step).

    Raises:
        ModelError: the network does not accept the images, or another number of classes.
        CheckpointError: ``checkpoint`` belongs to another training.
        GleanetError: the loss is not finite; says at which step.
        KeyboardInterrupt: after the state was saved.
    """
    total = total_steps(len(images), recipe)
    if total == 0:
        return model, Curve(name, ())
    device = device_of(model)
    _check_classes(model, images, device)
    expected = resume.identity(model, images, recipe, seed, teacher) if checkpoint is not None else {}
    found = resume.read(checkpoint, expected) if checkpoint is not None else None
    standing = found[0] if found else resume.Standing(expected, 0, _peak(model, images, recipe, preprocess, seed, teacher, progress))
    guide = None if teacher is None else _frozen(teacher, device)  # before a saved state is put into the network, which may be the teacher
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer(model, recipe, standing.peak)
    if found is not None:
        _go_on(model, sgd, along, *found)
    per_epoch = steps_per_epoch(len(images), recipe)
    job = _Job(
        model, images, recipe, preprocess, seed, guide, after_step, evaluate, checkpoint, along, name, device, per_epoch, total,
        sgd, progress,
    )  # fmt: skip
    state = _State(standing)
    with mode(model, training=True), forked_random(device):
        _run(job, state)
    return model, Curve(name, state.standing.points)


def _go_on(
    model: nn.Module, sgd: torch.optim.SGD, along: resume.Stateful | None, standing: resume.Standing, tensors: dict[str, Tensor]
) -> None:
    resume.put(model, sgd, tensors)
    if along is not None:
        along.load_state_dict(resume.state_along(standing, tensors))


def _run(job: _Job, state: _State) -> None:
    whole, done = _images_until(job, job.total), _images_until(job, state.standing.step)
    with job.progress.task(job.name, whole, "images") as advance, Deferred() as ctrl_c:
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
    )
    for step, (x, y) in enumerate(batches, start=state.standing.step):
        if step >= job.total:
            break
        state.pending.append(_step(job, step, state.standing.peak, x, y))
        state.standing = replace(state.standing, step=step + 1)
        if job.after_step is not None:
            job.after_step(step + 1)
        advance(len(x))
        _record(job, state)
        ctrl_c.deliver()


def _step(job: _Job, step: int, peak: float, x: Tensor, y: Tensor) -> Tensor:
    """One optimizer step; returns the loss, still on the device."""
    seed_random(job.device, job.seed, step)
    lr = learning_rate(step, job.total, peak, job.recipe.warmup)
    for group in job.sgd.param_groups:
        group["lr"] = lr
    x, y = x.to(job.device, non_blocking=True), y.to(job.device, non_blocking=True)
    soft = None
    if job.teacher is not None and job.recipe.distill > 0:
        with torch.no_grad():
            soft = job.teacher(x)
    value = loss(job.model(x), y, job.recipe, soft)
    job.sgd.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    job.sgd.step()
    return value.detach()


def _record(job: _Job, state: _State) -> None:
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
    if job.checkpoint is not None and (ends or time.monotonic() - state.saved_at > SAVE_EVERY_S):
        _save(job, state)


def _collect(job: _Job, state: _State) -> None:
    """Fetch the losses from the device.

    Raises:
        GleanetError: one of them is not finite.
    """
    if not state.pending:
        return
    stacked = torch.stack(state.pending).double().cpu()
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
    resume.write(job.checkpoint, job.model, job.sgd, state.standing, job.along)
    state.saved_at = time.monotonic()


def _accuracy(job: _Job) -> float | None:
    if job.evaluate is None:
        return None
    return accuracy(predict(job.model, job.evaluate.images, job.preprocess), job.evaluate.labels)


def _images_until(job: _Job, step: int) -> int:
    epochs, batches = divmod(step, job.per_epoch)
    return epochs * len(job.images) + min(len(job.images), batches * job.recipe.batch_size)


def _peak(
    model: nn.Module, images: ImageSet, recipe: Recipe, preprocess: Preprocess, seed: int, teacher: nn.Module | None, progress: Progress
) -> float:
    if recipe.lr is not None:
        return recipe.lr
    found = range_test(model, images, recipe, preprocess=preprocess, seed=seed, teacher=teacher, progress=progress)
    progress.say(f"peak learning rate {found:g}, from a range test")
    return found


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
