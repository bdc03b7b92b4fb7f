"""The candidates of a choice: every method tried, timed in turns, and judged on as many images as its interval needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gleanet.core.errors import GleanetError, QuantizationError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Latency, Trial
from gleanet.core.stats import sqnr_db
from gleanet.measure.compare import size_on_disk
from gleanet.measure.memory import peak_memories
from gleanet.measure.runtime import one_line
from gleanet.measure.runtimes import DEFAULT, Candidate, load
from gleanet.measure.timing import latency
from gleanet.quantize.evaluation import predicted
from gleanet.quantize.kept import found, keep
from gleanet.quantize.methods import CALIBRATORS, Method, with_calibrator
from gleanet.quantize.reasons import SAME_SPEED, Verdicts, speed_ratio
from gleanet.quantize.trial import MOST_DB, Source, Tried, attempt, seen

HOPELESS = 1.1  # a method this many times slower than the float file is not timed to the end
REFINED = 2  # the other calibrators are tried on so many of the fastest methods


@dataclass(frozen=True)
class Bench:
    """Where candidates are tried and timed: the float file takes part in every round. ``folder`` keeps what was tried; ``memory``: whether
    that of each structure is measured too, in a process of its own."""

    source: Source
    folder: Path
    threads: int = 1
    batches: Sequence[int] = (1, 64)
    seed: int = 0
    memory: bool = True
    progress: Progress = SILENT

    def attempt(self, method: Method) -> Tried:
        """``method`` tried, or what the folder keeps of it."""
        known = found(self.folder, method)
        if known is not None:
            return known[0]
        one = attempt(self.source, method, self.folder)
        keep(self.folder, one)
        return one

    def timed(self, tried: Sequence[Tried]) -> tuple[tuple[Latency, ...], list[Tried]]:
        """Latencies of the float file, and the trials with theirs and with their memory; files of one structure are measured once."""
        first: dict[tuple[str, str], Candidate] = {}
        for one in tried:
            if one.file is not None:
                first.setdefault((one.structure, one.trial.runtime), one.candidate)
        base, shape = Candidate(self.source.path), tuple(self.source.evaluation.first.images.shape[1:])
        times = latency(
            [base, *first.values()],
            batches=self.batches,
            threads=self.threads,
            give_up=HOPELESS,
            image_shape=shape,
            seed=self.seed,
            progress=self.progress,
        )
        peaks: dict[Candidate, int] = {}
        if self.memory:
            largest = max(self.batches, default=1)
            peaks = peak_memories(list(first.values()), batch=largest, threads=self.threads, image_shape=shape, progress=self.progress)
        done: list[Tried] = []
        for one in tried:
            alike = None if one.file is None else first[(one.structure, one.trial.runtime)]
            done.append(one if alike is None else replace(one, trial=replace(one.trial, latencies=times[alike], memory=peaks.get(alike))))
        return times[base], done


def attempts(bench: Bench, methods: Sequence[Method]) -> list[Tried]:
    """Every method tried once.

    Raises:
        QuantizationError: all of them failed.
    """
    tried: list[Tried] = []
    with bench.progress.task("Quantize", len(methods), "methods") as advance:
        for method in methods:
            tried.append(bench.attempt(method))
            advance(1)
    if all(one.file is None for one in tried):
        trial = tried[0].trial
        raise QuantizationError(f"no method gives a file of {bench.source.path} that runs: {trial.method}: {trial.reason}")
    return tried


def refined(bench: Bench, base: tuple[Latency, ...], tried: Sequence[Tried]) -> list[Tried]:
    """The other calibrators on the fastest methods. They do the same work, so their times and memory are known."""
    own = [one for one in tried if one.file is not None and one.trial.runtime == DEFAULT]
    able = sorted(own, key=lambda one: speed_ratio(base, one.trial.latencies))
    names = {one.method.name for one in tried}
    structures: dict[str, Tried] = {}
    for one in able:  # of one structure, the one whose logits are the most precise
        other = structures.setdefault(one.structure, one)
        if (one.trial.sqnr_db or 0) > (other.trial.sqnr_db or 0):
            structures[one.structure] = one
    wanted = [
        (variant, one.trial)
        for one in list(structures.values())[:REFINED]
        for calibrator in CALIBRATORS
        if (variant := with_calibrator(one.method, calibrator)) is not None and variant.name not in names
    ]
    variants: list[Tried] = []
    with bench.progress.task("Quantize", len(wanted), "methods") as advance:
        for method, known in wanted:
            one = bench.attempt(method)
            trial = replace(one.trial, latencies=known.latencies, memory=known.memory)
            variants.append(one if one.file is None else replace(one, trial=trial))
            advance(1)
    return variants


def elsewhere(bench: Bench, runtimes: Sequence[str], tried: Sequence[Tried]) -> list[Tried]:
    """The same files in other runtimes, judged by what those answer. QDQ files of static methods: the form that other runtimes read.

    Padded ones are left out: their zero channels suit the kernels of ONNX Runtime.
    """
    able = [one for one in tried if one.file is not None and one.method.mode == "static" and one.method.format == "QDQ"]
    wanted = [(one, runtime) for runtime in runtimes if runtime != DEFAULT for one in able if not one.method.pad]
    there: list[Tried] = []
    if wanted:
        with bench.progress.task("Other runtimes", len(wanted), "files") as advance:
            for one, runtime in wanted:
                there.append(_in_runtime(bench, one, runtime))
                advance(1)
    return there


def _in_runtime(bench: Bench, one: Tried, runtime: str) -> Tried:
    name, first = f"{one.method.name} in {runtime}", bench.source.evaluation.first
    assert one.file is not None
    try:
        logits = predicted(Candidate(one.file, runtime), first)
        nodes = load(runtime).node_counts(one.file)
    except GleanetError as error:
        return Tried(Trial(method=name, verdict="failed", reason=one_line(error), runtime=runtime), one.method)
    trial = Trial(
        method=name,
        verdict="tried",
        reason="",
        bytes=one.trial.bytes,
        agreement=float(np.mean(logits.argmax(axis=1) == first.logits.argmax(axis=1))),
        sqnr_db=min(sqnr_db(first.logits, logits), MOST_DB),
        nodes=nodes,
        runtime=runtime,
    )
    return seen(Tried(trial, one.method, one.file, one.structure), first, logits)


def float_elsewhere(bench: Bench, runtimes: Sequence[str]) -> list[Trial]:
    """The given file in other runtimes, timed against itself here: what is gained by the runtime alone."""
    others = [Candidate(bench.source.path, runtime) for runtime in runtimes if runtime != DEFAULT]
    if not others:
        return []
    here, shape = Candidate(bench.source.path), tuple(bench.source.evaluation.first.images.shape[1:])
    times = latency(
        [here, *others], batches=bench.batches, threads=bench.threads, image_shape=shape, seed=bench.seed, progress=bench.progress
    )
    return [
        Trial(
            method=f"float in {other.runtime}",
            verdict="float",
            reason=f"the file as given: {speed_ratio(times[here], times[other]):.2f} of its time in {DEFAULT}",
            bytes=size_on_disk(bench.source.path),
            latencies=times[other],
            runtime=other.runtime,
        )
        for other in others
    ]


def decided(bench: Bench, verdicts: Verdicts, tried: Sequence[Tried]) -> list[Tried]:
    """From the fastest on, methods that may be within the bound are judged on further images until their interval decides."""
    done = {one.trial.method: one for one in tried}
    order = sorted((one for one in tried if one.file is not None), key=lambda one: speed_ratio(verdicts.base, one.trial.latencies))
    limit = float("inf")
    for one in order:
        ratio = speed_ratio(verdicts.base, one.trial.latencies)
        if ratio > limit:
            break  # an as good one is faster already
        done[one.trial.method] = settled(bench, verdicts, one)
        if verdicts.within(done[one.trial.method].trial):
            limit = min(limit, ratio * SAME_SPEED)
    return [done[one.trial.method] for one in tried]


def settled(bench: Bench, verdicts: Verdicts, one: Tried) -> Tried:
    """``one`` judged on further images until its interval decides, or there are no more."""
    while one.file is not None and verdicts.undecided(one.trial):
        block = bench.source.evaluation.block(one.blocks)
        if block is None:
            break
        one = seen(one, block, predicted(one.candidate, block))
    return one
