"""How a claim of a paper is judged from result files: one function a kind of rule, result files -> verdict."""

import base64
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pruning_tables import T95
from quantization_tables import FASTER

from gleanet.core.records import Accuracy
from gleanet.core.stats import Z95, wilson
from gleanet.papers import Verdict
from gleanet.papers.entries import Outcome

SAME_DB = 0.1  # two signals to noise this near are the same
Files = dict[str, Any]
Row = dict[str, Any]


class Missing(Exception):
    """The files do not hold what the rule reads."""


def files_of(pattern: str, results: Path) -> list[Path]:
    """Files below ``results`` that a claim's pattern names: a glob in which ``{a,b}`` stands for a and for b."""
    braces = re.search(r"\{([^}]*)\}", pattern)
    if braces is None:
        return sorted(results.glob(pattern))
    each = (files_of(pattern[: braces.start()] + choice + pattern[braces.end() :], results) for choice in braces[1].split(","))
    return [path for paths in each for path in paths]


def recovery(files: Files, new: str, old: str, expect: str) -> Verdict:
    """Two methods after equal training, paired by seed and image; the wider of the intervals over seeds and over images."""
    runs = {method: {run["settings"]["seed"]: run for run in files.values() if run["method"] == method} for method in (new, old)}
    seeds = sorted(runs[new].keys() & runs[old].keys())
    if not seeds:
        raise Missing(f"no seed has results of both {new} and {old}")
    each = np.stack([_hits(runs[new][seed]) - _hits(runs[old][seed]) for seed in seeds])
    delta, images = float(each.mean()), each.mean(0)
    half = Z95 * float(images.std(ddof=1)) / sqrt(len(images))
    over = f"95 % over {len(images):,} images"
    if len(seeds) > 1:
        half = max(half, _half(each.mean(1).tolist()))
        over = f"95 %, the wider of over {len(seeds)} seeds and over {len(images):,} images"
    first = runs[new][seeds[0]]
    what = f"{new} minus {old}, {first['settings']['network']}, {first['data']['title']}, {first['recipe']['epochs']:g} epochs of recovery"
    outcome = _difference(delta - half, delta + half, expect)
    if len(seeds) == 1:
        return _points("undecided", f"{what}: one seed says nothing about the spread of training", delta, delta - half, delta + half, over)
    return _points(outcome, what, delta, delta - half, delta + half, over)


def oneshot(files: Files, network: str, macs: float, new: str, old: str, expect: str, old_batch_norm: bool = False) -> Verdict:
    """Two methods without training at one share of the MACs (or against the unpruned network)."""
    rows = [row for found in files.values() for row in found["rows"] if row["network"] == network]

    def row(method: str, again: bool) -> Row:
        for each in rows:
            if each["method"] == method and each.get("macs_target", macs) == macs and each.get("batch_norm", False) == again:
                return dict(each)
        raise Missing(f"no row of {method} at {macs:.0%} of the MACs of {network}")

    one, two = row(new, False), row(old, old_batch_norm)
    again = ", batch-norm estimated anew" if old_batch_norm else ""
    what = f"{new} ({100 * one['accuracy']:.1f} %) minus {old}{again} ({100 * two['accuracy']:.1f} %), {network}, {one['data']}"
    return _unpaired(_accuracy(one), _accuracy(two), what, expect)


def runs(files: Files, new: str, old: str, role: str, expect: str) -> Verdict:
    """One row of two runs of the main job."""
    found = []
    for name in (new, old):
        if name not in files:
            raise Missing(f"there is no result file {name} yet")
        found += [(name, Accuracy(**row["measured"]["accuracy"])) for row in files[name]["rows"] if row["role"] == role]
    (_, one), (_, two) = found
    what = f"{role}: {Path(new).stem} ({100 * one.value:.1f} %) minus {Path(old).stem} ({100 * two.value:.1f} %)"
    return _unpaired(one, two, what, expect)


def change(files: Files, rows: str, within: float) -> Verdict:
    """Change of accuracy by quantization: every interval within plus or minus ``within`` points, or one beyond it, or neither."""
    found = [(each["change"], f"{each['name']}, {network}") for network, each in _measured(files, rows)]
    worst, name = min(found, key=lambda pair: pair[0]["low"])
    bound = within / 100
    outcome: Outcome = "undecided"
    if all(-bound <= each["low"] and each["high"] <= bound for each, _ in found):
        outcome = "confirmed"
    elif any(each["high"] < -bound or each["low"] > bound for each, _ in found):
        outcome = "refuted"
    why = f"worst of {len(found)}: {name}; the bar is {within:g} point{'' if within == 1 else 's'} either way"
    return _points(outcome, why, worst["delta"], worst["low"], worst["high"], f"95 % over {worst['n']:,} images, paired")


def size(files: Files, rows: str, at_least: float) -> Verdict:
    """How many times smaller than float the files are."""
    floats = {network: row["bytes"] for network, row in _measured(files, "float")}
    found = [(floats[network] / each["bytes"], f"{each['name']}, {network}") for network, each in _measured(files, rows)]
    outcome: Outcome = "confirmed" if min(found)[0] >= at_least else "refuted" if max(found)[0] < at_least else "undecided"
    return _times(outcome, "float file over quantized file", found, at_least)


def speed(files: Files, rows: str, at_least: float) -> Verdict:
    """How many times faster than float, at each batch size; ratios within the timing's noise of the bar decide nothing."""
    floats = {network: row["latencies"] for network, row in _measured(files, "float")}
    found = [
        (was["p50_ms"] / now["p50_ms"], f"{each['name']}, {network}, batch {now['batch']}")
        for network, each in _measured(files, rows)
        for was, now in zip(floats[network], each["latencies"], strict=True)
    ]
    outcome: Outcome = "undecided"
    if min(found)[0] > at_least * FASTER:
        outcome = "confirmed"
    elif max(found)[0] < at_least / FASTER:
        outcome = "refuted"
    cpu = next(iter(files.values()))["parts"]["measure"]["machine"]["cpu"]
    return _times(outcome, f"median time of float over quantized, ONNX Runtime on {cpu}", found, at_least)


def sqnr(files: Files, new: str, old: str) -> Verdict:
    """Signal to quantization noise of two calibrations, network by network: a sign that all share, beyond 0.1 dB."""
    rows = [row for found in files.values() for row in found["rows"]]
    values = {(row["network"], row["range"]): row["sqnr_db"] for row in rows}
    networks = list(dict.fromkeys(row["network"] for row in rows))
    found = [values[network, new] - values[network, old] for network in networks if {(network, new), (network, old)} <= values.keys()]
    if not found:
        raise Missing(f"no network has both {new} and {old}")
    outcome: Outcome = "confirmed" if min(found) > SAME_DB else "refuted" if max(found) < -SAME_DB else "undecided"
    why = f"{new} minus {old}, mean of {', '.join(networks)}"
    return Verdict(outcome, why, round(mean(found), 2), round(min(found), 2), round(max(found), 2), "dB", "range over the networks")


def activations(files: Files, new: str, old: str, expect: str) -> Verdict:
    """Accuracy with two activations, paired by seed."""
    by_seed = {(run["settings"]["activation"], run["settings"]["seed"]): run["accuracy"] for run in files.values() if not run["trouble"]}
    found = [value - by_seed[old, seed] for (name, seed), value in by_seed.items() if name == new and (old, seed) in by_seed]
    if not found:
        raise Missing(f"no seed has both {new} and {old}")
    delta = mean(found)
    if len(found) == 1:
        return _points("undecided", f"{new} minus {old}: one seed says nothing about the spread of training", delta, None, None, "")
    half = _half(found)
    outcome = _difference(delta - half, delta + half, expect)
    return _points(outcome, f"{new} minus {old}", delta, delta - half, delta + half, f"95 % over {len(found)} seeds")


def concluded(files: Files, number: int, about: str) -> Verdict:
    """What the comparison of frameworks itself concluded about one of the paper's sentences, which starts with ``about``."""
    found = [dict(result.get("results", {})).get("conclusions", ()) for result in files.values()]
    if not found or number >= len(found[0]) or not str(found[0][number]["claim"]).startswith(about):
        raise Missing(f"there is no conclusion about {about!r}")
    outcomes: dict[str, Outcome] = {"confirmed": "confirmed", "refuted": "refuted"}
    one = found[0][number]
    return Verdict(outcomes.get(str(one["verdict"]), "undecided"), str(one["evidence"]))


RULES: dict[str, Callable[..., Verdict]] = {
    "recovery": recovery,
    "oneshot": oneshot,
    "runs": runs,
    "change": change,
    "size": size,
    "speed": speed,
    "sqnr": sqnr,
    "activations": activations,
    "concluded": concluded,
}


def _half(values: list[float]) -> float:
    """Half of Student's 95 % interval of the mean of at least two values; beyond the table, that of its last row, which is wider."""
    return T95[min(len(values) - 1, max(T95))] * stdev(values) / sqrt(len(values))


def _difference(low: float, high: float, expect: str) -> Outcome:
    """An interval beside 0 decides, in the expected direction or against it."""
    if low <= 0 <= high:
        return "undecided"
    return "confirmed" if (low > 0) == (expect == "higher") else "refuted"


def _unpaired(one: Accuracy, two: Accuracy, what: str, expect: str) -> Verdict:
    """Difference of two accuracies whose answers were not kept: Newcombe's interval from two Wilson intervals, as if the images were
    others. It is wider than pairing would make it."""
    delta = one.value - two.value
    low = delta - sqrt((one.value - one.low) ** 2 + (two.high - two.value) ** 2)
    high = delta + sqrt((one.high - one.value) ** 2 + (two.value - two.low) ** 2)
    return _points(_difference(low, high, expect), what, delta, low, high, f"95 % over {one.n:,} images, not paired")


def _points(outcome: Outcome, why: str, delta: float, low: float | None, high: float | None, interval: str) -> Verdict:
    """Fractions in, points out, to the hundredth: the resolution of 10,000 images."""
    middle, bottom, top = (None if each is None else round(100 * each, 2) for each in (delta, low, high))
    return Verdict(outcome, why, middle, bottom, top, "points", interval)


def _times(outcome: Outcome, what: str, found: list[tuple[float, str]], at_least: float) -> Verdict:
    (lowest, name), highest = min(found), max(found)[0]
    why = f"{what}; lowest of {len(found)}: {name}; the bar is {at_least:g}"
    return Verdict(outcome, why, round(lowest, 2), round(lowest, 2), round(highest, 2), "times", f"range over {len(found)} cases")


def _measured(files: Files, rows: str) -> Iterator[tuple[str, Row]]:
    """(network, row) of the measured files whose name fits the pattern."""
    found = [
        (str(result["settings"]["network"]), dict(row))
        for result in files.values()
        for row in result["parts"].get("measure", {}).get("rows", ())
        if fnmatch(row["name"], rows)
    ]
    if not found:
        raise Missing(f"no measured file is called {rows}")
    yield from found


def _accuracy(row: Row) -> Accuracy:
    return wilson(round(row["accuracy"] * row["n"]), row["n"])


def _hits(run: Row) -> NDArray[np.float64]:
    packed = np.frombuffer(base64.b64decode(run["hits"]), dtype=np.uint8)
    return np.unpackbits(packed)[: run["data"]["test"]].astype(np.float64)
