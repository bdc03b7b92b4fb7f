"""``activations search``: factors (alpha, beta) of Bea-Mish for one network and data set, judged by training images that are kept apart."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from gleanet.core.comparison import Cell, Compared, SearchSettings
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run
from gleanet.core.settings import plain
from gleanet.data import ImageSet, calibration
from gleanet.pipeline.activations import CELLS, mean_curve, summary
from gleanet.pipeline.cells import Setting, cell, part_of
from gleanet.pipeline.recording import described, recorded, saved_settings
from gleanet.pipeline.subject import load_for
from gleanet.report.figures import render_comparison

MISH = "beamish(alpha=1,beta=1)"


def search(settings: SearchSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Train with many pairs for one seed, with the best third for all seeds, and name the best by its mean on the validation images.

    The first pair is (1, 1), which is Mish and the baseline. The test images are not looked at, so that a comparison on them afterwards
    is not tuned on them.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out, resume: as in :func:`gleanet.pipeline.shrink.shrink`. Finished cells are never run again.

    Returns:
        the finished record; ``results["best"]`` is the name of the best pair, ``results["comparison"]`` as for ``compare``.
    """
    settings = settings or saved_settings(resume, "activations search", SearchSettings)
    with recorded("activations search", settings.model, plain(settings), out=out, resume=resume) as recorder:
        data = load_for(settings.model, settings.weights, settings.data, progress=progress)
        train, validation = split(part_of(data.train, settings.train_images), settings.validation)
        recorder.update(data={**described(data), "trained on": len(train), "validated on": len(validation)})
        setting = Setting(settings.model, settings.weights, data, train, validation, settings.training, settings.device)
        folder = recorder.folder.path(CELLS)
        cells = [cell(setting, name, settings.seed, folder, progress) for name in pairs(settings.trials, settings.spread, settings.seed)]
        finalists = _best(cells, max(2, math.ceil(settings.trials / 3)))
        for seed in range(settings.seed + 1, settings.seed + settings.seeds):
            cells += [cell(setting, name, seed, folder, progress) for name in finalists]
        ranked = _ranked(summary(cells, MISH), settings.seeds)
        best = ranked[0].activation
        run = recorder.update(
            status="done",
            curves=tuple(mean_curve([c.curve for c in cells if c.activation == name and not c.trouble], name) for name in finalists),
            notes=(
                f"Judged by {len(validation):,} training images that were kept apart. The test images were not looked at: now run `gleanet "
                f"activations compare {settings.model} --data {settings.data} --activations 'mish,{best}'`.",
            ),
            results={"best": best, "comparison": msgspec.to_builtins(ranked)},
        )
        render_comparison(run, ranked, MISH, recorder.folder.folder)
        return run


def pairs(trials: int, spread: float, seed: int) -> tuple[str, ...]:
    """Names of Bea-Mish with factors between 1 / spread and spread, evenly over the logarithms: Mish first, then a rotated R2 sequence.

    M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018: multiples of 1/g and 1/g^2, g the plastic number.
    """
    g = 1.3247179572447460
    start = np.random.default_rng(seed).random(2)
    names = [MISH]
    for index in range(1, trials):
        alpha, beta = (spread ** (2 * ((start[d] + index / g ** (d + 1)) % 1) - 1) for d in (0, 1))
        names.append(f"beamish(alpha={alpha:.4g},beta={beta:.4g})")
    return tuple(dict.fromkeys(names))


def split(images: ImageSet, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Images to train on and images to judge by, without overlap, both balanced over the classes."""
    ordered = calibration(images, len(images), 1)
    count = min(len(images) - 1, max(1, round(fraction * len(images))))
    return ordered.subset(np.arange(count, len(images))), ordered.subset(np.arange(count))


def _best(cells: Sequence[Cell], count: int) -> tuple[str, ...]:
    """Mish, and the best others."""
    others = sorted((c for c in cells if c.activation != MISH and not c.trouble), key=lambda c: -c.correct)
    return (MISH, *(c.activation for c in others[: count - 1]))


def _ranked(rows: Sequence[Compared], seeds: int) -> tuple[Compared, ...]:
    """Those with all seeds first, the best on top."""
    return tuple(sorted(rows, key=lambda row: (len(row.accuracies) < seeds, -row.mean.mean if row.mean else 0.0)))
