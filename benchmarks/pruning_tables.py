"""The tables about pruning, as Markdown, from the result files in ``benchmarks/results``; written into the docs by ``tables.py``."""

import base64
import json
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.report import units

RESULTS = Path(__file__).parent / "results"
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # two-sided 95 % quantiles of Student's t by degrees of freedom
Row = dict[str, Any]


def texts() -> dict[str, str]:
    """Block name -> text, for the results that are there."""
    found = {}
    for part in ("resnet20", "resnet56", "original", "images", "steps", "digits"):
        file = RESULTS / "pruning_oneshot" / f"{part}.json"
        if file.is_file():
            found[f"oneshot_{part}"] = oneshot(json.loads(file.read_text(encoding="utf-8")))
    files = sorted((RESULTS / "pruning_latency").glob("*.json"))
    if files:
        results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        found["equal_latency"] = "\n\n".join(map(equal_latency, results))
        found["alignment"] = "\n\n".join(map(alignment, results))
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((RESULTS / "pruning_recovery").glob("*.json"))]
    if runs:
        found["recovery"] = recovery(runs)
    rates = RESULTS / "learning_rate.json"
    if rates.is_file():
        found["learning_rate"] = learning_rate(json.loads(rates.read_text(encoding="utf-8")))
    overhead = RESULTS / "fcr_overhead.json"
    if overhead.is_file():
        found["fcr_overhead"] = fcr_overhead(json.loads(overhead.read_text(encoding="utf-8")))
    return found


def oneshot_summary() -> str:
    """For the README: ours beside the best of Torch-Pruning's criteria at each budget, whichever that is."""
    found = json.loads((RESULTS / "pruning_oneshot" / "resnet20.json").read_text(encoding="utf-8"))
    rows, base = found["rows"], next(row for row in found["rows"] if row["method"] == "unpruned")
    budgets = sorted({row["macs_target"] for row in rows if "macs_target" in row}, reverse=True)
    lines = ["| kept | gleanet | best Torch-Pruning criterion | the same, batch-norm estimated anew |", "| --- | --- | --- | --- |"]
    for budget in budgets:
        at = [row for row in rows if row.get("macs_target") == budget]
        cells = [_accuracy(next(row for row in at if row["method"] == "ours"))]
        for again in (False, True):
            best = max((row for row in at if row.get("batch_norm") == again), key=lambda row: row["accuracy"])
            cells.append(f"{_accuracy(best)}, {best['method'].removeprefix('tp ')}")
        lines.append(f"| {budget:.0%} of the MACs | " + " | ".join(cells) + " |")
    return "\n".join(lines) + (
        f"\n\n{base['network']}, unpruned {_accuracy(base)}, {base['data']}, {base['n']:,} test images, {found['settings']['images']:,} "
        f"calibration images, seed {found['settings']['seed']}; Torch-Pruning {found['settings']['torch_pruning']}."
    )


def oneshot(found: Row) -> str:
    """One table a network: methods down, shares of the MACs across, as it is and with batch-norm statistics estimated anew."""
    rows, parts = found["rows"], []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        budgets = sorted({row["macs_target"] for row in own if "macs_target" in row}, reverse=True)
        base = next((row for row in own if row["method"] == "unpruned"), None)
        lines = [f"**{network}**" + (f", unpruned {_accuracy(base)}, {base['n']:,} images, {base['data']}" if base else ""), ""]
        lines.append("| method | " + " | ".join(f"{budget:.0%} of the MACs" for budget in budgets) + " |")
        lines.append("| --- |" + " --- |" * len(budgets))
        for method, again in dict.fromkeys((row["method"], row.get("batch_norm", False)) for row in own if "macs_target" in row):
            cells = []
            for budget in budgets:
                at = [r for r in own if r["method"] == method and r.get("macs_target") == budget and r.get("batch_norm", False) == again]
                cells.append(_accuracy(at[0]) if at else "")
            lines.append(f"| {method}{' + batch-norm' if again else ''} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    settings = found["settings"]
    parts.append(
        f"{settings['images']:,} calibration images where nothing else is said, widths in blocks of {settings['align']}, seed "
        f"{settings['seed']}; Torch-Pruning {settings['torch_pruning']} (tp). {_versions(found)}"
    )
    return "\n\n".join(parts)


def equal_latency(found: Row) -> str:
    settings = found["settings"]
    lines = [
        f"**{settings['network']}**, unpruned {_accuracy(found['base'])}",
        "",
        "| channels chosen | time aimed at | time measured | MACs | parameters | accuracy (95 % interval) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in found["equal_latency"]:
        lines.append(
            f"| {row['method']} | {row['target']:.0%} | {row['measured']:.1%} | {row['macs']:.1%} | {units.count(row['params'])} | "
            f"{_accuracy(row)} |"
        )
    return "\n".join(lines) + f"\n\nBatch {settings['batch']}, {settings['threads']} thread, blocks of 8. {_versions(found)}"


def alignment(found: Row) -> str:
    first = found["alignment"][0]["unpruned"]
    lines = [
        f"**{found['settings']['network']}**, 50 % of the MACs; unpruned {_accuracy(found['base'])}",
        "",
        "| blocks of | accuracy (95 % interval) | "
        + " | ".join(f"p50, batch {each['batch']}" for each in first)
        + " | of the unpruned time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found["alignment"]:
        ratios = [f"{t['p50_ms'] / b['p50_ms']:.2f}" for t, b in zip(row["latencies"], row["unpruned"], strict=True)]
        times = [units.milliseconds(each["p50_ms"]) for each in row["latencies"]]
        lines.append(f"| {row['align']} | {_accuracy(row)} | " + " | ".join(times) + f" | {', '.join(ratios)} |")
    repeats = min(each["repeats"] for row in found["alignment"] for each in row["latencies"])
    return "\n".join(lines) + f"\n\nFloat, one thread, medians of at least {repeats} calls in turns. {_versions(found)}"


def recovery(runs: list[Row]) -> str:
    """Accuracy by method over seeds, and what each lacks against the default of ``gn.FCR``, seed by seed."""
    by_method: dict[str, dict[int, Row]] = {}
    for run in runs:
        by_method.setdefault(run["method"], {})[run["settings"]["seed"]] = run
    ours = by_method.get("fcr", {})
    lines = [
        "| method | seeds | before recovery | accuracy | parameters | FCR minus this (95 % interval over seeds; on the images) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    order = sorted(by_method.items(), key=lambda item: -mean(run["accuracy"] for run in item[1].values()))
    for method, seeds in order:
        values = [run["accuracy"] for run in seeds.values()]
        start = [run["start"] for run in seeds.values() if run["start"] is not None]
        lines.append(
            f"| {method} | {len(seeds)} | {f'{100 * mean(start):.1f} %' if start else ''} | "
            f"{', '.join(f'{100 * v:.2f}' for v in values)} % (mean {100 * mean(values):.2f}) | "
            f"{units.count(next(iter(seeds.values()))['params'])} | {'' if method == 'fcr' else _difference(ours, seeds)} |"
        )
    one = runs[0]
    recipe, data = one["recipe"], one["data"]
    return "\n".join(lines) + (
        f"\n\n{one['settings']['network']} at {one['settings']['flops']:.0%} of the MACs, widths in blocks of {one['settings']['align']}, "
        f"{data['title']}, {data['test']:,} test images; {recipe['epochs']:g} epochs, batch {recipe['batch_size']}, peak learning rate "
        f"{recipe['lr']:g}, the unpruned network as teacher with weight {recipe['distill']:g}. {_versions(one)}"
    )


def _difference(ours: dict[int, Row], other: dict[int, Row]) -> str:
    """Mean over the seeds of both; intervals: of the mean over seeds (Student), and over images with the seeds averaged (normal)."""
    seeds = sorted(ours.keys() & other.keys())
    if not seeds:
        return ""
    each = np.stack([_hits(ours[s]).astype(float) - _hits(other[s]).astype(float) for s in seeds])
    by_seed = each.mean(1)
    middle = f"{100 * by_seed.mean():+.2f}"
    over = "one seed"
    if len(seeds) > 1:
        half = T95[len(seeds) - 1] * stdev(by_seed.tolist()) / sqrt(len(seeds))
        over = f"{100 * (by_seed.mean() - half):+.2f} to {100 * (by_seed.mean() + half):+.2f}"
    by_image = each.mean(0)
    half = 1.96 * float(by_image.std(ddof=1)) / sqrt(len(by_image))
    return f"{middle} ({over}; {100 * (by_image.mean() - half):+.2f} to {100 * (by_image.mean() + half):+.2f})"


def _hits(run: Row) -> NDArray[np.bool_]:
    packed = np.frombuffer(base64.b64decode(run["hits"]), dtype=np.uint8)
    return np.unpackbits(packed)[: run["data"]["test"]].astype(bool)


def learning_rate(found: Row) -> str:
    """Accuracy by peak learning rate, and the rates that the range test finds."""
    settings, data, starts = found["settings"], found["data"], found["starts"]
    rates = list(next(iter(starts.values()))["accuracy"])
    lines = [f"| recovered from | {' | '.join(rates)} | the range test finds (3 seeds) |", "| --- |" + " --- |" * (len(rates) + 1)]
    for name, part in starts.items():
        teacher = f"as teacher with weight {part['distill']:g}" if part["distill"] else "no teacher"
        cells = [f"{100 * part['accuracy'][rate]:.1f} %" for rate in rates]
        found_rates = ", ".join(f"{rate:g}" for rate in part["range_test"].values())
        lines.append(f"| {name}, {teacher} | {' | '.join(cells)} | {found_rates} |")
    return "\n".join(lines) + (
        f"\n\n{settings['network']} at {settings['flops']:.0%} of the MACs, {data['title']}, {data['test']:,} test images, of which "
        f"differences below about half a point say nothing; epochs: {settings['epochs']:g}; batch 128, seed {settings['seed']}. "
        f"{_versions(found)}"
    )


def fcr_overhead(found: Row) -> str:
    lines = ["| FCR | time of a step, with it to without (median of rounds, lowest to highest) |", "| --- | --- |"]
    for name, ratio in found["ratios"].items():
        lines.append(f"| {name} | {ratio['median']:.3f} ({ratio['lowest']:.3f} to {ratio['highest']:.3f}) |")
    settings = found["settings"]
    steps = found["event_seconds"] / found["step_seconds"]
    return "\n".join(lines) + (
        f"\n\n{settings['network']}, batch {settings['batch']}, {settings['threads']} thread(s), {settings['rounds']} interleaved rounds "
        f"of {settings['steps']} steps. The one event of features (plan and refit on {settings['images']} images) takes "
        f"{found['event_seconds']:.1f} s, as long as {steps:.0f} steps. {_versions(found)}"
    )


def _accuracy(row: Row) -> str:
    return f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _versions(found: Row) -> str:
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("torch", "onnxruntime") if name in found["versions"])
    return f"{found['machine']['cpu']}, {found['machine']['cores']} cores; {versions}."
