"""Which trial wins, and the words for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gleanet.core.records import Latency, Trial
from gleanet.quantize.methods import METHODS
from gleanet.quantize.trial import INTEGER_LAYERS

SAME_SPEED = 1.02  # candidates within 2 % of the fastest are equally fast for all the timing can tell: then precision decides


def speed_ratio(base: Sequence[Latency], other: Sequence[Latency]) -> float:
    """Time of ``other`` relative to ``base``: geometric mean, over the batch sizes both have, of the ratio of medians; else infinite."""
    own = {record.batch: record.p50_ms for record in other}
    logs = [math.log(own[record.batch] / record.p50_ms) for record in base if record.batch in own]
    return math.exp(sum(logs) / len(logs)) if logs else math.inf


# points; where the user sets no bar. Half a point is within the noise of 2,000 images: it threw out all fast methods once in a while.
USUAL_DROP = 1.0


def least_bound(trials: Sequence[Trial]) -> float:
    """The bar where the user sets none: the usual one, or what the best trial may lose where all may lose more. In points."""
    drops = [-100 * t.change.low for t in trials if t.verdict != "failed" and t.change is not None]
    return max(USUAL_DROP, min(drops, default=USUAL_DROP))


@dataclass(frozen=True)
class Verdicts:
    """Judges trials against the float model's latencies ``base`` and the bound ``max_drop`` in percentage points."""

    base: tuple[Latency, ...]
    max_drop: float

    @property
    def bar(self) -> str:
        return f"{self.max_drop:.3g}"

    def within(self, trial: Trial) -> bool:
        """Whether the whole interval of its loss stays within the bound: a small sample proves nothing."""
        return trial.change is not None and -100 * trial.change.low <= self.max_drop + 1e-9

    def undecided(self, trial: Trial) -> bool:
        """Whether the bound lies between its loss and the end of the interval: more images may prove that it is within."""
        return trial.change is not None and not self.within(trial) and -100 * trial.change.delta <= self.max_drop

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The fastest trial within the bound; of those as fast, the one with the most precise logits. None when none qualifies."""
        able = [t for t in trials if t.verdict != "failed" and self.within(t)]
        if not able:
            return None
        limit = min(self._ratio(t) for t in able) * SAME_SPEED
        return max((t for t in able if self._ratio(t) <= limit), key=_precision)

    def judge(self, trial: Trial, best: Trial | None, file: str) -> Trial:
        """``trial`` with its verdict and reason; the chosen one also with its ``file``."""
        if trial.verdict == "failed":
            return trial
        note = f"; {trial.reason}" if trial.reason else ""
        if best is not None and trial.method == best.method:
            return replace(trial, verdict="chosen", file=file, reason=f"{self._speed(trial)}; {_accuracy(trial)}{note}")
        late = best is not None and self._ratio(trial) > self._ratio(best) * SAME_SPEED
        if not self.within(trial) and not (late and self.undecided(trial)):
            why = f"{_accuracy(trial)}, the limit is {self.bar} points"
            if self.undecided(trial):
                return replace(trial, verdict="not proved", reason=f"{why}: more images might prove that it is within{note}")
            return replace(trial, verdict="too inaccurate", reason=f"{why}{note}")
        assert best is not None
        if not late and _precision(trial) <= _precision(best):
            why = f"as fast as {best.method} within the noise of timing, but its logits are less precise ({_db(trial)} against {_db(best)})"
        else:
            why = f"{self._speed(trial)}, {best.method} takes {self._ratio(best):.2f}"
        if trial.method in METHODS and METHODS[trial.method].size_only:
            return replace(trial, verdict="size only", reason=f"saves bytes, the runtime computes in float: {why}{note}")
        return replace(trial, verdict="slower", reason=f"{why}{_left_in_float(trial)}{note}")

    def summary(self, best: Trial | None, trials: Sequence[Trial]) -> str:
        """The choice in one sentence."""
        tried = [t for t in trials if t.verdict != "failed"]
        if best is None:
            nearest = max(tried, key=lambda t: t.change.low if t.change else -math.inf)
            count = f"of {len(tried)} methods is" if len(tried) > 1 else "method is"
            return (
                f"no{'ne' if len(tried) > 1 else ''} {count} sure to stay within {self.bar} points; the nearest, {nearest.method}, "
                f"{_accuracy(nearest)}: raise max_drop, or give more images."
            )
        able = sum(self.within(t) for t in tried)
        ratio = self._ratio(best)
        slow = " It is slower than the float file on this machine: only the size is gained." if ratio > 1 else ""
        which = f"the fastest of {able} methods" if able > 1 else "the only method"
        return f"{best.method} is {which} within {self.bar} points ({len(trials)} tried): {self._speed(best)}; {_accuracy(best)}.{slow}"

    def _speed(self, trial: Trial) -> str:
        base = {record.batch: record.p50_ms for record in self.base}
        parts = [f"{r.p50_ms:.3g} ms at batch {r.batch} (float {base[r.batch]:.3g})" for r in trial.latencies if r.batch in base]
        return f"{', '.join(parts)}: {self._ratio(trial):.2f} of the float time"

    def _ratio(self, trial: Trial) -> float:
        return speed_ratio(self.base, trial.latencies)


def _accuracy(trial: Trial) -> str:
    change = trial.change
    assert change is not None
    word = "loses" if change.delta < 0 else "gains" if change.delta > 0 else "changes by"
    interval = f"95 % interval {100 * change.low:+.2f} to {100 * change.high:+.2f}, {change.n} images"
    return f"{word} {abs(100 * change.delta):.2f} points ({interval})"


def _precision(trial: Trial) -> float:
    return -math.inf if trial.sqnr_db is None else trial.sqnr_db


def _left_in_float(trial: Trial) -> str:
    """A clause on layers that ONNX Runtime runs in float although the file has them quantized."""
    left = len(trial.left_float)
    total = left + sum(trial.nodes.get(kind, 0) for kind in INTEGER_LAYERS)
    return f": ONNX Runtime runs {left} of its {total} layers in float" if left > 1 else ""


def _db(trial: Trial) -> str:
    return f"{trial.sqnr_db:.1f} dB" if trial.sqnr_db is not None else "?"
