"""The main job: prune, recover, export, quantize, measure, report. One function a step, in the order of the work."""

import copy
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from gleanet.core.files import write_bytes
from gleanet.core.lazy import Array
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Curve, LatencyTable, Row, Run, dumps, loads
from gleanet.core.settings import ShrinkSettings, plain
from gleanet.core.store import ARTEFACTS
from gleanet.data import ImageSet
from gleanet.export import export_onnx
from gleanet.measure.compare import side_by_side
from gleanet.measure.interface import read_interface
from gleanet.nn import load, save
from gleanet.pipeline.answers import keep_answers
from gleanet.pipeline.planning import kept, planned, without_times
from gleanet.pipeline.recording import TRIALS, Recorder, described, done_already, recorded, saved_settings
from gleanet.pipeline.subject import Samples, Subject, in_batches, judging, samples, subject
from gleanet.pipeline.train import recipe_of, taught
from gleanet.prune import WITHIN, Plan, carry_out, find_groups
from gleanet.prune.keep import Keep
from gleanet.quantize import METHODS, SHORTLIST, USUAL_DROP, Choice, quantize
from gleanet.train import fit

_PLANNED = (
    "criterion", "allocation", "bound", "target", "macs_before", "macs_after", "params_before", "params_after", "bytes_before",
    "bytes_after", "ms_before", "ms_after", "measured",
)  # fmt: skip
CHECKED = 64  # test images on which an exported file is compared with its network
STEPS = "steps"  # folder of what lies between base and model: kept, because rows of the table point to it


@dataclass(frozen=True)
class _Job:
    settings: ShrinkSettings
    subject: Subject
    samples: Samples
    recorder: Recorder
    progress: Progress
    teaching: str

    def path(self, name: str) -> Path:
        return self.recorder.folder.path(name)


def shrink(settings: ShrinkSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT) -> Run:
    """Shrink a network and say what that cost.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out: the run's folder; None: ``runs/<date>-<model>-<short id>``.
        resume: folder or id of a run to go on with.

    Returns:
        the finished record; status "below bar" where no method stays within ``max_drop``.

    Raises:
        GleanetError: one of the family, each with its line; the run's folder then says how far it came.
        Interrupted: by Ctrl-C, after the state was saved; ``resume`` goes on from there.
    """
    if done := done_already(resume, "shrink", progress):
        return done
    settings = settings or saved_settings(resume, "shrink", ShrinkSettings)
    with recorded("shrink", settings.model, plain(settings), out=out, resume=resume) as recorder:
        target = subject(settings, activation=settings.activation, progress=progress)
        drawn = samples(
            target.data, max(settings.pruning.calibration, settings.quantizing.calibration), settings.quantizing.selection, settings.seed
        )
        training, teaching = settings.training, ""
        if training.epochs > 0:
            training, teaching = taught(training, target, drawn.selection, progress)
        job = _Job(replace(settings, training=training), target, drawn, recorder, progress, teaching)
        plan = _plan(job)
        recorder.update(data=described(target.data), widths=plan.layers)
        return _carry_on(job, plan)


def _carry_on(job: _Job, plan: Plan) -> Run:
    base = job.subject.net
    curves: list[Curve] = []
    rows = [("as given", "given", "base.onnx")]
    if job.settings.fair_baseline:
        tuned, curve = _fine_tune(job, copy.deepcopy(base), "fine-tune the given network")
        curves.append(curve)
        _export(job, tuned, job.path(f"{STEPS}/base-tuned.onnx"))
        rows.append(("as given, fine-tuned the same way", "fine-tuned", f"{STEPS}/base-tuned.onnx"))
    small = _one_shot(job, plan)
    if job.settings.training.epochs > 0:
        _export(job, small, job.path(f"{STEPS}/one-shot.onnx"))
        rows.append(("pruned, one-shot", "one-shot", f"{STEPS}/one-shot.onnx"))
        small, curve = _fine_tune(job, small, "recover the pruned network")
        curves.append(curve)
        rows.append(("pruned and recovered", "recovered", "model.onnx"))
    else:
        rows.append(("pruned, one-shot", "one-shot", "model.onnx"))
    save(small, job.path("model.gleanet"), history={"settings": plain(job.settings), "plan": without_times(plan)})
    _export(job, small, job.path("model.onnx"))
    job.recorder.update(curves=tuple(curves))
    choice = _quantize(job)
    if choice.path is not None:
        rows.append((f"quantized ({choice.method})", "quantized", "model.int8.onnx"))
    return _conclude(job, plan, choice, rows)


def _plan(job: _Job) -> Plan:
    """The plan; a resumed run takes the one it made before, because a measured plan may come out otherwise the next time."""
    images, made, times = job.samples.calibration, job.path(f"{STEPS}/plan.json"), job.path(f"{STEPS}/times.json")
    job.progress.say(f"{job.subject.data.title}: {len(images)} training images for calibration, {len(job.subject.data.test)} test images")
    if made.is_file() and times.is_file():
        job.recorder.update(table=loads(times.read_bytes(), LatencyTable, str(times)))
        return Plan.load(made)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        base = Path(folder) / "base.onnx"  # not in the run's folder yet: a budget that cannot be met leaves nothing behind
        _export(job, job.subject.net, base)
        plan, table = planned(
            job.settings.pruning,
            job.subject,
            job.subject.calibration(images, job.settings.pruning.criterion),
            base=base,
            input=job.settings.input,
            threads=job.settings.threads,
            seed=job.settings.seed,
            progress=job.progress,
            keep=_kept(job),
        )
        write_bytes(job.path("base.onnx"), base.read_bytes())
    write_bytes(times, dumps(table))
    plan.save(made)
    job.recorder.update(table=table)
    return plan


def _one_shot(job: _Job, plan: Plan) -> nn.Module:
    """The pruned network; a resumed run takes the one it made before."""
    done = job.path(f"{STEPS}/one-shot.gleanet")
    if done.is_file():
        return load(done, factory=_own_factory(job)).to(job.subject.device)
    small = carry_out(
        job.subject.net,
        plan,
        recycle=job.settings.pruning.recycle,
        calibration=job.subject.batches(job.samples.calibration),
        seed=job.settings.seed,
        progress=job.progress,
        grouping=find_groups(job.subject.net, job.subject.example, residual=plan.residual),
        keep=_kept(job),
    )
    save(small, done)
    return small


def _kept(job: _Job) -> Keep:
    return kept(job.path(STEPS), job.subject, job.settings.pruning, job.samples.calibration, job.settings.seed)


def _own_factory(job: _Job) -> str | None:
    """A user's own function may be run again: it is the one that this command was given."""
    return job.settings.model if ":" in job.settings.model else None


def _fine_tune(job: _Job, net: nn.Module, name: str) -> tuple[nn.Module, Curve]:
    """Fine-tune with the network as given for a teacher; the same recipe for whatever is fine-tuned (DESIGN 5.4a)."""
    training = job.settings.training
    recipe = recipe_of(training, job.subject.data.flip, job.subject.device)
    return fit(
        net,
        job.subject.data.train,
        recipe,
        preprocess=job.subject.preprocess,
        seed=job.settings.seed,
        teacher=job.subject.net if training.distill else None,
        evaluate=job.subject.data.test,
        checkpoint=job.path(f"{STEPS}/{name.split()[0]}.state"),
        name=name.capitalize(),
        progress=job.progress,
    )


def _export(job: _Job, net: nn.Module, path: Path) -> None:
    test = job.subject.data.test
    check = _inputs(job, test.subset(np.arange(min(CHECKED, len(test)))))[:]
    export_onnx(net, job.subject.example, path, input=job.settings.input, check=check)


def _quantize(job: _Job) -> Choice:
    setting, images = job.settings.quantizing, job.samples.calibration
    bar, look = setting.max_drop, len(job.samples.selection)
    parts = (job.samples.selection, job.samples.reserve)
    calibrate = images.subset(np.arange(min(setting.calibration, len(images))))
    return quantize(
        job.path("model.onnx"),
        calibration=(_inputs(job, part)[:] for part in in_batches(calibrate)),
        evaluate=itertools.chain.from_iterable(judging(part, lambda each: _inputs(job, each), look) for part in parts if part is not None),
        look=look,
        method=_methods(job),
        max_drop=None if bar is None or bar >= USUAL_DROP else bar,  # a wide bar is for the whole chain: it is judged at its end
        out=job.path("model.int8.onnx"),
        threads=job.settings.threads,
        seed=job.settings.seed,
        memory=False,  # that of the chosen file is measured with the other rows
        keep=job.path(TRIALS),
        progress=job.progress,
    )


def _methods(job: _Job) -> str:
    """Where the bytes are bounded, methods that spend bytes on speed are not candidates unless they are named."""
    method = job.settings.quantizing.method
    if job.settings.pruning.budget[0] != "bytes" or method not in ("auto", "all"):
        return method
    return ",".join(name for name in SHORTLIST if not METHODS[name].pad and not METHODS[name].float_head)


def _inputs(job: _Job, images: ImageSet) -> Array:
    """Images as the exported files take them."""
    return images.images if job.settings.input == "uint8" else job.subject.inputs(images)


def _conclude(job: _Job, plan: Plan, choice: Choice, rows: Sequence[tuple[str, str, str]]) -> Run:
    """Measure every file side by side on the test images, write record and report."""
    test, settings = job.subject.data.test, job.settings
    baseline = job.path(f"{STEPS}/base-tuned.onnx" if settings.fair_baseline else "base.onnx")
    found = side_by_side(
        [job.path(file) for _, _, file in rows],
        inputs=_inputs(job, test),
        labels=test.labels,
        baseline=baseline,
        threads=settings.threads,
        progress=job.progress,
    )
    table = tuple(Row(label, role, replace(m, file=file)) for (label, role, file), m in zip(rows, found.measured, strict=True))
    old = next(place for place, (_, _, file) in enumerate(rows) if job.path(file) == baseline)
    keep_answers(job.recorder.folder.folder, (rows[old][2], rows[-1][2]), (found.answers[old], found.answers[-1]), test)
    shortfall = _shortfall(settings, choice, table)
    results = {
        "files": {name: name for name in ARTEFACTS if job.path(name).is_file()},
        "quantization": {"method": choice.method, "reason": choice.reason, "float_nodes": choice.float_nodes, **choice.float_figures},
        "plan": {name: getattr(plan, name) for name in _PLANNED},
    }
    notes = (_budget_note(plan, table), _recipe_note(job), choice.reason, *([shortfall] if shortfall else []))
    return job.recorder.finish(
        rows=table,
        trials=choice.trials,
        ranges=choice.ranges,
        sensitivity=choice.sensitivity,
        repair=choice.repair,
        interface=read_interface(job.path(rows[-1][2])),
        status="below bar" if shortfall else "done",
        results=results,
        notes=tuple(n for n in notes if n),
    )


def _shortfall(settings: ShrinkSettings, choice: Choice, table: Sequence[Row]) -> str | None:
    """Why the result is below the user's bar, or None."""
    if choice.path is None:
        return f"no quantization method is sure to stay within --max-drop, so there is no int8 file: {choice.reason}"
    change, bar = table[-1].measured.change, settings.quantizing.max_drop
    if bar is None or change is None or -100 * change.delta <= bar:
        return None
    return f"the quantized network loses {-100 * change.delta:.2f} points on the test images, more than the {bar:g} that --max-drop allows"


def _budget_note(plan: Plan, table: Sequence[Row]) -> str:
    """What the budget was and what came of it, where MACs and parameters of the result table do not say it."""
    if plan.bound == "bytes" and table[-1].role == "quantized":
        allowed, actual = plan.target * (plan.bytes_before or 0), table[-1].measured.bytes
        return f"Budget: {allowed:,.0f} bytes for the 8-bit file ({plan.target:.3g} of that of the given network); it has {actual:,}."
    if plan.bound == "latency" and plan.measured is not None:
        small = next(row.measured for row in table if row.measured.file == "model.onnx")
        ratio = small.latencies[0].p50_ms / table[0].measured.latencies[0].p50_ms
        reached = abs(plan.measured - plan.target) <= WITHIN * plan.target
        return (
            f"Budget: {plan.target:.3g} of the float latency at batch 1; planned widths measured {plan.measured:.3f}, "
            f"{'within 5 % of it' if reached else 'the closest that could be reached'}; the finished float model {ratio:.3f}."
        )
    return ""


def _recipe_note(job: _Job) -> str:
    training = job.settings.training
    if training.epochs == 0:
        return "No training: channels were chosen and layers refitted on unlabelled images alone."
    peak = max((point.lr for curve in job.recorder.run.curves for point in curve.points), default=0.0)
    lr = f"about {peak:.2g} (range test)" if training.lr is None else f"{training.lr:g}"
    return (
        f"Fine-tuning: {training.epochs:g} epochs of SGD with Nesterov momentum, batch {training.batch_size}, peak learning rate {lr}, "
        f"warm-up and cosine, weight decay {training.weight_decay:g}, crops{' and flips' if job.subject.data.flip else ''}; {job.teaching}."
    )
