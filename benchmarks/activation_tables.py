"""The tables about activation functions, as Markdown, from the files in ``benchmarks/results``; written into the docs by ``tables.py``."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from gleanet.core.stats import Interval, mean_interval

RESULTS = Path(__file__).parent / "results"
BASE, CLAIM = "mish", 2.51
ORDER = {
    "mish": "Mish",
    "beamish(alpha=1,beta=1.5)": "Bea-Mish, alpha 1, beta 1.5",
    "beamish-normalized(beta=2)": "Bea-Mish, area of Mish, beta 2",
    "beamish-learnable": "Bea-Mish, learnable for each layer",
    "silu": "Swish (SiLU)",
    "relu": "ReLU",
}
Row = dict[str, Any]


def texts() -> dict[str, str]:
    """Block name -> text, for the results that are there."""
    found = {}
    speed = RESULTS / "activations.json"
    if speed.is_file():
        found["activation_speed"] = activation_speed(json.loads(speed.read_text(encoding="utf-8")))
    exported = RESULTS / "activation_export.json"
    if exported.is_file():
        found["activation_export"] = activation_export(json.loads(exported.read_text(encoding="utf-8")))
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((RESULTS / "beamish").glob("*.json"))]
    for network in dict.fromkeys(run["settings"]["network"] for run in runs):
        found[f"beamish_{network}"] = beamish([run for run in runs if run["settings"]["network"] == network])
    return found


def beamish(runs: list[Row]) -> str:
    """Accuracy of each activation over its seeds, and the paired difference to Mish, with the verdict on the paper's claim."""
    by_name: dict[str, dict[int, Row]] = {}
    for run in runs:
        by_name.setdefault(run["settings"]["activation"], {})[run["settings"]["seed"]] = run
    lines = [
        "| activation | accuracy (95 % interval) | seeds | difference to Mish (95 % interval) | one training |",
        "| --- |" + " --- |" * 4,
    ]
    verdicts = []
    for name, all_seeds in sorted(by_name.items(), key=lambda item: list(ORDER).index(item[0])):
        seeds = {seed: run for seed, run in all_seeds.items() if not run["trouble"]}
        failed = len(all_seeds) - len(seeds)
        mish = {seed: run for seed, run in by_name.get(BASE, {}).items() if not run["trouble"]}
        pairs = [seeds[seed]["accuracy"] - mish[seed]["accuracy"] for seed in sorted(seeds.keys() & mish.keys())]
        difference = mean_interval(pairs) if pairs and name != BASE else None
        lines.append(
            f"| {ORDER[name]} | {_percent(mean_interval([run['accuracy'] for run in seeds.values()])) if seeds else '–'} | "
            f"{len(seeds)}{f', {failed} diverged' if failed else ''} | {'baseline' if name == BASE else _points(difference)} | "
            f"{median(run['seconds'] for run in all_seeds.values()) / 60:.1f} min |"
        )
        if difference is not None and name.startswith("beamish"):
            verdicts.append(f"{ORDER[name]}: {verdict(difference)}")
    one = runs[0]
    recipe, data = one["recipe"], one["data"]
    rates = ", ".join(f"{ORDER[name]} {next(iter(seeds.values()))['recipe']['lr']:g}" for name, seeds in by_name.items())
    gains = ", ".join(f"{ORDER[name]} {next(iter(seeds.values()))['settings']['gain']:.2f}" for name, seeds in by_name.items())
    text = "\n".join(lines) + (
        f"\n\n{one['settings']['network']}, {data['title']}, {data['trained_on']:,} training images, {data['test']:,} test images; "
        f"{recipe['epochs']:g} epochs, batch {recipe['batch_size']}, peak learning rate tuned alike for each activation ({rates}), weight "
        f"decay "
        f"{recipe['weight_decay']:g}. Intervals are Student's, over seeds; differences are paired by seed: the same images in the same "
        f"order, the same draws of the initial weights. The time is that of a machine that does other things too. "
        f"Weights start with the gain of their activation ({gains}). {one['machine']['cpu']}, torch {one['versions']['torch']}."
    )
    if not verdicts or not one["settings"]["network"].startswith("squeezenet"):
        return text
    return text + (
        f"\n\nThe paper's claim, {CLAIM:g} points over Mish with a SqueezeNet backbone on CIFAR-10, after so few epochs, which show how "
        f"fast a network learns and not where it ends: {'; '.join(verdicts)}."
    )


def verdict(difference: Interval) -> str:
    """What an interval says of the claim."""
    if difference.low is None or difference.high is None:
        return "undecided, one seed"
    if 100 * difference.high < CLAIM:
        return (
            "refuted here, not even better"
            if difference.high < 0
            else "refuted here at that size" + (", but better" if difference.low > 0 else "")
        )
    return "confirmed here" if difference.low > 0 else "undecided"


def _percent(found: Interval) -> str:
    between = "" if found.low is None or found.high is None else f" ({100 * found.low:.2f} to {100 * found.high:.2f})"
    return f"{100 * found.mean:.2f} %{between}"


def _points(found: Interval | None) -> str:
    if found is None:
        return "–"
    between = "one seed" if found.low is None or found.high is None else f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    return f"{100 * found.mean:+.2f} points ({between})"


def activation_speed(found: Row) -> str:
    """How many times as fast as F.mish, by size, compiled and from torch operations."""
    sizes = list(found["ways"]["compiled"])
    lines = [
        "| activation | " + " | ".join(f"{int(size):,} numbers" for size in sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for way, by_size in found["ways"].items():
        for name in by_size[sizes[0]]:
            ours = name.startswith("Bea-Mish")
            if not ours and way != "compiled":
                continue
            cells = [f"{by_size[size][name]['over_mish']:.2f} ({by_size[size][name]['ns']:.2f} ns)" for size in sizes]
            lines.append(f"| {name}{f' ({way})' if ours else ''} | " + " | ".join(cells) + " |")
    settings, machine = found["settings"], found["machine"]
    return "\n".join(lines) + (
        f"\n\nForward and backward in float32, how many times as fast as `F.mish` (and nanoseconds a number): medians over rounds in which "
        f"all take turns, {settings['threads']} thread(s). Load of the machine before it started: {found['load_before'][0]:.1f} on "
        f"{machine['cores']} cores. {machine['cpu']}, torch {found['versions']['torch']}."
    )


EXPORTED = {
    "mish": "Mish",
    "beamish(alpha=1,beta=1.5)": "Bea-Mish, alpha 1, beta 1.5",
    "beamish(alpha=0.8,beta=1.3)": "Bea-Mish, alpha 0.8, beta 1.3",
}


def activation_export(found: Row) -> str:
    """Times of each exported form, alone and in a network, and how many times as fast as with Softplus and Tanh."""
    names, settings = list(found["alone"]), found["settings"]
    numbers = settings["numbers"]
    lines = [
        f"| one activation, {numbers:,} numbers | " + " | ".join(EXPORTED[name] for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for form in found["alone"][names[0]]:
        lines.append(f"| {form} | " + " | ".join(_timed(found["alone"][name][form]) for name in names) + " |")
    for batch in found["networks"][names[0]]["times"]:
        lines += [
            "",
            f"| ResNet-20, batch {batch} | " + " | ".join(EXPORTED[name] for name in names) + " |",
            "| --- |" + " --- |" * len(names),
        ]
        for form in found["networks"][names[0]]["times"][batch]:
            lines.append(f"| {form} | " + " | ".join(_timed(found["networks"][name]["times"][batch][form]) for name in names) + " |")
    precise = {form: [found["networks"][name]["sqnr_db"][form] for name in names] for form in found["networks"][names[0]]["sqnr_db"]}
    shown = "; ".join(f"{form} {min(values):.1f} to {max(values):.1f} dB" for form, values in precise.items())
    machine = found["machine"]
    return "\n".join(lines) + (
        f"\n\nMilliseconds a call, and in brackets how many times as fast as with Softplus and Tanh in the same round: medians over "
        f"{settings['rounds']} rounds (fewer at batch 64) in which all forms take turns, {settings['threads']} thread(s), "
        f"8 bits: {settings['method']}. Signal to quantization noise of the networks' logits: {shown}. Load of the machine before it "
        f"started: {found['load_before'][0]:.1f} on {machine['cores']} cores. {machine['cpu']}, onnxruntime "
        f"{found['versions']['onnxruntime']}."
    )


def _timed(cell: Row) -> str:
    return f"{cell['ms']:.3g} ms ({cell['speedup']:.1f})"
