"""``train``: a network trained or fine-tuned on a data set, with its learning curve."""

from dataclasses import replace
from pathlib import Path

import torch

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run
from gleanet.core.settings import Training, TrainSettings, plain
from gleanet.core.stats import wilson
from gleanet.data import ImageSet
from gleanet.nn import save
from gleanet.pipeline.recording import described, done_already, recorded, saved_settings
from gleanet.pipeline.subject import Subject, subject
from gleanet.pipeline.team import assembled
from gleanet.train import Recipe, fit, predict
from gleanet.train.evaluate import count_correct
from gleanet.train.step import best_precision
from gleanet.train.team import ALONE, Team

STATE = "train.state"


def recipe_of(training: Training, flip: bool, device: torch.device) -> Recipe:
    """The recipe that settings stand for on a device; ``flip`` is the data's word on mirroring."""
    return Recipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        lr=training.lr,
        weight_decay=training.weight_decay,
        label_smoothing=training.label_smoothing,
        distill=training.distill or 0.0,
        temperature=training.temperature,
        flip=flip,
        precision=training.precision or best_precision(device),
    )


def train(settings: TrainSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Train a network and keep it as ``model.gleanet``. All processes that torchrun has started train it together.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out, resume: as in :func:`gleanet.pipeline.shrink.shrink`.

    Returns:
        the finished record; ``results["accuracy"]`` is on the test images.

    Raises:
        GleanetError: one of the family, each with its line; the run's folder then says how far it came.
        Interrupted: by Ctrl-C, after the state was saved; ``resume`` goes on from there.
        PeerLost: another process has died; ``resume`` goes on from the last state that was saved.
    """
    if done := done_already(resume, "train", progress):
        return done
    settings = settings or saved_settings(resume, "train", TrainSettings)
    team = assembled(settings.device)
    with recorded("train", settings.model, plain(settings), out=out, resume=resume, team=team) as recorder:
        target = subject(settings, activation=settings.activation, team=team, progress=progress)
        recipe = recipe_of(settings.training, target.data.flip, target.device)
        recorder.update(data=described(target.data), results={"precision": recipe.precision, "processes": team.size})
        _, curve = fit(
            target.net,
            target.data.train,
            recipe,
            preprocess=target.preprocess,
            seed=settings.seed,
            evaluate=target.data.test,
            checkpoint=recorder.folder.path(STATE),
            name=f"Train {settings.model}",
            team=team,
            progress=progress,
        )
        if team.rank == 0:
            save(target.net, recorder.folder.path("model.gleanet"), history={"settings": plain(settings)})
        return recorder.finish(status="done", curves=(curve,), results={"accuracy": accuracy_on_test(target, progress, team)})


TAUGHT = 0.5  # weight of a good teacher's term (G. Hinton et al. 2015 weigh it higher than the labels' term; equal is the safer half)
KNOWS = 0.95  # a teacher that knows fewer of the training images holds the pupil back, see docs/evidence.md


def taught(training: Training, target: Subject, images: ImageSet, progress: Progress) -> tuple[Training, str]:
    """Decide on distillation where the user did not: the given network is a good teacher only if it knows the training images.

    A network that was trained on other pixels holds its pupils back: docs/evidence.md compares both ways.

    Args:
        images: training images to examine the teacher on.

    Returns:
        the training with ``distill`` set, and a sentence for the record.
    """
    if training.distill is not None:
        return training, f"distillation from the given network with weight {training.distill:g}" if training.distill else "no distillation"
    known = float((predict(target.net, images.images, target.preprocess, progress=progress).argmax(1) == images.labels).mean())
    weight = TAUGHT if known >= KNOWS else 0.0
    verdict = "so it teaches" if weight else "too few to teach"
    words = f"the given network knows {100 * known:.1f} % of {len(images):,} training images, {verdict}"
    return replace(training, distill=weight), words


def accuracy_on_test(target: Subject, progress: Progress, team: Team = ALONE) -> dict[str, float]:
    """Accuracy on the test images with its interval, as plain fractions."""
    test = target.data.test
    found = wilson(count_correct(target.net, test, target.preprocess, team=team, progress=progress), len(test))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
