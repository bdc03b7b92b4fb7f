"""``prune``: a checkpoint pruned to a budget; one-shot, with recovery, or by FCR while training goes on."""

import tempfile
from pathlib import Path

from torch import nn

from gleanet.core.errors import SettingsError
from gleanet.core.launch import launch
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Curve, Run
from gleanet.core.settings import PruneSettings, plain
from gleanet.export import export_onnx
from gleanet.nn import save
from gleanet.pipeline.planning import kept, planned, without_times
from gleanet.pipeline.recording import Recorder, described, done_already, recorded, saved_settings
from gleanet.pipeline.subject import Subject, samples, subject
from gleanet.pipeline.team import assembled
from gleanet.pipeline.train import accuracy_on_test, recipe_of, taught
from gleanet.prune import FCR, Plan, carry_out
from gleanet.prune.apply import grouping_for
from gleanet.prune.keep import Keep
from gleanet.train import fit
from gleanet.train.recipe import total_steps
from gleanet.train.team import Team

STATE = "prune.state"
PLAN = "plan.json"
EXAMINED = 2000  # training images that show whether the given network can teach


def prune(settings: PruneSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Prune a network to a budget and keep it as ``model.gleanet``, with ``plan.json`` beside it. While training goes on, all processes
    that torchrun has started do it together.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out, resume: as in :func:`gleanet.pipeline.shrink.shrink`.

    Returns:
        the finished record; ``results`` holds the accuracy on the test images before and after, and the cost.
    """
    if done := done_already(resume, "prune", progress):
        return done
    settings = settings or saved_settings(resume, "prune", PruneSettings)
    if launch() is not None and not settings.in_training:
        raise SettingsError("torchrun is for training: prune with --in-training, or without torchrun in one process")
    team = assembled(settings.device)
    with recorded("prune", settings.model, plain(settings), out=out, resume=resume, team=team) as recorder, team.guard():
        target = subject(settings, team=team, progress=progress)
        before = accuracy_on_test(target, progress, team)
        if settings.in_training:
            small, plan, curves = _in_training(settings, target, recorder, team, progress)
        else:
            small, plan, curves = _one_shot(settings, target, recorder, progress)
        if team.rank == 0:
            save(small, recorder.folder.path("model.gleanet"), history={"settings": plain(settings), "plan": without_times(plan)})
            plan.save(recorder.folder.path(PLAN))
        after = accuracy_on_test(Subject(small, target.data, target.device), progress, team)
        return recorder.finish(
            status="done",
            data=described(target.data),
            widths=plan.layers,
            curves=curves,
            results={
                "accuracy_before": before,
                "accuracy": after,
                "macs_before": plan.macs_before,
                "macs": plan.macs_after,
                "params_before": plan.params_before,
                "params": plan.params_after,
                "bound": plan.bound,
                "target": plan.target,
                "measured": plan.measured,
                "plan": str(plan),
            },
        )


Pruned = tuple[nn.Module, Plan, tuple[Curve, ...]]


def _one_shot(settings: PruneSettings, target: Subject, recorder: Recorder, progress: Progress) -> Pruned:
    pruning, training = settings.pruning, settings.training
    drawn = samples(target.data, pruning.calibration, EXAMINED, settings.seed)
    batches = target.calibration(drawn.calibration, pruning.criterion)
    keep = kept(recorder.folder.folder, target, pruning, drawn.calibration, settings.seed)
    plan = _plan(settings, target, recorder, batches, keep, progress)
    small = carry_out(target.net, plan, recycle=pruning.recycle, calibration=batches, seed=settings.seed, progress=progress, keep=keep)
    if training.epochs == 0:
        return small, plan, ()
    training, teaching = taught(training, target, drawn.selection, progress)
    recorder.update(
        data=described(target.data),
        widths=plan.layers,
        notes=(f"Recovery: {teaching}.",),
        results={"accuracy_one_shot": accuracy_on_test(Subject(small, target.data, target.device), progress)},
    )
    small, curve = fit(
        small,
        target.data.train,
        recipe_of(training, target.data.flip, target.device),
        preprocess=target.preprocess,
        seed=settings.seed,
        teacher=target.net if training.distill else None,
        evaluate=target.data.test,
        checkpoint=recorder.folder.path(STATE),
        name="Recover the pruned network",
        progress=progress,
    )
    return small, plan, (curve,)


def _plan(settings: PruneSettings, target: Subject, recorder: Recorder, batches: list[object], keep: Keep, progress: Progress) -> Plan:
    """The plan; a resumed run takes the one it made before, because a measured plan may come out otherwise the next time."""
    made, pruning = recorder.folder.path(PLAN), settings.pruning
    if made.is_file():
        return Plan.load(made)
    if settings.plan is not None:
        return _given(settings.plan, target)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        base = None
        if pruning.budget[0] == "latency" or pruning.allocation == "latency":
            base = export_onnx(target.net, target.example, Path(folder) / "base.onnx").path
        plan, table = planned(
            pruning, target, batches, base=base, threads=settings.threads, seed=settings.seed, progress=progress, keep=keep
        )
    plan.save(made)
    recorder.update(table=table, widths=plan.layers, data=described(target.data))
    return plan


def _given(file: str, target: Subject) -> Plan:
    """A plan that was saved before.

    Raises:
        SettingsError: there is none, or it is for another network, or for images of another size, whose MACs are others.
        StoreError: the file holds no plan.
    """
    plan, here = Plan.load(file), tuple(target.example.shape[1:])
    if plan.input_shape != here:
        raise SettingsError(
            f"the plan {file} is for images {list(plan.input_shape)}, {target.data.name} has {list(here)}: make one for those"
        )
    grouping_for(target.net, plan)
    return plan


def _in_training(settings: PruneSettings, target: Subject, recorder: Recorder, team: Team, progress: Progress) -> Pruned:
    """FCR inside the training loop (DESIGN 5.3); its state is kept with that of the training."""
    pruning, recycle = settings.pruning, settings.pruning.recycle or "features"
    assert recycle != "similarity"  # the settings refuse it
    drawn = samples(target.data, pruning.calibration, EXAMINED, settings.seed)
    training, teaching = team.shared(lambda: taught(settings.training, target, drawn.selection, progress))
    recorder.update(notes=(f"Training: {teaching}.",))
    recipe = recipe_of(training, target.data.flip, target.device)
    fcr = FCR(
        target.net,
        target.example,
        flops=pruning.budget[1],
        total_steps=total_steps(len(target.data.train), recipe),
        criterion=pruning.criterion,
        allocation=pruning.allocation,
        recycle=recycle,
        images=pruning.calibration,
        align=pruning.align,
        floor=pruning.floor,
        residual=pruning.residual,
        seed=settings.seed,
        processes=team.processes,
    )
    _, curve = fit(
        target.net,
        target.data.train,
        recipe,
        preprocess=target.preprocess,
        seed=settings.seed,
        teacher=target.net if training.distill else None,  # fit copies it before the first step
        after_step=lambda step: fcr.step(),
        along=fcr,
        checkpoint=recorder.folder.path(STATE),
        evaluate=target.data.test,
        name="Train and prune",
        team=team,
        progress=progress,
    )
    return fcr.finish(), fcr.plan, (curve,)
