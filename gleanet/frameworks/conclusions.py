"""The paper's conclusions beside what was measured here. Each is confirmed, refuted, or not testable here.

Source: Y. Chung, S. Ahn, J. Yang, J. Lee, "Comparison of Deep Learning Frameworks: About Theano, Tensorflow, and Cognitive Toolkit",
Journal of Intelligence and Information Systems 23(2), 1-17, 2017; its abstract is all of it that is public to us.
"""

from collections.abc import Callable, Mapping, Sequence

from gleanet.core.framework_entries import Conclusion, Entry

OURS = ("theano-0.9", "tensorflow-1.2", "cntk")  # the versions of the paper's time; CNTK 2.0 is no longer to be had
EQUAL = 1.25  # "about equal": the slowest takes at most this times the fastest
MUCH_SLOWER = 10.0  # "up to 50 times": at least of that order
CONFIRMED, REFUTED, UNTESTABLE = "confirmed", "refuted", "not testable here"


def conclusions(entries: Sequence[Entry]) -> list[Conclusion]:
    """The verdicts that these rows allow."""
    right = [entry for entry in entries if entry.name in OURS and entry.status == "ok"]
    rows = {name: next(entry for entry in right if entry.name == name) for name in OURS if any(entry.name == name for entry in right)}
    return [judge(entries, rows) for judge in (_differentiation, _code, _speed, _cntk_on_cpu, _several_machines)]


def _judged(claim: str, rows: Mapping[str, Entry], verdict: Callable[[Entry, Entry, Entry], tuple[bool, str]]) -> Conclusion:
    missing = [name for name in OURS if name not in rows]
    if missing:
        return Conclusion(claim, UNTESTABLE, f"this comparison has no result of {', '.join(missing)}")
    holds, evidence = verdict(*(rows[name] for name in OURS))
    return Conclusion(claim, CONFIRMED if holds else REFUTED, evidence)


def _differentiation(entries: Sequence[Entry], rows: Mapping[str, Entry]) -> Conclusion:
    def verdict(*three: Entry) -> tuple[bool, str]:
        checks = [(row.title, row.check) for row in three if row.check is not None]
        parts = [f"{title} {check.gradient_error or 0:.0e} in {check.dtype} (ties: {check.ties})" for title, check in checks]
        return True, f"largest relative error of a gradient against the reference, each under its own convention: {', '.join(parts)}"

    return _judged("Automatic differentiation is their common core: all three derive the gradients of the same network", rows, verdict)


def _code(entries: Sequence[Entry], rows: Mapping[str, Entry]) -> Conclusion:
    """Each in its shortest style: TensorFlow of that time has two, with and without ``tf.layers``."""

    def verdict(theano: Entry, tensorflow: Entry, cntk: Entry) -> tuple[bool, str]:
        styles = sorted((e for e in entries if e.name == tensorflow.name and e.status == "ok"), key=lambda e: e.tokens or 0)
        words = ", ".join(f"{row.label} {row.tokens} tokens in {row.lines} lines" for row in (cntk, *styles, theano))
        holds = (cntk.tokens or 0) < (styles[0].tokens or 0) < (theano.tokens or 0)
        return holds, f"{words}; written by us, in the style of each one's own documentation"

    return _judged("Code is shortest in CNTK, then TensorFlow, then Theano", rows, verdict)


def _speed(entries: Sequence[Entry], rows: Mapping[str, Entry]) -> Conclusion:
    claim = "Speed of training on a CNN for CIFAR-10 is about equal"
    if any(rows[name].step is None for name in OURS if name in rows):
        return Conclusion(claim, UNTESTABLE, "nothing was timed")

    def verdict(*three: Entry) -> tuple[bool, str]:
        times = {row.title: row.step.cpu.p50_ms for row in three if row.step}
        spread = max(times.values()) / min(times.values())
        words = ", ".join(f"{name} {value:.0f} ms" for name, value in times.items())
        evidence = f"a step on one CPU core: {words}: the slowest takes {spread:.1f} times the fastest; on a GPU it may still hold"
        return spread <= EQUAL, evidence

    return _judged(claim, rows, verdict)


def _cntk_on_cpu(entries: Sequence[Entry], rows: Mapping[str, Entry]) -> Conclusion:
    claim = "CNTK without a GPU is up to 50 times slower than the others"
    times = {entry.label: entry.step.cpu.p50_ms for entry in entries if entry.status == "ok" and entry.step and entry.name != "cntk"}
    rivals = {row.label: times[row.label] for row in rows.values() if row.label in times}
    cntk = rows.get("cntk")
    if cntk is None or cntk.step is None or not rivals:
        return Conclusion(claim, UNTESTABLE, "CNTK, or both of the others, were not timed")
    ratios = {name: cntk.step.cpu.p50_ms / value for name, value in rivals.items()}
    fastest = min(times, key=lambda name: times[name])
    words = ", ".join(f"{value:.1f} times that of {name}" for name, value in ratios.items())
    today = f"{cntk.step.cpu.p50_ms / times[fastest]:.1f} times that of the fastest of today, {fastest}"
    evidence = f"a step of {cntk.label} on one core takes {words}, and {today}; CNTK 2.0 of 2017 is no longer to be had"
    return Conclusion(claim, CONFIRMED if max(ratios.values()) >= MUCH_SLOWER else REFUTED, evidence)


def _several_machines(entries: Sequence[Entry], rows: Mapping[str, Entry]) -> Conclusion:
    return Conclusion(
        "Support for several GPUs and several servers decides, with examples and documents at hand",
        UNTESTABLE,
        "one machine and no second GPU; the attribute table says what each offers, with sources",
    )
