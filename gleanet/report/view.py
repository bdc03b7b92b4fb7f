"""What the page and the terminal show of a run: records in, frozen views of finished strings out. Nothing is measured or looked up here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from gleanet.core.records import Latency, Row, Run, Trial
from gleanet.report import units

_FINAL = ("quantized", "recovered", "one-shot")
_BASE = ("fine-tuned", "given")
_VERDICTS = {"chosen": 0, "slower": 1, "too inaccurate": 2, "failed": 3}
_TROUBLE = {
    "running": "This run has not finished: what follows is what it has so far.",
    "below bar": "This run finished, but its result is below the bar that was set.",
    "failed": "This run failed: what follows is what it had until then.",
    "interrupted": "This run was interrupted: what follows is what it had until then. It can be resumed.",
}
_FILES = {
    "model.int8.onnx": "the small model, quantized: deploy this",
    "model.onnx": "the pruned model in float",
    "model.gleanet": "the pruned checkpoint, for PyTorch",
    "base.onnx": "the baseline in float",
    "run.json": "every number on this page",
}


@dataclass(frozen=True)
class Table:
    """Rows of finished strings. ``strong`` is the index of the row that the run is about; the first column names the rows."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: int | None = None


@dataclass(frozen=True)
class Part:
    """A piece of a sentence; the figures in it are ``strong``."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class File:
    """An artefact in the run's folder."""

    name: str
    what: str
    size: str


@dataclass(frozen=True)
class Page:
    """The whole report. A table without rows is not shown."""

    title: str
    eyebrow: tuple[str, ...]
    answer: tuple[Part, ...]
    context: tuple[str, ...]
    trouble: str | None
    files: tuple[File, ...]
    results: Table
    trials: Table
    nodes: Table
    widths: Table
    notes: tuple[str, ...]
    command: str
    facts: tuple[Table, ...]
    version: str


def page(run: Run, files: Sequence[str] = ()) -> Page:
    """The view of one run.

    Args:
        files: names of the artefacts that exist beside the report; without them, those that the record names.
    """
    base = baseline(run.rows)
    return Page(
        title=f"{run.model} · gleanet",
        eyebrow=tuple(text for text in ("gleanet", run.model, _data_name(run), run.started.replace("T", " ")[:16]) if text),
        answer=answer_parts(run),
        context=_context(run, base),
        trouble=_TROUBLE.get(run.status),
        files=_files(run, files),
        results=table(run.rows, base),
        trials=trial_table(run.trials),
        nodes=_node_table(run.trials),
        widths=_width_table(run),
        notes=run.notes,
        command=run.command,
        facts=tuple(
            fact_table(caption, facts)
            for caption, facts in (("Settings", run.settings), ("Machine", run.machine), ("Versions", run.versions), ("Data", run.data))
            if facts
        ),
        version=run.versions.get("gleanet", ""),
    )


def answer(run: Run) -> str:
    """The result in one sentence: "Half the work (49.8 % of the MACs), 4.9 times smaller, ..."."""
    return "".join(part.text for part in answer_parts(run))


def answer_parts(run: Run) -> tuple[Part, ...]:
    """The sentence of :func:`answer` with its figures marked."""
    base, last = baseline(run.rows), final(run.rows)
    if base is None or last is None or base is last:
        return (Part(f"{run.model}: nothing to compare yet." if run.status == "running" else f"{run.model}: no result to compare."),)
    old, new = base.measured, last.measured
    clauses: list[tuple[Part, ...]] = []
    if old.macs:
        clauses.append(_work(new.macs / old.macs))
    if new.bytes:
        smaller = old.bytes / new.bytes
        clauses.append((Part(units.factor(max(smaller, 1 / smaller)), True), Part(" times smaller" if smaller >= 1 else " times larger")))
    latency = new.latencies[0] if new.latencies else None
    ratio = speedup(last, base, latency) if latency else None
    if latency and ratio is not None:
        where = f"at batch {latency.batch} on {_threads(latency.threads)} of this CPU"
        clauses.append((Part(f"{units.factor(ratio)} times", True), Part(f" as fast {where}")))
    if new.change is not None:
        clauses.append((Part(units.change(new.change), True), Part(" of accuracy")))
    return (*(part for index, clause in enumerate(clauses) for part in ((Part(", "), *clause) if index else clause)), Part("."))


def baseline(rows: Sequence[Row]) -> Row | None:
    """The row that the others are compared with: it has no change of its own; of several, the fine-tuned before the given."""
    unchanged = [row for row in rows if row.measured.change is None]
    if not unchanged:  # a baseline compared with itself
        unchanged = [row for row in rows if row.measured.change is not None and row.measured.change.delta == 0 and row.role in _BASE]
    candidates = [row for role in _BASE for row in unchanged if row.role == role] + unchanged
    return candidates[0] if candidates else None


def final(rows: Sequence[Row]) -> Row | None:
    """The row that the run is about: the last of the pipeline's stages that was reached."""
    return next((row for role in _FINAL for row in reversed(rows) if row.role == role), None)


def table(rows: Sequence[Row], baseline: Row | None) -> Table:
    """The result table, one line per row, the same in the terminal and on the page.

    Args:
        baseline: the row whose change reads ``baseline`` and against which missing speed-ups are computed.
    """
    batches = _batches(row.measured.latencies for row in rows)
    header = ("Network", "MACs", "Parameters", "On disk", "Accuracy (95 % interval)", "Change (95 % interval)")
    header += tuple(f"p50, batch {batch}" for batch in batches) + tuple(f"Speed-up, batch {batch}" for batch in batches)
    last = final(rows)
    return Table(
        header=header,
        cells=tuple(_cells(row, baseline, batches) for row in rows),
        caption=_timing(row.measured.latencies for row in rows),
        strong=next((index for index, row in enumerate(rows) if row is last), None),
    )


def trial_table(trials: Sequence[Trial]) -> Table:
    """What was tried in quantization: the chosen method first, then those that lost, by verdict and speed."""
    batches = _batches(trial.latencies for trial in trials)
    ordered = sorted(trials, key=lambda trial: (_VERDICTS.get(trial.verdict, 4), _p50(trial.latencies, None) or float("inf")))
    header = ("Method", "Verdict", "Why", "On disk", "Accuracy (95 % interval)", "Against float (95 % interval)", "Same answer", "SQNR")
    header += tuple(f"p50, batch {batch}" for batch in batches)
    cells = tuple(
        (
            trial.method,
            trial.verdict,
            trial.reason,
            units.size(trial.bytes),
            units.accuracy(trial.accuracy),
            units.change(trial.change),
            units.NONE if trial.agreement is None else units.percent(trial.agreement),
            units.NONE if trial.sqnr_db is None else f"{trial.sqnr_db:.1f} dB",
            *(units.milliseconds(_p50(trial.latencies, batch)) for batch in batches),
        )
        for trial in ordered
    )
    return Table(header, cells, strong=0 if ordered and ordered[0].verdict == "chosen" else None)


def fact_table(caption: str, facts: Mapping[str, object]) -> Table:
    """Names and values; nested settings become ``recovery.epochs``."""
    return Table(("Name", "Value"), tuple((name, units.plain(value)) for name, value in _flat(facts)), caption)


def speedup(row: Row, baseline: Row, latency: Latency) -> float | None:
    """How many times as fast as the baseline at this batch: from the record, else from the two medians."""
    recorded = row.measured.speedup.get(str(latency.batch))
    if recorded is not None:
        return recorded
    before, after = _p50(baseline.measured.latencies, latency.batch), latency.p50_ms
    return before / after if before and after else None


def split(cell: str) -> tuple[str, str]:
    """``88.0 % (87.4 to 88.6)`` -> ``88.0 %`` and ``87.4 to 88.6``, for a page that sets the interval smaller."""
    main, bracket, rest = cell.partition(" (")
    return (main, rest[:-1]) if bracket and rest.endswith(")") and " to " in rest else (cell, "")


def _cells(row: Row, baseline: Row | None, batches: Sequence[int]) -> tuple[str, ...]:
    measured = row.measured
    by_batch = {latency.batch: latency for latency in measured.latencies}
    ratios = (speedup(row, baseline, by_batch[batch]) if baseline and batch in by_batch else None for batch in batches)
    return (
        row.label,
        units.count(measured.macs),
        units.count(measured.params),
        units.size(measured.bytes),
        units.accuracy(measured.accuracy),
        "baseline" if row is baseline else units.change(measured.change),
        *(units.milliseconds(_p50(measured.latencies, batch)) for batch in batches),
        *("1×" if row is baseline and ratio is not None else units.times(ratio) for ratio in ratios),
    )


def _work(ratio: float) -> tuple[Part, ...]:
    share = f"{units.percent(ratio)} of the MACs"
    for fraction, word in ((1 / 2, "Half"), (1 / 3, "A third of"), (1 / 4, "A quarter of")):
        if 0.95 * fraction <= ratio <= fraction * 1.01:
            return (Part(f"{word} the work", True), Part(f" ({share})"))
    return (Part("The same work" if ratio == 1 else f"{units.percent(ratio)} of the work", True), Part(" (MACs)"))


def _context(run: Run, base: Row | None) -> tuple[str, ...]:
    """The sentences under the answer: against what, on how many images, on which machine."""
    last = final(run.rows)
    lines: list[str] = []
    if base is not None and last is not None and last.measured.change is not None:
        found = last.measured.change
        images = f"{found.n:,} test images" + (f" of {name}" if (name := _data_name(run)) else "")
        clear = found.low > 0 or found.high < 0
        lines.append(
            f"Against “{base.label}”, on the same {images}."
            + ("" if clear else " The interval includes zero: on this many images the two cannot be told apart.")
        )
    elif last is not None and last.measured.accuracy is None:
        lines.append("Accuracy was not measured: this run had no labelled images.")
    if run.machine.get("cpu"):
        cores = run.machine.get("cores")
        lines.append(f"Timed on {run.machine['cpu']}" + (f", {cores} {'core' if cores == 1 else 'cores'}." if cores else "."))
    if run.seconds:
        lines.append(f"The whole run took {units.duration(run.seconds)}.")
    return tuple(lines)


def _files(run: Run, names: Sequence[str]) -> tuple[File, ...]:
    sizes = {PurePath(row.measured.file).name: row.measured.bytes for row in run.rows}
    present = [name for name in _FILES if name in (names or sizes)]
    return tuple(File(name, _FILES[name], units.size(sizes[name]) if name in sizes else "") for name in present)


def _width_table(run: Run) -> Table:
    header = ("Layer", "Channels before", "Channels after", "Kept", "MACs before", "MACs after")
    return Table(
        header,
        tuple(
            (w.layer, str(w.before), str(w.after), units.percent(w.after / w.before), units.count(w.macs_before), units.count(w.macs_after))
            for w in run.widths
        ),
        "Channels and MACs of each prunable layer",
    )


def _node_table(trials: Sequence[Trial]) -> Table:
    cells = tuple(
        (trial.method, ", ".join(f"{kind} {number}" for kind, number in sorted(trial.nodes.items(), key=lambda item: -item[1])))
        for trial in trials
        if trial.nodes
    )
    return Table(("Method", "Nodes as the runtime executes them"), cells, "Node types of each quantized file")


def _batches(measured: Iterable[Sequence[Latency]]) -> list[int]:
    return sorted({latency.batch for latencies in measured for latency in latencies})


def _p50(latencies: Sequence[Latency], batch: int | None) -> float | None:
    """Median of one batch size; None: of the first that was measured."""
    return next((latency.p50_ms for latency in latencies if batch in (None, latency.batch)), None)


def _timing(measured: Iterable[Sequence[Latency]]) -> str:
    found = [latency for latencies in measured for latency in latencies]
    if not found:
        return "MACs of one image, bytes and accuracy of every step"
    repeats = min(latency.repeats for latency in found)
    threads = " and ".join(_threads(number) for number in sorted({latency.threads for latency in found}))
    return f"Every step of the run. MACs are of one image; p50 is the median time of one call, {threads}, at least {repeats:,} repeats, interleaved"


def _threads(number: int) -> str:
    return "one thread" if number == 1 else f"{number} threads"


def _data_name(run: Run) -> str:
    return str(run.data.get("title") or run.data.get("name") or "")


def _flat(facts: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value))
    return flat
