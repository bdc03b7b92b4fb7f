"""Files side by side: what each costs, how often it is right, how fast it runs, all against one baseline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import DataError
from gleanet.core.host import cores
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Latency, Measurement
from gleanet.core.stats import paired_change, wilson
from gleanet.measure.accuracy import predict, says_nothing
from gleanet.measure.graph import graph_cost
from gleanet.measure.runtime import StrPath, check_external, open_session, read_model, runtime_name
from gleanet.measure.timing import latency


def compare(
    paths: Sequence[StrPath],
    *,
    inputs: NDArray[Any] | None,
    labels: NDArray[np.int64] | None,
    baseline: StrPath,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    progress: Progress = SILENT,
) -> tuple[Measurement, ...]:
    """Measure ONNX files on the same images and in the same minutes.

    Args:
        paths: the files; the result keeps their order.
        inputs: [N, C, H, W], what the files take (float32), or uint8 pixels; None: structure and time only.
        labels: [N] int64; None: agreement with the baseline, but no accuracy.
        baseline: the file that changes, agreement and speed-up refer to; measured too when it is not among ``paths``.
        batches, threads: for the latencies, see :func:`gleanet.measure.timing.latency`.

    Returns:
        per file: MACs and parameters counted from its graph, bytes on disk (external data included), accuracy with its Wilson interval,
        paired change and top-1 agreement against the baseline (None for the baseline itself), latencies, the speed-up by batch size, and
        notes: logits that mean nothing, batch sizes at which the file cannot be timed.

    Raises:
        DataError: images and labels do not fit each other or a file.
        ModelError: a file cannot be read or run.
    """
    if inputs is not None and labels is not None and len(inputs) != len(labels):
        raise DataError(f"{len(inputs)} images but {len(labels)} labels")
    files = [Path(path) for path in paths]
    base = Path(baseline)
    every = list(dict.fromkeys([*files, base]))
    guesses: dict[Path, NDArray[np.int64]] = {}
    trouble: dict[Path, str] = {}
    if inputs is not None:
        for file in every:
            # answers do not depend on the threads that give them, so they may have all cores; only times are pinned
            logits = predict(file, inputs, threads=cores(), progress=progress)
            guesses[file], trouble[file] = logits.argmax(axis=1), says_nothing(logits)
    shape = None if inputs is None else tuple(inputs.shape[1:])
    costs = {file: graph_cost(file, open_session(file).image_shape(shape)) for file in files}
    times = latency(every, batches=batches, threads=threads, image_shape=shape, progress=progress)
    found = [_measurement(file, base, guesses, labels, times, costs[file]) for file in files]
    return tuple(replace(m, notes=_notes(file, trouble.get(file, ""), batches, times[file])) for m, file in zip(found, files, strict=True))


def _notes(file: Path, trouble: str, batches: Sequence[int], times: Sequence[Latency]) -> tuple[str, ...]:
    missing = [str(size) for size in batches if size not in {record.batch for record in times}]
    if not missing:
        return (trouble,) if trouble else ()
    fixed = open_session(file).batch
    why = f"the file fixes it to {fixed}" if fixed else "it takes one image at a time"
    skipped = f"Not timed at batch {', '.join(missing)}: {why}."
    return (trouble, skipped) if trouble else (skipped,)


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
    file: Path,
    base: Path,
    guesses: dict[Path, NDArray[np.int64]],
    labels: NDArray[np.int64] | None,
    times: dict[Path, tuple[Latency, ...]],
    cost: tuple[int, int],
) -> Measurement:
    accuracy = change = agreement = None
    if file in guesses:
        other = file != base
        if labels is not None:
            hits = guesses[file] == labels
            accuracy = wilson(int(hits.sum()), len(labels))
            change = paired_change(hits, guesses[base] == labels) if other else None
        agreement = float(np.mean(guesses[file] == guesses[base])) if other else None
    return Measurement(
        file=str(file),
        runtime=runtime_name(),
        macs=cost[0],
        params=cost[1],
        bytes=size_on_disk(file),
        accuracy=accuracy,
        latencies=times[file],
        change=change,
        agreement=agreement,
        speedup=speedup(times[base], times[file]),
    )
