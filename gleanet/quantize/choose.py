"""Try methods on this machine, measure each file, keep the fastest whose accuracy is proved good enough, and say why the others lost."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import ModelError, QuantizationError, SettingsError
from gleanet.core.files import write_bytes
from gleanet.core.host import machine
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Accuracy, Latency, TensorRange, Trial
from gleanet.core.stats import wilson
from gleanet.measure.accuracy import check_images
from gleanet.measure.metadata import metadata_of
from gleanet.measure.runtime import Session, StrPath, node_counts, open_session, read_model
from gleanet.measure.timing import latency
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.cpu import about
from gleanet.quantize.evaluation import Evaluation, predicted
from gleanet.quantize.methods import CALIBRATORS, Method, impossible, select, with_calibrator
from gleanet.quantize.prepare import images_of, prepare
from gleanet.quantize.reasons import SAME_SPEED, Verdicts, least_bound, speed_ratio
from gleanet.quantize.saturation import chosen_note
from gleanet.quantize.trial import Source, Tried, attempt, seen

HOPELESS = 1.1  # a method this many times slower than the float file is not timed to the end
LOOK = 2000  # images that every method is judged on
SAMPLES = 16  # calibration images kept for looking at single layers
REFINED = 2  # the other calibrators are tried on so many of the fastest methods


@dataclass(frozen=True)
class Choice:
    """What came of it.

    Attributes:
        path: the chosen file; None when no method qualifies.
        method: its name; None likewise.
        trials: one record per method, in the order they were tried; where all were asked for, then one per reason for what does not exist.
        reason: why, in one paragraph, in terms of this machine's CPU.
        float_accuracy, float_latencies, float_nodes: of the model as given, measured in the same minutes.
        ranges: what calibration saw of each tensor, and what each calibrator makes of it.
    """

    path: Path | None
    method: str | None
    trials: tuple[Trial, ...]
    reason: str
    float_accuracy: Accuracy | None = None
    float_latencies: tuple[Latency, ...] = ()
    float_nodes: dict[str, int] = field(default_factory=dict)
    ranges: tuple[TensorRange, ...] = ()


@dataclass(frozen=True)
class _Bench:
    """Where candidates are timed, and against what: the float file takes part in every round."""

    source: Source
    folder: Path
    threads: int
    batches: Sequence[int]
    seed: int
    progress: Progress

    def timed(self, tried: Sequence[Tried]) -> tuple[tuple[Latency, ...], list[Tried]]:
        """Latencies of the float file, and the trials with theirs; files of one structure are timed once."""
        first: dict[str, Path] = {}
        for one in tried:
            if one.file is not None:
                first.setdefault(one.structure, one.file)
        times = latency(
            [self.source.path, *first.values()],
            batches=self.batches,
            threads=self.threads,
            give_up=HOPELESS,
            image_shape=tuple(self.source.evaluation.first.images.shape[1:]),
            seed=self.seed,
            progress=self.progress,
        )
        done = [one if one.file is None else replace(one, trial=replace(one.trial, latencies=times[first[one.structure]])) for one in tried]
        return times[self.source.path], done


def quantize(
    source: StrPath,
    *,
    calibration: Iterable[Any],
    evaluate: Iterable[Any],
    method: str = "auto",
    max_drop: float | None = 0.5,
    out: StrPath | None = None,
    threads: int = 1,
    batches: Sequence[int] = (1, 64),
    look: int = LOOK,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Choice:
    """Quantize an ONNX classifier in several ways, measure all of them, keep the fastest that is proved to lose at most ``max_drop``.

    Args:
        source: a float ONNX file with one image input.
        calibration: batches of images as the file takes them, float32 or uint8 [n, C, H, W]; arrays, torch tensors, or tuples that start
            with one. Read once, in constant memory; n may vary.
        evaluate: batches (images, labels) to measure accuracy on; read as far as needed, and kept.
        method: ``auto`` (a short list, then other calibrators for the fastest), ``all`` (the whole grid), or names of
            :data:`gleanet.quantize.methods.METHODS` separated by commas.
        max_drop: percentage points of accuracy that may be lost against the float file on the same images; the whole 95 % interval of the
            paired difference must stay within. None: one point, or, where every method loses more, as much as the best one may lose.
        out: where the chosen file goes: a path that ends in .onnx, or a folder (``<stem>.int8.onnx`` in it). Default: beside the source.
        threads, batches: how it will be run; speed is judged by the mean over these batch sizes of the time relative to the float file.
        look: images that every method is judged on; more of ``evaluate`` are read for methods whose interval does not decide yet.
        seed: of the order in which the candidates are timed.

    Returns:
        Choice. Its file appears whole or not at all; when no method qualifies, an older file at its place is left alone.

    Raises:
        ModelError: the source cannot be read or run, or is quantized already.
        SettingsError: an unknown method, or a negative ``max_drop``.
        DataError: no images, or images that do not fit the model.
        QuantizationError: every method failed.
        StoreError: the file cannot be written.
    """
    methods = select(method)
    if max_drop is not None and max_drop < 0:
        raise SettingsError(f"max_drop is in percentage points and not negative, got {max_drop}")
    target = _target(Path(source), out)
    given = _prepare(Path(source), calibration, evaluate, look, threads, progress)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        bench = _Bench(given, Path(folder), threads, batches, seed, progress)
        base, tried = bench.timed(_attempts(bench, methods))
        if method == "auto":
            tried += _refined(bench, base, tried)
        verdicts = Verdicts(base, least_bound([one.trial for one in tried]) if max_drop is None else max_drop)
        choice = _chosen(given, verdicts, _decided(bench, verdicts, tried), target)
    return replace(choice, trials=(*choice.trials, *_nonexistent())) if method == "all" else choice


def _chosen(given: Source, verdicts: Verdicts, tried: Sequence[Tried], target: Path) -> Choice:
    """The best of what was tried, its file written to ``target``, and every trial with its verdict."""
    trials = [one.trial for one in tried]
    best = verdicts.best(trials)
    reason = f"{verdicts.summary(best, trials)} {about(machine()['isa'], machine()['arch'])}"
    if best is not None:
        file = next(one.file for one in tried if one.trial.method == best.method)
        assert file is not None
        write_bytes(target, file.read_bytes())
        reason = f"{reason} {chosen_note(target, given.samples)}".rstrip()
    first = given.evaluation.first
    return Choice(
        path=None if best is None else target,
        method=None if best is None else best.method,
        trials=tuple(verdicts.judge(trial, best, str(target)) for trial in trials),
        reason=reason,
        float_accuracy=wilson(int(first.hits.sum()), len(first.labels)),
        float_latencies=verdicts.base,
        float_nodes=node_counts(given.path),
        ranges=given.statistics.records(),
    )


def _target(source: Path, out: StrPath | None) -> Path:
    name = f"{source.stem}.int8.onnx"
    if out is None:
        return source.with_name(name)
    given = Path(out)
    return given if given.suffix == ".onnx" and not given.is_dir() else given / name


def _prepare(path: Path, calibration: Iterable[Any], evaluate: Iterable[Any], look: int, threads: int, progress: Progress) -> Source:
    """Everything that is done once for all methods."""
    model = read_model(path)
    session = open_session(path, threads=threads)
    if session.gives_class:
        raise ModelError(f"{path} gives the class, not scores: gleanet export {path} --output logits, and quantize that")
    prepared = prepare(model, path)
    evaluation = Evaluation(path, evaluate, look, progress)
    kept: list[NDArray[Any]] = []
    stream = _kept(_checked(session, images_of(calibration)), kept)
    preprocess = metadata_of(model, path).preprocess
    (statistics,) = calibrate([prepared], stream, file=path, preprocess=preprocess, threads=threads, progress=progress)
    return Source(path, model, prepared, statistics, np.concatenate(kept), evaluation)


def _checked(session: Session, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for batch in batches:
        if len(batch):
            check_images(session, batch)
            yield batch


def _kept(batches: Iterable[NDArray[Any]], kept: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same batches; their first images go into ``kept``."""
    for batch in batches:
        missing = SAMPLES - sum(map(len, kept))
        if missing > 0:
            kept.append(batch[:missing].copy())
        yield batch


def _attempts(bench: _Bench, methods: Sequence[Method]) -> list[Tried]:
    tried: list[Tried] = []
    with bench.progress.task("Quantize", len(methods), "methods") as advance:
        for candidate in methods:
            tried.append(attempt(bench.source, candidate, bench.folder))
            advance(1)
    if all(one.file is None for one in tried):
        trial = tried[0].trial
        raise QuantizationError(f"no method gives a file of {bench.source.path} that runs: {trial.method}: {trial.reason}")
    return tried


def _refined(bench: _Bench, base: tuple[Latency, ...], tried: Sequence[Tried]) -> list[Tried]:
    """The other calibrators on the fastest methods. They do the same work, so their times are known."""
    able = sorted((one for one in tried if one.file is not None), key=lambda one: speed_ratio(base, one.trial.latencies))
    names = {one.method.name for one in tried}
    structures: dict[str, Tried] = {}
    for one in able:  # of one structure, the one whose logits are the most precise
        other = structures.setdefault(one.structure, one)
        if (one.trial.sqnr_db or 0) > (other.trial.sqnr_db or 0):
            structures[one.structure] = one
    wanted = [
        (variant, one.trial.latencies)
        for one in list(structures.values())[:REFINED]
        for calibrator in CALIBRATORS
        if (variant := with_calibrator(one.method, calibrator)) is not None and variant.name not in names
    ]
    found: list[Tried] = []
    with bench.progress.task("Quantize", len(wanted), "methods") as advance:
        for method, times in wanted:
            one = attempt(bench.source, method, bench.folder)
            found.append(one if one.file is None else replace(one, trial=replace(one.trial, latencies=times)))
            advance(1)
    return found


def _decided(bench: _Bench, verdicts: Verdicts, tried: Sequence[Tried]) -> list[Tried]:
    """From the fastest on, methods that may be within the bound are judged on further images until their interval decides."""
    done = {one.method.name: one for one in tried}
    order = sorted((one for one in tried if one.file is not None), key=lambda one: speed_ratio(verdicts.base, one.trial.latencies))
    limit = float("inf")
    for one in order:
        ratio = speed_ratio(verdicts.base, one.trial.latencies)
        if ratio > limit:
            break  # an as good one is faster already
        while one.file is not None and verdicts.undecided(one.trial):
            block = bench.source.evaluation.block(one.blocks)
            if block is None:
                break
            one = seen(one, block, predicted(one.file, block))
        done[one.method.name] = one
        if verdicts.within(one.trial):
            limit = min(limit, ratio * SAME_SPEED)
    return [done[one.method.name] for one in tried]


def _nonexistent() -> Iterator[Trial]:
    for reason, names in impossible().items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Trial(method=f"{names[0]}{more}", verdict="impossible", reason=reason)
