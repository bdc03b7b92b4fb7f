"""The comparison: every row is checked first; what is right is then timed, in interleaved rounds. Resumable after every process."""

import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gleanet.core import host, store
from gleanet.core.errors import FrameworkError, Interrupted, SettingsError
from gleanet.core.framework_entries import COMMAND, Calls, Check, Entry, Round, Spread, entries_of
from gleanet.core.interrupt import Deferred, exit_code
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run
from gleanet.core.store import RunFolder
from gleanet.frameworks import spec
from gleanet.frameworks.attributes import attributes
from gleanet.frameworks.batches import Batches, load_batches
from gleanet.frameworks.catalogue import FRAMEWORKS, Framework, rows
from gleanet.frameworks.check import STEPS, Reference, judge
from gleanet.frameworks.code_length import code_length
from gleanet.frameworks.conclusions import conclusions
from gleanet.frameworks.differences import places, ratios
from gleanet.frameworks.environments import State, library, state
from gleanet.frameworks.process import AdapterError, Limits, run_adapter

WARMUP = 5
DRIFT = 1e-5  # of the loss after ten steps: more than rounding alone gives
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class CompareSettings:
    """Options of ``gleanet frameworks run``.

    Attributes:
        names: frameworks; empty: all of them.
        steps: timed steps, and timed inferences, of a round, after a warm-up.
        threads: threads, and cores, of each process.
        device: cpu or cuda.
        rounds: how often each row is timed, in turn.
        limit: seconds before a process is killed.
        data: a data set; None: original CIFAR-10 images where they are here, else digits.
    """

    names: tuple[str, ...] = ()
    steps: int = 20
    threads: int = 1
    device: str = "cpu"
    rounds: int = 5
    limit: float = 600.0
    data: str | None = None

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("threads", 1), ("rounds", 0)):
            if getattr(self, name) < low:
                raise SettingsError(f"{name} is {getattr(self, name)}: give at least {low}")
        if not self.limit > 0:
            raise SettingsError(f"limit is {self.limit:g}: give the seconds that one process may take, e.g. 600")
        if self.threads > host.cores():
            raise SettingsError(f"threads is {self.threads}: this process may use {host.cores()} cores")
        if self.device not in DEVICES:
            raise SettingsError(f"device is {self.device!r}: cpu or cuda")
        if self.device == "cuda" and host.machine()["gpu"] is None:
            raise SettingsError("device is 'cuda': this machine has no NVIDIA GPU that nvidia-smi knows; use --device cpu")


def compare(
    settings: CompareSettings | None = None,
    *,
    out: Path | None = None,
    resume: str | None = None,
    known: Sequence[Framework] = FRAMEWORKS,
    progress: Progress = SILENT,
) -> Run:
    """Run the comparison, or go on with one: finished rows are skipped, rows that failed or were not installed are tried again.

    A row that crashes or takes too long is a row that says so. The record is written after every process.

    Args:
        settings: what to run; not looked at with ``resume``, which goes on with the settings of the run.
        known: the frameworks that names mean: ours, or rows of your own.

    Raises:
        SettingsError: an unknown framework, a value out of range, a run of another command.
        DataError: see :func:`gleanet.frameworks.batches.load_batches`.
        StoreError: the run folder cannot be used.
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP, with the line that says how to resume.
    """
    before = _earlier(resume) if resume is not None else None
    if before is not None:
        settings = msgspec.convert(before.settings, CompareSettings)
    settings = settings or CompareSettings()
    wanted, batches = rows(settings.names, known), load_batches(settings.data, progress=progress)
    if before is not None and before.data.get("title", batches.title) != batches.title:
        raise SettingsError(f"{resume} was run on {before.data['title']}, and here is {batches.title}: set GLEANET_DATA as it was")
    started = datetime.now(UTC)
    with store.resume(resume) if resume is not None else store.create(out, "frameworks", now=started) as folder:
        run = before or Run(
            id=folder.id,
            command=COMMAND,
            model="the network of the comparison",
            status="running",
            started=started.isoformat(timespec="seconds"),
            seconds=0.0,
            settings=asdict(settings),
            versions=host.versions(),
            machine=host.machine(),
        )
        work = _Comparison(settings, wanted, batches, folder, replace(run, status="running"), progress)
        try:
            work.prepare()
            work.check_all()
            work.time_all()
            work.tidy()
            return work.save("done")
        except KeyboardInterrupt as stop:
            with Deferred():  # once more Ctrl-C must not cut the record short
                work.save("interrupted")
            raise Interrupted(f"interrupted: resume with gleanet {COMMAND} --resume {folder.folder}", exit_code=exit_code(stop)) from stop
        except BaseException:
            work.save("failed")
            raise


def _earlier(resume: str) -> Run:
    run = store.find(resume).read()
    entries_of(run)
    return run


class _Comparison:
    """The state of a running comparison: the record, and the rows by (name, mode)."""

    def __init__(
        self,
        settings: CompareSettings,
        wanted: Sequence[tuple[Framework, str]],
        batches: Batches,
        folder: RunFolder,
        run: Run,
        progress: Progress,
    ) -> None:
        self.settings, self.folder, self.run, self.progress = settings, folder, run, progress
        self.rows = list(wanted)
        self.entries = {(entry.name, entry.mode): entry for entry in entries_of(run)}
        self.states = {framework.name: state(framework) for framework in {row.name: row for row, _ in wanted}.values()}
        self.limits = Limits(settings.threads, settings.limit)
        self.begun, self.spent = time.monotonic(), run.seconds
        self.reference = Reference(batches)
        self.files: dict[str, Any] = {}
        self.run = replace(
            run, data={"title": batches.title, "margin": spec.margin(spec.forward(self.reference.initial, self.reference.x))}
        )

    def prepare(self) -> None:
        """Write the record, and what adapters read; again where the run is resumed, because a killed process may have left half of it."""
        self.save("running")
        self.files = self.reference.write(self.folder.folder / "work")

    def check_all(self) -> None:
        """Check every row that is not settled yet."""
        waiting = [(framework, mode) for framework, mode in self.rows if self._status(framework, mode) not in ("ok", "wrong")]
        with self.progress.task("Check", len(waiting), "rows") as advance:
            for framework, mode in waiting:
                for entry in self._checked(framework, mode):
                    self.entries[framework.name, mode] = entry
                    self.save("running")
                advance(1)

    def time_all(self) -> None:
        """The rounds that are missing. What is wrong is not timed."""
        for index in range(self.settings.rounds):
            due = [row for row in self.rows if self._status(*row) == "ok" and len(self.entries[row[0].name, row[1]].rounds) <= index]
            turned = due[index % len(due) :] + due[: index % len(due)] if due else []  # nobody is always the first, or after the same row
            with self.progress.task(f"Round {index + 1} of {self.settings.rounds}", len(turned), "rows") as advance:
                for framework, mode in turned:
                    self._timed(framework, mode)
                    self.save("running")
                    advance(1)

    def save(self, status: str) -> Run:
        """Write the record as it is now."""
        entries = [self.entries.get((framework.name, mode)) or _blank(framework, mode) for framework, mode in self.rows]
        summed = _placed([_summed(entry) for entry in entries])
        results = {
            "folder": str(self.folder.folder),
            "frameworks": summed,
            "conclusions": conclusions(summed),
            "attributes": attributes(),
            "load": self._load(),
            "openblas": str(library("libopenblas.so") or "none"),
        }
        self.run = replace(self.run, status=status, seconds=self.spent + time.monotonic() - self.begun, results=results)
        self.folder.write(self.run)
        return self.run

    def tidy(self) -> None:
        """Remove compiled code and copies of the data; logs stay."""
        for path in (self.folder.folder / "work").iterdir():
            if path.is_dir():
                shutil.rmtree(path / "cache", ignore_errors=True)
                (path / "arrays.npz").unlink(missing_ok=True)
            else:
                path.unlink()

    def _status(self, framework: Framework, mode: str) -> str:
        entry = self.entries.get((framework.name, mode))
        return entry.status if entry else "waiting"

    def _load(self) -> float:
        """The largest load of the machine seen at a record, in running processes: more than our own one disturbs times."""
        now = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return max(now, float(self.run.results.get("load", 0.0)))

    def _ask(self, framework: Framework, mode: str, task: str, dtype: str = "float32") -> dict[str, Any]:
        work = (self.folder.folder / "work" / f"{framework.name}-{mode}").absolute()
        job = {
            **self.files,
            "task": task,
            "mode": mode,
            "dtype": dtype,
            "device": self.settings.device,
            "lr": spec.LR,
            "check_steps": STEPS,
            "steps": self.settings.steps,
            "warmup": WARMUP,
            "arrays": str(work / "arrays.npz"),
        }
        return run_adapter(framework, self.states[framework.name], job, self.limits, work)

    def _checked(self, framework: Framework, mode: str) -> Iterator[Entry]:
        """The row after each of the processes that check it: waiting, with a check, where float64 is to be asked too."""
        blank, found = _blank(framework, mode), self.states[framework.name]
        if found.python is None:
            yield replace(blank, status="not installed", reason=found.reason)
            return
        if self.settings.device not in framework.devices:
            yield replace(blank, status="failed", reason=f"its package here computes on {' and '.join(framework.devices)} alone")
            return
        arrays = self.folder.folder / "work" / f"{framework.name}-{mode}" / "arrays.npz"
        try:
            entry = self.entries.get((framework.name, mode), blank)
            check = entry.check if entry.status == "waiting" else None
            if check is None:
                entry, check = self._in_float32(framework, mode, arrays)
                yield entry
            if framework.trains and (check.verdict != "right" or (check.loss_drift or 0.0) > DRIFT):
                check = self._in_float64(framework, mode, arrays, check)
        except FrameworkError as error:
            yield replace(blank, status="failed", reason=str(error))
            return
        yield _judged(entry, check)

    def _in_float32(self, framework: Framework, mode: str, arrays: Path) -> tuple[Entry, Check]:
        """What float32 is, and the row with it, still waiting; with no compiled code left from earlier."""
        shutil.rmtree(arrays.parent / "cache", ignore_errors=True)
        length = code_length(framework.script.read_text(encoding="utf-8"), mode)
        answer = self._ask(framework, mode, "check")
        check = judge(self.reference, answer, arrays, "float32")
        entry = _described(_blank(framework, mode), self.states[framework.name], answer)
        cold = answer["import_s"] + answer["build_s"] + answer["first_s"]
        return replace(entry, check=check, lines=length.lines, tokens=length.tokens, cold_s=cold), check

    def _in_float64(self, framework: Framework, mode: str, arrays: Path, first: Check) -> Check:
        """Where float32 disagrees or drifts, float64 tells whether rounding decided about a tie, or the framework is wrong."""
        with suppress(AdapterError):  # it may not know float64: then what float32 says stands
            again = judge(self.reference, self._ask(framework, mode, "check", "float64"), arrays, "float64")
            if again.verdict == "right" and first.verdict == "right":
                return replace(first, loss_drift_float64=again.loss_drift)
            if again.verdict == "right":
                kept = {name: getattr(first, name) for name in ("logits_error", "losses", "loss_drift")}
                return replace(again, gradient_error_float32=first.gradient_error, loss_drift_float64=again.loss_drift, **kept)
        return first

    def _timed(self, framework: Framework, mode: str) -> None:
        key = (framework.name, mode)
        try:
            answer = self._ask(framework, mode, "time")
        except AdapterError as error:
            self.entries[key] = replace(self.entries[key], status="failed", reason=f"while it was timed: {error}", rounds=())
            return
        step = _calls(answer["step"]) if "step" in answer else None
        done = Round(answer["import_s"], answer["build_s"], step, _calls(answer["inference"]), answer["memory"])
        self.entries[key] = replace(self.entries[key], rounds=(*self.entries[key].rounds, done))


def _blank(framework: Framework, mode: str) -> Entry:
    return Entry(framework.name, framework.title, mode, trains=framework.trains)


def _described(entry: Entry, found: State, answer: dict[str, Any]) -> Entry:
    return replace(entry, version=answer["version"], python=answer["python"], bytes=found.bytes)


def _judged(entry: Entry, check: Check) -> Entry:
    return replace(
        entry,
        status="ok" if check.verdict == "right" else "wrong",
        reason="" if check.verdict == "right" else check.verdict,
        max_relative_gradient_error=check.gradient_error,
        check=check,
    )


def _calls(answer: dict[str, Any]) -> Calls:
    return Calls(_spread(answer["wall_ms"]), _spread(answer["cpu_ms"]), answer["first_s"])


def _spread(times: Sequence[float]) -> Spread:
    return Spread(float(np.percentile(times, 50)), float(np.percentile(times, 90)))


def _summed(entry: Entry) -> Entry:
    """The row with the medians over its rounds."""
    rounds = entry.rounds
    if not rounds:
        return entry
    steps = [each.step for each in rounds if each.step is not None]
    inferences = [each.inference for each in rounds]
    main = steps or inferences
    return replace(
        entry,
        import_s=statistics.median(each.import_s for each in rounds),
        build_s=statistics.median(each.build_s for each in rounds),
        step=_median_calls(steps) if steps else None,
        inference=_median_calls(inferences),
        memory=int(statistics.median(each.memory for each in rounds)),
        cores_used=statistics.median(each.cpu.p50_ms / each.wall.p50_ms for each in main),
    )


def _median_calls(calls: Sequence[Calls]) -> Calls:
    def median(spreads: Sequence[Spread]) -> Spread:
        return Spread(statistics.median(each.p50_ms for each in spreads), statistics.median(each.p90_ms for each in spreads))

    return Calls(
        median([each.wall for each in calls]), median([each.cpu for each in calls]), statistics.median(each.first_s for each in calls)
    )


def _placed(entries: Sequence[Entry]) -> list[Entry]:
    """The rows with the places that their rounds allow, among those that were timed."""
    steps = {f"{e.name} {e.mode}": [r.step.cpu.p50_ms for r in e.rounds if r.step] for e in entries if e.status == "ok" and e.step}
    inferences = {f"{e.name} {e.mode}": [r.inference.cpu.p50_ms for r in e.rounds] for e in entries if e.status == "ok" and e.inference}
    by_step, by_inference = places(steps), places(inferences)
    to_fastest, inference_to_fastest = ratios(steps), ratios(inferences)

    def placed(entry: Entry) -> Entry:
        key = f"{entry.name} {entry.mode}"
        return replace(
            entry,
            place=by_step.get(key),
            inference_place=by_inference.get(key),
            to_fastest=to_fastest.get(key),
            inference_to_fastest=inference_to_fastest.get(key),
        )

    return [placed(entry) for entry in entries]
