"""``train``: a network trained or fine-tuned on a data set, with its learning curve."""

from pathlib import Path

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run
from gleanet.core.settings import Training, TrainSettings, plain
from gleanet.core.stats import wilson
from gleanet.nn import save
from gleanet.pipeline.recording import described, recorded, saved_settings
from gleanet.pipeline.subject import Subject, subject
from gleanet.report import render
from gleanet.train import Recipe, fit, predict

STATE = "train.state"


def recipe_of(training: Training, flip: bool) -> Recipe:
    """The recipe that settings stand for; ``flip`` is the data's word on mirroring."""
    return Recipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        lr=training.lr,
        weight_decay=training.weight_decay,
        label_smoothing=training.label_smoothing,
        distill=training.distill,
        temperature=training.temperature,
        flip=flip,
    )


def train(settings: TrainSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Train a network and keep it as ``model.gleanet``.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out, resume: as in :func:`gleanet.pipeline.shrink.shrink`.

    Returns:
        the finished record; ``results["accuracy"]`` is on the test images.
    """
    settings = settings or saved_settings(resume, "train", TrainSettings)
    with recorded("train", settings.model, plain(settings), out=out, resume=resume) as recorder:
        target = subject(
            settings.model,
            settings.data,
            weights=settings.weights,
            activation=settings.activation,
            seed=settings.seed,
            device=settings.device,
            progress=progress,
        )
        recorder.update(data=described(target.data))
        _, curve = fit(
            target.net,
            target.data.train,
            recipe_of(settings.training, target.data.flip),
            preprocess=target.preprocess,
            seed=settings.seed,
            evaluate=target.data.test,
            checkpoint=recorder.folder.path(STATE),
            name=f"Train {settings.model}",
            progress=progress,
        )
        save(target.net, recorder.folder.path("model.gleanet"), history={"settings": plain(settings)})
        run = recorder.update(status="done", curves=(curve,), results={"accuracy": accuracy_on_test(target, progress)})
        recorder.folder.path(STATE).unlink(missing_ok=True)
        render(run, recorder.folder.folder)
        return run


def accuracy_on_test(target: Subject, progress: Progress) -> dict[str, float]:
    """Accuracy on the test images with its interval, as plain fractions."""
    test = target.data.test
    guesses = predict(target.net, test.images, target.preprocess, progress=progress).argmax(1)
    found = wilson(int((guesses == test.labels).sum()), len(test))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
