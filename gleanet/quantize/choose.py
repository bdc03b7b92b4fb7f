"""Try every method on this machine, measure each file, keep the fastest that is accurate enough, and say why the others lost."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gleanet.core.errors import GleanetError, QuantizationError, SettingsError
from gleanet.core.files import write_bytes
from gleanet.core.host import cores
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Accuracy, Latency, Trial
from gleanet.core.stats import paired_change, sqnr_db, wilson
from gleanet.measure.accuracy import check_images, logits_in_batches, predict
from gleanet.measure.metadata import metadata_of
from gleanet.measure.runtime import Session, StrPath, one_line, open_session, read_model, serialize
from gleanet.measure.timing import latency
from gleanet.quantize.calibrate import Ranges, min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import Method, select
from gleanet.quantize.prepare import images_of, labelled, prepare
from gleanet.quantize.reasons import Verdicts, least_bound

PROBE = 64  # images on which the run with and without runtime optimizations are compared
HOPELESS = 1.1  # a method this many times slower than the float file is not timed to the end
SATURATION_DB = 6.0  # a loss of more than one bit of the logits between the two


@dataclass(frozen=True)
class Choice:
    """What came of it.

    Attributes:
        path: the chosen file; None when no method qualifies.
        method: its name; None likewise.
        trials: one record per method, in the order they were tried.
        reason: one sentence in words.
        float_accuracy, float_latencies: of the model as given, measured in the same minutes.
    """

    path: Path | None
    method: str | None
    trials: tuple[Trial, ...]
    reason: str
    float_accuracy: Accuracy | None = None
    float_latencies: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class _Source:
    """The float model and everything about it that all methods share."""

    path: Path
    model: onnx.ModelProto
    prepared: onnx.ModelProto
    ranges: Ranges
    images: NDArray[Any]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


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
    seed: int = 0,
    progress: Progress = SILENT,
) -> Choice:
    """Quantize an ONNX classifier in several ways, measure all of them, keep the fastest whose accuracy drop is within ``max_drop``.

    Args:
        source: a float ONNX file with one image input.
        calibration: batches of images as the file takes them, float32 or uint8 [n, C, H, W]; arrays, torch tensors, or tuples that start
            with one. Read once, in constant memory; n may vary.
        evaluate: batches (images, labels) to measure accuracy on; read once and kept.
        method: ``auto``, ``all``, or names of :data:`gleanet.quantize.methods.METHODS` separated by commas.
        max_drop: percentage points of accuracy that may be lost against the float file on the same images. None: one point, or, where
            every method loses more, as much as the most accurate one loses.
        out: where the chosen file goes: a path that ends in .onnx, or a folder (``<stem>.int8.onnx`` in it). Default: beside the source.
        threads, batches: how it will be run; speed is judged by the mean over these batch sizes of the time relative to the float file.
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
    given = _prepare(Path(source), calibration, evaluate, threads, progress)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        trials, files = _try_all(given, methods, Path(folder), progress)
        shape = tuple(given.images.shape[1:])
        paths = [given.path, *files.values()]
        times = latency(paths, batches=batches, threads=threads, give_up=HOPELESS, image_shape=shape, seed=seed, progress=progress)
        trials = [replace(t, latencies=times[files[t.method]]) if t.method in files else t for t in trials]
        verdicts = Verdicts(times[given.path], least_bound(trials) if max_drop is None else max_drop)
        best = verdicts.best(trials)
        if best is not None:
            write_bytes(target, files[best.method].read_bytes())
        named = [verdicts.judge(t, best, str(target)) for t in trials]
    return Choice(
        path=None if best is None else target,
        method=None if best is None else best.method,
        trials=tuple(named),
        reason=verdicts.summary(best, trials),
        float_accuracy=wilson(int(given.hits.sum()), len(given.labels)),
        float_latencies=times[given.path],
    )


def _target(source: Path, out: StrPath | None) -> Path:
    name = f"{source.stem}.int8.onnx"
    if out is None:
        return source.with_name(name)
    given = Path(out)
    return given if given.suffix == ".onnx" and not given.is_dir() else given / name


def _prepare(path: Path, calibration: Iterable[Any], evaluate: Iterable[Any], threads: int, progress: Progress) -> _Source:
    """Everything that is done once for all methods."""
    model = read_model(path)
    session = open_session(path, threads=threads)
    prepared = prepare(model, path)
    images, labels = labelled(evaluate)
    logits = predict(path, images, threads=cores(), progress=progress)
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise SettingsError(f"labels go from {labels.min()} to {labels.max()}, but {path} has {logits.shape[1]} classes")
    stream = _checked(session, images_of(calibration))
    preprocess = metadata_of(model, path).preprocess
    ranges = min_max(prepared, stream, file=path, preprocess=preprocess, threads=threads, progress=progress)
    return _Source(path=path, model=model, prepared=prepared, ranges=ranges, images=images, labels=labels, logits=logits)


def _checked(session: Session, batches: Iterable[NDArray[Any]]) -> Iterable[NDArray[Any]]:
    for batch in batches:
        if len(batch):
            check_images(session, batch)
            yield batch


def _try_all(given: _Source, methods: Sequence[Method], folder: Path, progress: Progress) -> tuple[list[Trial], dict[str, Path]]:
    """A trial of every method, and the files of those that run."""
    trials: list[Trial] = []
    files: dict[str, Path] = {}
    with progress.task("Quantize", len(methods), "methods") as advance:
        for candidate in methods:
            file = folder / f"{candidate.name}.onnx"
            trials.append(_try(given, candidate, file))
            if trials[-1].verdict != "failed":
                files[candidate.name] = file
            advance(1)
    if not files:
        raise QuantizationError(f"no method gives a file of {given.path} that runs: {trials[0].method}: {trials[0].reason}")
    return trials, files


def _try(given: _Source, method: Method, file: Path) -> Trial:
    """Write, open and run one method; a failure is a trial too."""
    try:
        file.write_bytes(serialize(insert(given.prepared, given.ranges, method, given.model)))
        logits = predict(file, given.images, threads=cores())
        nodes = node_counts(file)
        note = _saturation(given, file, logits)
    except GleanetError as error:
        return Trial(method=method.name, verdict="failed", reason=one_line(error))
    hits = np.asarray(logits.argmax(axis=1) == given.labels)
    return Trial(
        method=method.name,
        verdict="tried",
        reason=note,
        bytes=file.stat().st_size,
        accuracy=wilson(int(hits.sum()), len(hits)),
        change=paired_change(hits, given.hits),
        agreement=float(np.mean(logits.argmax(axis=1) == given.logits.argmax(axis=1))),
        sqnr_db=min(sqnr_db(given.logits, logits), 200.0),  # JSON knows no infinity
        nodes=nodes,
    )


def _saturation(given: _Source, file: Path, logits: NDArray[np.float32]) -> str:
    """A note when the optimized run strays from what the file says (the run without optimizations), as 16-bit saturation makes it do."""
    session = open_session(file, optimize=False)
    plain = np.concatenate(list(logits_in_batches(session, given.images[:PROBE], PROBE)))
    meant, got = sqnr_db(given.logits[:PROBE], plain), sqnr_db(given.logits[:PROBE], logits[:PROBE])
    if meant == got or meant - got < SATURATION_DB:  # both infinite: two exact runs
        return ""
    return f"sums saturate on this CPU (logits {got:.0f} dB with runtime optimizations, {meant:.0f} dB without)"


def node_counts(file: StrPath) -> dict[str, int]:
    """Operator -> how many, in the graph that ONNX Runtime runs for ``file`` on this machine.

    Raises:
        ModelError: the runtime refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(file, optimized=optimized)
        counts = Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)
    return dict(sorted(counts.items()))
