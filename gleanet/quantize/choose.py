"""Try methods on this machine, measure each file, keep the fastest whose accuracy is proved good enough, and say why the others lost."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import ModelError, SettingsError
from gleanet.core.files import write_bytes
from gleanet.core.host import machine
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Accuracy, Latency, LayerSensitivity, RepairStep, TensorRange, Trial
from gleanet.core.stats import wilson
from gleanet.measure.accuracy import check_images
from gleanet.measure.metadata import metadata_of
from gleanet.measure.runtime import Session, StrPath, node_counts, open_session, read_model
from gleanet.measure.runtimes import DEFAULT
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.candidates import Bench, attempts, decided, elsewhere, float_elsewhere, refined
from gleanet.quantize.cpu import about
from gleanet.quantize.evaluation import Evaluation
from gleanet.quantize.kept import opened
from gleanet.quantize.methods import Method, impossible, select
from gleanet.quantize.prepare import images_of, prepare
from gleanet.quantize.reasons import USUAL_DROP, Verdicts, least_bound
from gleanet.quantize.rescue import Rescue, layer_sensitivity, rescue
from gleanet.quantize.saturation import chosen_note
from gleanet.quantize.trial import Source, Tried

LOOK = 2000  # images that every method is judged on
SAMPLES = 256  # calibration images kept for looking at single layers


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
        sensitivity: of each layer, the most sensitive first; empty where nobody asked and nothing was repaired.
        repair: the steps that were tried on a fast method that loses too much.
        runtime: where the chosen file was judged and timed.
    """

    path: Path | None
    method: str | None
    trials: tuple[Trial, ...]
    reason: str
    float_accuracy: Accuracy | None = None
    float_latencies: tuple[Latency, ...] = ()
    float_nodes: dict[str, int] = field(default_factory=dict)
    ranges: tuple[TensorRange, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    repair: tuple[RepairStep, ...] = ()
    runtime: str = DEFAULT

    @property
    def float_figures(self) -> dict[str, Any]:
        """What was measured of the model as given, as a run's record keeps it."""
        if self.float_accuracy is None:
            return {}
        return {"float_accuracy": asdict(self.float_accuracy), "float_latencies": [asdict(one) for one in self.float_latencies]}


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
    runtimes: Sequence[str] = (DEFAULT,),
    repair: bool | None = None,
    sensitivity: bool = False,
    memory: bool = True,
    keep: StrPath | None = None,
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
        runtimes: further ones, where the QDQ files take part too; ONNX Runtime always does.
        repair: where a method that is faster than all within the bound loses too much, equalize it, correct its biases, leave layers in
            float (:mod:`gleanet.quantize.repair`), and let the result take part. None: unless methods are named.
        memory: measure the peak memory of each structure of file, about a second each.
        keep: folder that holds every finished trial and its file, so that the same call goes on where it was cut short; times are measured
            anew. What it holds of another model or of other images is thrown away. Default: a temporary folder.
        sensitivity: rank the layers of the chosen method by what quantizing them costs, also where nothing is repaired.

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
    with tempfile.TemporaryDirectory(prefix="gleanet-") as temporary:
        folder = Path(keep or temporary)
        opened(folder, given)
        bench = Bench(given, folder, threads, batches, seed, memory, progress)
        verdicts, tried, mended = _searched(bench, methods, method == "auto", max_drop, runtimes, _may_repair(repair, method))
        choice = _chosen(bench, verdicts, tried, target, sensitivity)
        floats = float_elsewhere(bench, runtimes)
    if mended is not None:
        choice = replace(choice, repair=mended.steps, sensitivity=choice.sensitivity or mended.sensitivity)
    return replace(choice, trials=(*choice.trials, *floats, *(_nonexistent() if method == "all" else ())))


def _searched(
    bench: Bench, methods: Sequence[Method], refine: bool, max_drop: float | None, runtimes: Sequence[str], mend: bool
) -> tuple[Verdicts, list[Tried], Rescue | None]:
    """The bound, every candidate with its times and judged until its interval decides, and what was repaired."""
    tried = attempts(bench, methods)
    base, tried = bench.timed([*tried, *elsewhere(bench, runtimes, tried)])
    if refine:
        tried += refined(bench, base, tried)
    verdicts = Verdicts(base, USUAL_DROP if max_drop is None else max_drop)
    tried = decided(bench, verdicts, tried)
    mended = rescue(bench, verdicts, tried) if mend else None
    if mended is not None:
        alike = next((one.trial for one in tried if one.structure == mended.tried.structure and one.trial.runtime == DEFAULT), None)
        if mended.tried.file is None or alike is None:
            tried = [*tried, mended.tried]
        else:
            tried = [*tried, replace(mended.tried, trial=replace(mended.tried.trial, latencies=alike.latencies, memory=alike.memory))]
        if mended.tried.file is not None and alike is None:  # layers in float: times are compared within one round
            base, tried = bench.timed(tried)
    verdicts = Verdicts(base, least_bound([one.trial for one in tried]) if max_drop is None else max_drop)
    return verdicts, decided(bench, verdicts, tried), mended


def _may_repair(repair: bool | None, method: str) -> bool:
    """Methods that the user named are taken as they are, unless told otherwise."""
    return method in ("auto", "all") if repair is None else repair


def _chosen(bench: Bench, verdicts: Verdicts, tried: Sequence[Tried], target: Path, sensitivity: bool) -> Choice:
    """The best of what was tried, its file written to ``target``, and every trial with its verdict."""
    given, trials = bench.source, [one.trial for one in tried]
    best = verdicts.best(trials)
    winner = None if best is None else next(one for one in tried if one.trial.method == best.method)
    reason = f"{verdicts.summary(best, trials)} {about(machine()['isa'], machine()['arch'])}"
    if winner is not None:
        assert winner.file is not None
        write_bytes(target, winner.file.read_bytes())
        reason = f"{reason} {chosen_note(target, given.samples)}".rstrip()
    looked_at = winner or max(tried, key=lambda one: one.trial.sqnr_db or 0)
    first = given.evaluation.first
    return Choice(
        path=None if best is None else target,
        method=None if best is None else best.method,
        runtime=DEFAULT if best is None else best.runtime,
        trials=tuple(verdicts.judge(trial, best, str(target)) for trial in trials),
        reason=reason,
        float_accuracy=wilson(int(first.hits.sum()), len(first.labels)),
        float_latencies=verdicts.base,
        float_nodes=node_counts(given.path),
        ranges=given.statistics.records(),
        sensitivity=layer_sensitivity(bench, looked_at) if sensitivity and looked_at.method.mode == "static" else (),
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
    return Source(path, model, prepared, statistics, np.concatenate(kept), evaluation, preprocess)


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


def _nonexistent() -> Iterator[Trial]:
    for reason, names in impossible().items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Trial(method=f"{names[0]}{more}", verdict="impossible", reason=reason)
