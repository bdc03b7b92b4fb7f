"""The tables of a comparison of frameworks as finished strings, the same on the page and in the terminal."""

from collections.abc import Sequence

from gleanet.core.framework_entries import Attributes, Calls, Check, Entry, conclusions_of, entries_of
from gleanet.core.records import Run
from gleanet.report import units
from gleanet.report.tables import Table

EXACT = 1e-7  # of a loss in float64; not less, because some keep the learning rate in float32


def comparison_tables(run: Run) -> tuple[Table, ...]:
    """Everything that was measured, as tables; those without rows are left out."""
    entries = entries_of(run)
    found = (
        correctness_table(entries),
        time_table(entries, run),
        inference_table(entries),
        cost_table(entries),
        absent_table(entries),
        conclusion_table(run),
    )
    return tuple(table for table in found if table.cells)


def correctness_table(entries: Sequence[Entry]) -> Table:
    """Whether each framework computes what it should, and which convention it follows where a derivative is not unique."""
    cells = []
    for entry in entries:
        check = entry.check
        if check is not None:
            slope = units.NONE if check.relu_at_zero is None else f"{check.relu_at_zero:g}"
            cells.append(
                (
                    entry.label,
                    entry.version,
                    _error(check.gradient_error) + (f" ({check.dtype})" if check.dtype != "float32" else ""),
                    _error(check.gradient_error_float32),
                    _error(check.logits_error),
                    check.ties or units.NONE,
                    slope,
                    f"{check.losses[-1]:.4f}" if check.losses else units.NONE,
                    _error(check.loss_drift),
                    _verdict(check),
                )
            )
    header = ("Framework", "Version", "Gradients", "in float32", "Logits", "Ties", "ReLU'(0)", "Loss, step 10", "off by", "Verdict")
    return Table(header, tuple(cells), caption="Largest relative errors against a float64 reference under the framework's own convention.")


def time_table(entries: Sequence[Entry], run: Run) -> Table:
    """Training: processor time and wall time of a step, places, code length. The fastest first."""
    timed = [entry for entry in entries if entry.step is not None and entry.status == "ok"]
    ordered = sorted(timed, key=lambda entry: entry.step.cpu.p50_ms if entry.step else 0.0)
    cells = tuple(
        (
            entry.label,
            entry.version,
            *_calls(entry.step),
            _ratio(entry.to_fastest),
            _place(entry.place),
            str(entry.tokens),
            str(entry.lines),
        )
        for entry in ordered
    )
    header = ("Training", "Version", "CPU p50", "CPU p90", "Wall p50", "Wall p90", "To the fastest", "Place", "Tokens", "Lines")
    rounds = min((len(entry.rounds) for entry in timed), default=0)
    settings = run.settings
    caption = (
        f"A step of 64 images, {settings.get('threads')} thread(s), {rounds} interleaved rounds of {settings.get('steps')} steps. "
        "A step takes arrays of numpy and gives the loss as a number. To the fastest: 99 % interval of the ratio of processor times, "
        "paired by round, from three rounds on. Place: between which ranks a row is, as far as these intervals can tell."
    )
    return Table(header, cells, caption=caption)


def inference_table(entries: Sequence[Entry]) -> Table:
    """Inference of 64 images, the fastest first."""
    timed = [entry for entry in entries if entry.inference is not None and entry.status == "ok"]
    ordered = sorted(timed, key=lambda entry: entry.inference.cpu.p50_ms if entry.inference else 0.0)
    cells = tuple(
        (entry.label, entry.version, *_calls(entry.inference), _ratio(entry.inference_to_fastest), _place(entry.inference_place))
        for entry in ordered
    )
    return Table(("Inference", "Version", "CPU p50", "CPU p90", "Wall p50", "Wall p90", "To the fastest", "Place"), cells)


def cost_table(entries: Sequence[Entry]) -> Table:
    """What first use costs, and memory and disk."""
    cells = tuple(
        (
            entry.label,
            entry.python,
            _seconds(entry.import_s),
            _seconds(entry.build_s),
            _seconds(calls.first_s if (calls := entry.step or entry.inference) else None),
            _seconds(entry.cold_s),
            units.size(entry.memory),
            units.size(entry.bytes),
            units.NONE if entry.cores_used is None else f"{entry.cores_used:.2f}",
        )
        for entry in entries
        if entry.status == "ok"
    )
    header = ("First use", "Python", "Import", "Build", "First call", "All, cold", "Peak memory", "On disk", "Cores used")
    caption = "Cold: without compiled code from earlier. On disk: with everything it requires. Cores used: processor time to wall time."
    return Table(header, cells, caption=caption)


def absent_table(entries: Sequence[Entry]) -> Table:
    """Rows without numbers, and why."""
    return Table(("No result", "Status", "Why"), tuple((e.label, e.status, e.reason) for e in entries if e.status != "ok"))


def conclusion_table(run: Run) -> Table:
    """The paper's conclusions beside ours."""
    cells = tuple((each.claim, each.verdict, each.evidence) for each in conclusions_of(run))
    return Table(("The paper says", "Here", "Because"), cells)


def attribute_table(found: Attributes) -> Table:
    """One row a framework, one column an attribute; a star marks what was measured here, a question mark what has no source."""
    mark = {"measured": " *", "": " ?"}
    cells = tuple(
        (title, *(f"{row[key].value}{mark.get(row[key].source, '')}" for key in found.names)) for title, row in found.frameworks.items()
    )
    caption = "* seen in the pinned package or in our own run of it; ? no source found; the sources of the others are on the report's page."
    return Table(("Framework", *found.names.values()), cells, caption=caption)


def _calls(calls: Calls | None) -> tuple[str, str, str, str]:
    if calls is None:
        return (units.NONE,) * 4
    spreads = (calls.cpu.p50_ms, calls.cpu.p90_ms, calls.wall.p50_ms, calls.wall.p90_ms)
    first, second, third, fourth = map(units.milliseconds, spreads)
    return first, second, third, fourth


def _place(place: tuple[int, int] | None) -> str:
    if place is None:
        return units.NONE
    return str(place[0]) if place[0] == place[1] else f"{place[0]} to {place[1]}"


def _verdict(check: Check) -> str:
    """The verdict, and what rounding did where float64 shows that it was rounding."""
    if check.verdict != "right" or not check.losses:
        return check.verdict
    if check.dtype != "float32":
        return "right; in float32 rounding breaks ties"
    if check.loss_drift_float64 is not None and check.loss_drift_float64 < EXACT:
        return f"right; by step {len(check.losses)} rounding has tipped a decision (float64: off by {check.loss_drift_float64:.0e})"
    return check.verdict


def _ratio(interval: tuple[float, float] | None) -> str:
    return units.NONE if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _error(value: float | None) -> str:
    return units.NONE if value is None else f"{value:.0e}"


def _seconds(value: float | None) -> str:
    return units.NONE if value is None else f"{value:.1f} s"
