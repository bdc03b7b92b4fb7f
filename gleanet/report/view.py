"""What the page and the terminal show of a run: records in, frozen views of finished strings out. Nothing is measured or looked up here."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from gleanet.core.answers import Answers
from gleanet.core.frontier import milliseconds
from gleanet.core.records import Row, Run
from gleanet.core.settings import command_line
from gleanet.report import units
from gleanet.report.answers import AnswersView, answers_view
from gleanet.report.curves import curve_caption, curve_table
from gleanet.report.frontier import frontier_table, verdict
from gleanet.report.quantization import node_table, range_table, repair_table, sensitivity_table, trial_table
from gleanet.report.tables import Table, baseline, fact_table, final, speedup, threads_text, width_table
from gleanet.report.tables import table as table
from gleanet.report.usage import CHECKPOINT, Snippet, snippets

EMPTY: Mapping[str, str] = MappingProxyType({})
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
_DELIVERED = ("model.int8.onnx", "model.onnx", "model.gleanet")
_DISTRIBUTIONS = ("gleanet", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Part:
    """A piece of a sentence; the figures in it are ``strong``, the names of files that are there are links."""

    text: str
    strong: bool = False
    file: bool = False


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
    frontier: Table
    verdict: str
    results: Table
    trials: Table
    nodes: Table
    sensitivity: Table
    repair: Table
    ranges: Table
    widths: Table
    times: Table
    times_caption: str
    answers: AnswersView | None
    snippets: tuple[Snippet, ...]
    notes: tuple[str, ...]
    command: str
    install: str
    facts: tuple[Table, ...]
    version: str


def page(run: Run, files: Sequence[str] = (), answers: Answers | None = None, checksums: Mapping[str, str] = EMPTY) -> Page:
    """The view of one run.

    Args:
        files: names of the artefacts that exist beside the report; without them, those that the record names.
        answers: what the float file and the delivered one say about the test images, where the run kept it.
        checksums: SHA-256 of the artefacts, by name.
    """
    base = baseline(run.rows)
    shown = _files(run, files)
    return Page(
        title=f"{run.model} · gleanet",
        eyebrow=tuple(text for text in ("gleanet", run.model, _data_name(run), run.started.replace("T", " ")[:16]) if text),
        answer=_with_files(answer_parts(run), shown, linked=bool(files)),
        context=_context(run, base),
        trouble=_TROUBLE.get(run.status),
        files=shown,
        frontier=frontier_table(run.frontier),
        verdict=verdict(run.frontier),
        results=table(run.rows, base),
        trials=trial_table(run.trials),
        nodes=node_table(run.trials, _float_nodes(run)),
        sensitivity=sensitivity_table(run.sensitivity),
        repair=repair_table(run.repair),
        ranges=range_table(run.ranges),
        widths=width_table(run.widths),
        times=curve_table(run.table),
        times_caption=curve_caption(run.table, str(run.machine.get("cpu") or "")),
        answers=answers_view(answers),
        snippets=snippets(run.interface, checkpoint=CHECKPOINT in [file.name for file in shown]),
        notes=run.notes,
        command=command_of(run),
        install=_install(run),
        facts=tuple(
            fact_table(caption, facts)
            for caption, facts in (
                ("Settings", run.settings),
                ("Machine", run.machine),
                ("Versions", run.versions),
                ("Data", run.data),
                ("SHA-256 of the files", checksums),
            )
            if facts
        ),
        version=run.versions.get("gleanet", ""),
    )


def answer(run: Run) -> str:
    """The result in one sentence: "Half the work (49.8 % of the MACs), 4.9 times smaller, ...; these are the files: model.int8.onnx."."""
    return "".join(part.text for part in _with_files(answer_parts(run), _files(run, ()), linked=False))


def _with_files(parts: tuple[Part, ...], files: Sequence[File], *, linked: bool) -> tuple[Part, ...]:
    """The sentence with the names of what was made; the first is the one to deploy."""
    made = [file.name for file in files if file.name in _DELIVERED]
    if not made or parts[-1].text != ".":
        return parts
    named: list[Part] = [Part("; this is the file: " if len(made) == 1 else "; these are the files: ")]
    for place, name in enumerate(made):
        named += [Part(" and " if place == len(made) - 1 else ", ")] if place else []
        named.append(Part(name, file=linked))
    return (*parts[:-1], *named, Part("."))


def answer_parts(run: Run) -> tuple[Part, ...]:
    """The sentence of :func:`answer` with its figures marked."""
    base, last = baseline(run.rows), final(run.rows)
    if base is None or last is None or base is last:
        return _alone(run)
    old, new = base.measured, last.measured
    clauses: list[tuple[Part, ...]] = []
    if old.macs:
        clauses.append(_work(new.macs / old.macs))
    if new.bytes:
        smaller = old.bytes / new.bytes
        clauses.append((Part(units.factor(max(smaller, 1 / smaller)), True), Part(" times smaller" if smaller >= 1 else " times larger")))
    latency = min(new.latencies, key=lambda latency: latency.batch, default=None)
    ratio = speedup(last, base, latency) if latency else None
    if latency and ratio is not None:
        where = f"at batch {latency.batch} on {threads_text(latency.threads)} of this CPU"
        clauses.append((Part(f"{units.factor(ratio)} times", True), Part(f" as fast {where}")))
    if new.change is not None:
        clauses.append((Part("accuracy "), Part(units.change(new.change), True)))
    return (*(part for index, clause in enumerate(clauses) for part in ((Part(", "), *clause) if index else clause)), Part("."))


def _alone(run: Run) -> tuple[Part, ...]:
    """The sentence of a run with nothing to compare: what its last network is."""
    if not run.rows:
        return (Part(f"{run.model}: no result{' yet' if run.status == 'running' else ''}."),)
    last = run.rows[-1].measured
    found = () if last.accuracy is None else (Part(units.accuracy(last.accuracy), True), Part(" accurate, "))
    return (Part(f"{run.model}: "), *found, Part(f"{units.count(last.macs)} MACs, {units.size(last.bytes)}."))


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
    lines += _beside_alone(run, last)
    if run.machine.get("cpu"):
        cores = run.machine.get("cores")
        lines.append(f"Timed on {run.machine['cpu']}" + (f", {cores} {'core' if cores == 1 else 'cores'}." if cores else "."))
    if run.seconds:
        lines.append(f"The whole run took {units.duration(run.seconds)}.")
    return tuple(lines)


def _beside_alone(run: Run, last: Row | None) -> list[str]:
    """How the delivered file compares with the network quantized and not pruned, where the run measured that one."""
    alone = next((row.measured for row in run.rows if row.role == "quantized-alone"), None)
    if alone is None or last is None:
        return []
    old, new = milliseconds(alone), milliseconds(last.measured)
    if not (0 < new < float("inf") and old < float("inf")):
        return []
    found = f"Against the network quantized and not pruned: {units.times(old / new)} as fast"
    if alone.accuracy is None or last.measured.accuracy is None:
        return [f"{found}."]
    return [f"{found}, {units.percent(last.measured.accuracy.value)} accurate instead of {units.percent(alone.accuracy.value)}."]


def _files(run: Run, names: Sequence[str]) -> tuple[File, ...]:
    own = [row.measured for row in run.rows if PurePath(row.measured.file).name == row.measured.file]  # others lie elsewhere
    sizes = {measured.file: measured.bytes for measured in own}
    recorded = run.results.get("files")
    known = {*sizes, *(recorded if isinstance(recorded, dict) else ())}
    present = [name for name in _FILES if name in (names or known)]
    return tuple(File(name, _FILES[name], units.size(sizes[name]) if name in sizes else "") for name in present)


def _float_nodes(run: Run) -> dict[str, int]:
    found = run.results.get("quantization")
    nodes = found.get("float_nodes") if isinstance(found, dict) else None
    return nodes if isinstance(nodes, dict) else {}


def command_of(run: Run) -> str:
    """What to paste to do it again: the settings as a command line, or the command's name where they cannot be read back."""
    return shlex.join(["gleanet", *(command_line(run.command, run.settings) or [run.command])])


def _install(run: Run) -> str:
    """The line that gets the same libraries; local marks such as ``+cpu`` are those of a package index."""
    pinned = [f"{name}=={run.versions[name].partition('+')[0]}" for name in _DISTRIBUTIONS if name in run.versions]
    return shlex.join(["pip", "install", *pinned]) if pinned else ""


def _data_name(run: Run) -> str:
    return str(run.data.get("title") or run.data.get("name") or "")
