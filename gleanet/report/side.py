"""Two or more runs side by side: what each came to, how sure the differences are, and what was set otherwise. Records in, strings out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gleanet.core.answers import Answers, paired
from gleanet.core.records import Accuracy, Change, Row, Run, Trial
from gleanet.report import units
from gleanet.report.quantization import FEW
from gleanet.report.tables import Table, baseline, batches_of, final, flat, p50
from gleanet.report.view import answer, command_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Entry:
    """One run of the comparison: its record, its answers where it kept them, and where its report is seen from the page, or None."""

    run: Run
    answers: Answers | None = None
    link: str | None = None


@dataclass(frozen=True)
class Summary:
    """One run on the page."""

    letter: str
    name: str
    sentence: str
    link: str | None
    command: str
    started: str


@dataclass(frozen=True)
class SidePage:
    """The whole page. A table without rows is not shown."""

    title: str
    answer: str
    warnings: tuple[str, ...]
    runs: tuple[Summary, ...]
    results: Table
    methods: Table
    layers: Table
    settings: Table
    machines: Table


def side_page(entries: Sequence[Entry]) -> SidePage:
    """The view of at least two runs, in the order given; the first is the one that the others are compared with."""
    runs = [entry.run for entry in entries]
    return SidePage(
        title=f"{' · '.join(run.id for run in runs)} · gleanet",
        answer=_answer(entries),
        warnings=_warnings(runs),
        runs=tuple(_summary(letter, entry) for letter, entry in zip(LETTERS, entries, strict=False)),
        results=_results(entries),
        methods=_methods(runs),
        layers=_layers(runs),
        settings=_differing("Settings that differ", [run.settings for run in runs]),
        machines=_differing("Machine, versions and data that differ", [_circumstances(run) for run in runs]),
    )


def delivered(run: Run) -> Row | None:
    """The row that a run is about, also where it only measured one network."""
    return final(run.rows) or (run.rows[-1] if run.rows else None)


def difference(one: Entry, other: Entry) -> tuple[Change, bool] | None:
    """Accuracy of ``other`` less that of ``one`` with its interval, and whether it is paired; None where one of them has none.

    Paired where both runs kept their answers to the same images. Else Newcombe's method 10 for unpaired proportions (R. G. Newcombe,
    Statistics in Medicine 17, 1998), which is wider than need be, since the images are mostly the same.
    """
    if one.answers is not None and other.answers is not None and (change := paired(one.answers, other.answers)) is not None:
        return change, True
    rows = delivered(one.run), delivered(other.run)
    if rows[0] is None or rows[1] is None or rows[0].measured.accuracy is None or rows[1].measured.accuracy is None:
        return None
    return _unpaired(rows[0].measured.accuracy, rows[1].measured.accuracy), False


def _unpaired(old: Accuracy, new: Accuracy) -> Change:
    delta = new.value - old.value
    down = ((new.value - new.low) ** 2 + (old.high - old.value) ** 2) ** 0.5
    up = ((new.high - new.value) ** 2 + (old.value - old.low) ** 2) ** 0.5
    return Change(delta, delta - down, delta + up, min(old.n, new.n))


def _answer(entries: Sequence[Entry]) -> str:
    """What two runs differ by; of more, which is the fastest, the smallest and the most accurate."""
    runs = [entry.run for entry in entries]
    rows = [delivered(run) for run in runs]
    known = [(letter, row.measured) for letter, row in zip(LETTERS, rows, strict=False) if row is not None]
    if len(known) < 2:
        return f"{len(entries)} runs, of which {len(known)} {'has' if len(known) == 1 else 'have'} a result."
    if len(entries) == 2:
        return _versus(entries)
    clauses = []
    timed = [(ms, letter) for letter, measured in known if (ms := p50(measured.latencies, None)) is not None]
    if timed and _same_machine(runs):
        clauses.append(f"{min(timed)[1]} is the fastest ({units.milliseconds(min(timed)[0])})")
    smallest = min((measured.bytes, letter) for letter, measured in known)
    clauses.append(f"{smallest[1]} the smallest ({units.size(smallest[0])})")
    best = max(
        ((m.accuracy.value, letter, m.accuracy) for letter, m in known if m.accuracy is not None), default=None, key=lambda one: one[0]
    )
    if best is not None and len(_data(runs)) == 1:
        surely = "" if _clearly_best(entries, LETTERS.index(best[1])) else ", though not surely"
        clauses.append(f"{best[1]} the most accurate{surely}: {units.accuracy(best[2])}")
    return f"Of {len(entries)} runs {', '.join(clauses)}."


def _clearly_best(entries: Sequence[Entry], place: int) -> bool:
    """Whether the interval of its difference to every other run is above zero."""
    found = [difference(other, entries[place]) for other in entries if other is not entries[place]]
    return all(one is not None and one[0].low > 0 for one in found)


def _versus(entries: Sequence[Entry]) -> str:
    runs = [entry.run for entry in entries]
    first, second = (row.measured for run in runs if (row := delivered(run)) is not None)
    clauses = []
    old, new = p50(first.latencies, None), p50(second.latencies, None)
    if old and new and _same_machine(runs):
        clauses.append(f"{units.factor(old / new)} times as fast")
    if first.bytes and second.bytes:
        ratio = first.bytes / second.bytes
        times = f"{units.factor(max(ratio, 1 / ratio))} times {'smaller' if ratio >= 1 else 'larger'}"
        clauses.append("the same size" if 0.98 < ratio < 1.02 else times)
    found = difference(entries[0], entries[1])
    if found is not None and len(_data(runs)) == 1:
        change, exact = found
        unsure = change.low <= 0 <= change.high
        how = "paired" if exact else "unpaired"
        clauses.append(f"accuracy {units.change(change)}, {how}{', so they cannot be told apart' if unsure else ''}")
    return f"B against A: {', '.join(clauses)}."


def _warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    """Why some of the figures must not be compared."""
    found = []
    if not _same_machine(runs):
        found.append("The runs were timed on different machines or with different threads: their times cannot be compared.")
    else:
        found.append("The runs were timed at different hours: small differences in time may be the machine's, not the network's.")
    data = _data(runs)
    if len(data) > 1:
        named = ", ".join(sorted(name or "none" for name in data))
        found.append(f"The runs are on different data ({named}): their accuracies cannot be compared.")
    unfinished = [letter for letter, run in zip(LETTERS, runs, strict=False) if run.status not in ("done", "below bar")]
    if unfinished:
        found.append(f"Not finished: {', '.join(unfinished)}.")
    return tuple(found)


def _same_machine(runs: Sequence[Run]) -> bool:
    """Whether times may be compared at all."""
    threads = [tuple(sorted({latency.threads for row in run.rows for latency in row.measured.latencies})) for run in runs]
    return len({(str(run.machine.get("cpu")), used) for run, used in zip(runs, threads, strict=True)}) == 1


def _data(runs: Sequence[Run]) -> set[str]:
    return {str(run.data.get("title") or run.data.get("name") or "") for run in runs}


def _summary(letter: str, entry: Entry) -> Summary:
    run = entry.run
    return Summary(letter, run.id, answer(run), entry.link, command_of(run), run.started.replace("T", " ")[:16])


def _results(entries: Sequence[Entry]) -> Table:
    rows = [(letter, entry, row) for letter, entry in zip(LETTERS, entries, strict=False) if (row := delivered(entry.run)) is not None]
    batches = batches_of(row.measured.latencies for _, _, row in rows)
    header: tuple[str, ...] = ("Run", "Network", "MACs", "On disk", "Accuracy (95 % interval)", "Change (95 % interval)")
    header += ("Against A (95 % interval)", *(f"p50, batch {batch}" for batch in batches), "Speed-up")
    cells = []
    for letter, entry, row in rows:
        found = None if entry is entries[0] else difference(entries[0], entry)
        cells.append(
            (
                f"{letter} {entry.run.id}",
                row.label,
                units.count(row.measured.macs),
                units.size(row.measured.bytes),
                units.accuracy(row.measured.accuracy),
                units.change(row.measured.change),
                "–" if found is None else units.change(found[0]),
                *(units.milliseconds(p50(row.measured.latencies, batch)) for batch in batches),
                units.times(_own_speedup(entry.run, row)),
            )
        )
    caption = (
        "The network that each run delivers. Change: against its own baseline. Against A: paired where both runs kept their answers to the "
        "same images, else unpaired, which is wider. Speed-up: over its own baseline, one image"
    )
    return Table(header, tuple(cells), caption)


def _own_speedup(run: Run, row: Row) -> float | None:
    base = baseline(run.rows)
    old, new = p50(base.measured.latencies, None) if base else None, p50(row.measured.latencies, None)
    return old / new if old and new else None


def _methods(runs: Sequence[Run]) -> Table:
    """Every quantization method that at least two runs tried, the chosen ones first."""
    tried = [{trial.method: trial for trial in run.trials if trial.latencies} for run in runs]
    names = list(dict.fromkeys(name for trials in tried for name in trials))
    shared = [name for name in names if sum(name in trials for trials in tried) > 1]
    picked = {name for trials in tried for name, trial in trials.items() if trial.verdict == "chosen"}
    ordered = sorted(shared, key=lambda name: name not in picked)
    cells = tuple((name, *(_verdict(trials.get(name)) for trials in tried)) for name in ordered)
    first = tuple(range(FEW)) if len(cells) > FEW else ()
    return Table(("Method", *LETTERS[: len(runs)]), cells, "Verdict, time of one image, and accuracy against the float model", first=first)


def _verdict(trial: Trial | None) -> str:
    if trial is None:
        return units.NONE
    return f"{trial.verdict}, {units.milliseconds(p50(trial.latencies, None))}, {units.change(trial.change)}"


def _layers(runs: Sequence[Run]) -> Table:
    """Channels of each layer in each run; nothing where fewer than two runs pruned the same layers."""
    found = [{layer.layer: layer for layer in run.widths} for run in runs]
    names = [layer.layer for layer in max((run.widths for run in runs), key=len)]
    if sum(bool(layers) for layers in found) < 2 or not set.intersection(*(set(layers) for layers in found if layers)):
        return Table((), ())
    cells = []
    for name in names:
        before = {str(layers[name].before) for layers in found if name in layers}
        after = (str(layers[name].after) if name in layers else units.NONE for layers in found)
        cells.append((name, " or ".join(sorted(before)), *after))
    return Table(("Layer", "Before", *LETTERS[: len(runs)]), tuple(cells), "Channels of each prunable layer")


def _differing(caption: str, facts: Sequence[Mapping[str, object]]) -> Table:
    """Names whose values are not the same in all runs."""
    found = [{name: units.plain(value) for name, value in flat(one)} for one in facts]
    names = list(dict.fromkeys(name for one in found for name in one))
    cells = tuple(
        (name, *(one.get(name, units.NONE) for one in found)) for name in names if len({one.get(name, units.NONE) for one in found}) > 1
    )
    return Table(("Name", *LETTERS[: len(facts)]), cells, caption)


def _circumstances(run: Run) -> dict[str, object]:
    return {"command": run.command, "model": run.model, "machine": run.machine, "versions": run.versions, "data": run.data}
