"""How long one call takes: candidates take turns, so that whatever else the machine does hits all of them alike."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import ModelError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Latency
from gleanet.measure.runtimes import DEFAULT, Candidate, open_session
from gleanet.measure.session import Session, StrPath

Key = TypeVar("Key")
Given = TypeVar("Given", bound=StrPath | Candidate)

WARM_UP = 3
MIN_ROUNDS = 15
MAX_ROUNDS = 300
TRIAL_ROUNDS = 5
SECONDS = 0.6  # per candidate and batch size, when the rounds are not given
FAST = 0.005  # calls shorter than this are preceded by one that is not counted: the caches then hold this model, not its rival


def latency(
    paths: Sequence[Given],
    *,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    rounds: int | None = None,
    seconds: float = SECONDS,
    give_up: float | None = None,
    image_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    runtime: str = DEFAULT,
    progress: Progress = SILENT,
) -> dict[Given, tuple[Latency, ...]]:
    """Time ONNX files against each other, interleaved: every round calls every file once, in a new random order.

    Args:
        paths: the files, or files with the runtime of each (:class:`gleanet.measure.runtimes.Candidate`): runtimes take turns too.
        batches: images per call. A file with another fixed batch, or one that cannot take more than one image at a time, is not timed at
            this size; a fixed batch that is not among ``batches`` is timed besides.
        threads: threads per call.
        rounds: calls that are counted for each file and batch; None: until ``seconds`` per file are spent, at least 15 and at most 300.
        give_up: after 5 rounds, files that take this many times as long as the first one are called no more; None: all stay.
        image_shape: shape of one image, for files that leave it open.
        runtime: of the files that do not say theirs.

    Returns:
        for each of ``paths`` one record per batch size: number of calls, median and 90th percentile in milliseconds.

    Raises:
        ModelError: a file cannot be read or run.
        SettingsError: an unknown runtime, or one that is not installed.
    """
    sessions = {path: open_session(path, threads=threads, runtime=runtime) for path in paths}
    found: dict[Given, list[Latency]] = {path: [] for path in paths}
    own = {s.batch for s in sessions.values() if s.batch is not None}
    for size in (*batches, *sorted(own - set(batches))):
        able = {path: s for path, s in sessions.items() if s.batch == size or (s.batch is None and size in batches)}
        able = {path: s for path, s in able.items() if s.batch or size == 1 or takes_several(s, image_shape)}
        if not able:
            continue
        calls = {path: call_of(s, size, image_shape, seed) for path, s in able.items()}
        with progress.task(f"Time at batch {size}", None, "rounds") as advance:
            samples = interleaved(calls, rounds=rounds, seconds=seconds, give_up=give_up, seed=seed, advance=advance)
        for path, times in samples.items():
            found[path].append(summary(times, batch=size, threads=threads))
    return {path: tuple(records) for path, records in found.items()}


def takes_several(session: Session, image_shape: tuple[int, ...] | None = None) -> bool:
    """Whether a file whose batch is free runs on two images; some fix it to 1 further in."""
    try:
        call_of(session, 2, image_shape)()
    except ModelError:
        call_of(session, 1, image_shape)()  # what fails on one image too is an error
        return False
    return True


def interleaved(
    calls: Mapping[Key, Callable[[], object]],
    *,
    rounds: int | None = None,
    seconds: float = SECONDS,
    give_up: float | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda units: None,
) -> dict[Key, NDArray[np.float64]]:
    """Seconds of each call, ``{key: [rounds]}``; see :func:`latency`. Python's garbage collector rests meanwhile."""
    keys = list(calls)
    if not keys:
        return {}
    rng = np.random.default_rng(seed)
    fast = {key: _warm_up(calls[key]) < FAST for key in keys}
    samples: dict[Key, list[float]] = {key: [] for key in keys}
    start, done = time.perf_counter(), 0
    collecting = gc.isenabled()
    gc.disable()
    try:
        while done < rounds if rounds is not None else _unfinished(done, time.perf_counter() - start, seconds * len(keys)):
            for index in rng.permutation(len(keys)):
                key = keys[index]
                call = calls[key]
                if fast[key]:
                    call()
                begin = time.perf_counter()
                call()
                samples[key].append(time.perf_counter() - begin)
            done += 1
            advance(1)
            if give_up is not None and done == TRIAL_ROUNDS:
                limit = give_up * float(np.median(samples[next(iter(calls))]))
                keys = [key for key in keys if float(np.median(samples[key])) <= limit]
    finally:
        if collecting:
            gc.enable()
    return {key: np.asarray(times) for key, times in samples.items()}


def summary(seconds: NDArray[np.float64], *, batch: int, threads: int) -> Latency:
    """Median and 90th percentile of the samples, in milliseconds."""
    p50, p90 = np.percentile(seconds * 1e3, [50, 90])
    return Latency(batch=batch, threads=threads, repeats=len(seconds), p50_ms=float(p50), p90_ms=float(p90))


def _unfinished(done: int, spent: float, budget: float) -> bool:
    return done < MIN_ROUNDS or (done < MAX_ROUNDS and spent < budget)


def _warm_up(call: Callable[[], object]) -> float:
    """Run ``call`` a few times; seconds of the fastest."""
    best = float("inf")
    for _ in range(WARM_UP):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def call_of(session: Session, batch: int, image_shape: tuple[int, ...] | None = None, seed: int = 0) -> Callable[[], object]:
    """One call with ``batch`` random images."""
    shape = (batch, *session.image_shape(image_shape))
    rng = np.random.default_rng(seed)
    images: NDArray[Any]
    if session.dtype == np.uint8:
        images = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        images = rng.standard_normal(shape, dtype=np.float32).astype(session.dtype, copy=False)
    return lambda: session.run(images)
