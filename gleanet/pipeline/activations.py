"""``activations compare``: the same training with several activation functions, over seeds; accuracy, time and latency side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec

from gleanet.core.comparison import Cell, Compared, CompareSettings
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Curve, CurvePoint, Latency, Run
from gleanet.core.settings import plain
from gleanet.core.stats import mean_interval
from gleanet.measure.timing import latency
from gleanet.nn.activations import activation, split_names
from gleanet.nn.family import gain
from gleanet.pipeline.cells import Setting, cell, part_of, slug
from gleanet.pipeline.files import export
from gleanet.pipeline.recording import described, recorded, saved_settings
from gleanet.pipeline.subject import load_for
from gleanet.report.figures import render_comparison

CELLS = "cells"


def compare(settings: CompareSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Train a network with each activation and each seed: same images in the same order, same draws of the initial weights, same steps.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out, resume: as in :func:`gleanet.pipeline.shrink.shrink`. Finished cells are never run again.

    Returns:
        the finished record; ``results["comparison"]`` holds a :class:`gleanet.core.comparison.Compared` for each activation.

    Raises:
        ModelError: an unknown activation, one that is named twice, or a network without activation modules.
        GleanetError: every training diverged.
    """
    settings = settings or saved_settings(resume, "activations compare", CompareSettings)
    names = split_names(",".join(settings.activations))
    with recorded("activations compare", settings.model, plain(settings), out=out, resume=resume) as recorder:
        data = load_for(settings.model, settings.weights, settings.data, progress=progress)
        train = part_of(data.train, settings.train_images)
        recorder.update(data={**described(data), "trained on": len(train)})
        setting = Setting(settings.model, settings.weights, data, train, data.test, settings.training, settings.device)
        folder = recorder.folder.path(CELLS)
        seeds = range(settings.seed, settings.seed + settings.seeds)
        cells: list[Cell] = []
        for seed in seeds:  # seed by seed, so that a run that is cut short has compared all activations
            for name in names:
                cells.append(cell(setting, name, seed, folder, progress))
                recorder.update(results={"comparison": msgspec.to_builtins(summary(cells, settings.baseline))})
        times = latencies([c for c in cells if not c.trouble], folder, settings.threads, progress)
        found = tuple(replace(row, latencies=times.get(row.activation, ())) for row in summary(cells, settings.baseline))
        run = recorder.update(
            status="done",
            curves=tuple(mean_curve([c.curve for c in cells if c.activation == name and not c.trouble], name) for name in names),
            notes=tuple(f"{c.activation}, seed {c.seed}: {c.trouble}" for c in cells if c.trouble),
            results={"comparison": msgspec.to_builtins(found)},
        )
        render_comparison(run, found, settings.baseline, recorder.folder.folder)
        return run


def summary(cells: Sequence[Cell], baseline: str) -> tuple[Compared, ...]:
    """One row for each activation, in the order of the cells: mean over seeds, and mean difference to the baseline with the same seeds."""
    base = {c.seed: c.accuracy for c in cells if c.activation == baseline and not c.trouble}
    rows = []
    for name in dict.fromkeys(c.activation for c in cells):
        own = [c for c in cells if c.activation == name]
        good = [c for c in own if not c.trouble]
        pairs = [c.accuracy - base[c.seed] for c in good if c.seed in base] if name != baseline else []
        rows.append(
            Compared(
                activation=name,
                accuracies=tuple(c.accuracy for c in good),
                mean=mean_interval([c.accuracy for c in good]) if good else None,
                difference=mean_interval(pairs) if pairs else None,
                seconds=median(c.seconds for c in good) if good else None,
                gain=gain(activation(name)()),
                failed=len(own) - len(good),
            )
        )
    return tuple(rows)


def latencies(cells: Sequence[Cell], folder: Path, threads: int, progress: Progress) -> dict[str, tuple[Latency, ...]]:
    """Inference time of one network for each activation, as exported to ONNX, all of them in turns at batch 1 and 64."""
    files: dict[str, Path] = {}
    for found in cells:
        if found.activation not in files:
            path = folder / f"{slug(found.activation, found.seed)}.onnx"
            if not path.is_file():
                export(str(folder / f"{slug(found.activation, found.seed)}.gleanet"), path)
            files[found.activation] = path
    timed = latency(list(files.values()), threads=threads, progress=progress)
    return {name: timed[path] for name, path in files.items()}


def mean_curve(curves: Sequence[Curve], name: str) -> Curve:
    """Point by point, the mean of trainings of equally many steps."""
    points = []
    for same in zip(*(curve.points for curve in curves), strict=True):
        known = [p.accuracy for p in same if p.accuracy is not None]
        loss, lr = (sum(getattr(p, what) for p in same) / len(same) for what in ("loss", "lr"))
        points.append(CurvePoint(same[0].epoch, same[0].step, lr, loss, sum(known) / len(known) if known else None))
    return Curve(name, tuple(points))
