"""Files side by side: what each costs, how often it is right, how fast it runs, all against one baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.core.host import cores
from gleanet.core.lazy import Array
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Latency, Measurement
from gleanet.core.stats import paired_change, wilson
from gleanet.measure.accuracy import Answers, answers
from gleanet.measure.graph import graph_cost
from gleanet.measure.memory import peak_memories
from gleanet.measure.runtime import check_external, read_model
from gleanet.measure.runtimes import DEFAULT, Candidate, candidate, load, open_session
from gleanet.measure.session import StrPath
from gleanet.measure.timing import latency


@dataclass(frozen=True)
class SideBySide:
    """What was measured of each file, and what each answered: [N] int64, None without images."""

    measured: tuple[Measurement, ...]
    answers: tuple[NDArray[np.int64] | None, ...]


def compare(
    paths: Sequence[StrPath | Candidate],
    *,
    inputs: Array | None,
    labels: NDArray[np.int64] | None,
    baseline: StrPath | Candidate,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    runtime: str = DEFAULT,
    progress: Progress = SILENT,
) -> tuple[Measurement, ...]:
    """Measure ONNX files on the same images and in the same minutes.

    Args:
        paths: the files, or files with the runtime of each; the result keeps their order.
        inputs: [N, C, H, W], what the files take (float32), or uint8 pixels; None: structure, time and memory only.
        labels: [N] int64; None: agreement with the baseline, but no accuracy.
        baseline: the file that changes, agreement and speed-up refer to; measured too when it is not among ``paths``.
        batches, threads: for the latencies, see :func:`gleanet.measure.timing.latency`; the memory is that at the largest batch.
        runtime: of the files that do not say theirs.

    Returns:
        per file: MACs and parameters counted from its graph, bytes on disk (external data included), accuracy with its Wilson interval,
        paired change and top-1 agreement against the baseline (None for the baseline itself), latencies, the speed-up by batch size, and
        peak memory (:func:`gleanet.measure.memory.peak_memory`), and notes: logits that mean nothing, batch sizes at which the file cannot
        be timed.

    Raises:
        DataError: images and labels do not fit each other or a file.
        ModelError: a file cannot be read or run.
        SettingsError: an unknown runtime, or one that is not installed.
    """
    return side_by_side(
        paths, inputs=inputs, labels=labels, baseline=baseline, batches=batches, threads=threads, runtime=runtime, progress=progress
    ).measured


def side_by_side(
    paths: Sequence[StrPath | Candidate],
    *,
    inputs: Array | None,
    labels: NDArray[np.int64] | None,
    baseline: StrPath | Candidate,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    runtime: str = DEFAULT,
    progress: Progress = SILENT,
) -> SideBySide:
    """As :func:`compare`, with the answers that the accuracies were counted from."""
    if inputs is not None and labels is not None and len(inputs) != len(labels):
        raise DataError(f"{len(inputs)} images but {len(labels)} labels")
    files = [candidate(path, runtime) for path in paths]
    base = candidate(baseline, runtime)
    every = list(dict.fromkeys([*files, base]))
    given: dict[Candidate, Answers] = {}
    if inputs is not None:
        # answers do not depend on the threads that give them, so they may have all cores; only times are pinned
        given = answers(every, inputs, threads=cores(), progress=progress)
    shape = None if inputs is None else tuple(inputs.shape[1:])
    costs = {one: graph_cost(one.path, open_session(one).image_shape(shape)) for one in files}
    times = latency(every, batches=batches, threads=threads, image_shape=shape, progress=progress)
    memory = peak_memories(files, batch=max(batches, default=1), threads=threads, image_shape=shape, progress=progress)
    guesses = {one: found.classes for one, found in given.items()}
    measured = tuple(
        replace(
            _measurement(one, base, guesses, labels, times, costs[one]),
            memory=memory[one],
            notes=_notes(one, given[one].note if one in given else "", batches, times[one]),
        )
        for one in files
    )
    return SideBySide(measured, tuple(guesses.get(one) for one in files))


def _notes(one: Candidate, trouble: str, batches: Sequence[int], times: Sequence[Latency]) -> tuple[str, ...]:
    missing = [str(size) for size in batches if size not in {record.batch for record in times}]
    skipped = ""
    if missing:
        fixed = open_session(one).batch
        why = f"the file fixes it to {fixed}" if fixed else "it takes one image at a time"
        skipped = f"Not timed at batch {', '.join(missing)}: {why}."
    return tuple(note for note in (trouble, skipped) if note)


def speedup(base: Sequence[Latency], other: Sequence[Latency]) -> dict[str, float]:
    """``{batch: base p50 / other p50}`` for the batch sizes both were timed at; keys are strings, as JSON wants them."""
    own = {record.batch: record.p50_ms for record in other}
    return {str(record.batch): record.p50_ms / own[record.batch] for record in base if record.batch in own}


def size_on_disk(path: StrPath) -> int:
    """Bytes of an ONNX file and of the external data it names."""
    file = Path(path)
    outside = check_external(read_model(file, weights=False), file)
    return file.stat().st_size + sum(other.stat().st_size for other in outside)


def _measurement(
    one: Candidate,
    base: Candidate,
    guesses: dict[Candidate, NDArray[np.int64]],
    labels: NDArray[np.int64] | None,
    times: dict[Candidate, tuple[Latency, ...]],
    cost: tuple[int, int],
) -> Measurement:
    accuracy = change = agreement = None
    if one in guesses:
        other = one != base
        if labels is not None:
            hits = guesses[one] == labels
            accuracy = wilson(int(hits.sum()), len(labels))
            change = paired_change(hits, guesses[base] == labels) if other else None
        agreement = float(np.mean(guesses[one] == guesses[base])) if other else None
    return Measurement(
        file=str(one.path),
        runtime=load(one.runtime).runtime_name(),
        macs=cost[0],
        params=cost[1],
        bytes=size_on_disk(one.path),
        accuracy=accuracy,
        latencies=times[one],
        change=change,
        agreement=agreement,
        speedup=speedup(times[base], times[one]),
    )
