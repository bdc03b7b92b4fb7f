"""The tables about activation functions, as Markdown, from the files in ``benchmarks/results``; written into the docs by ``tables.py``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def texts() -> dict[str, str]:
    """Block name -> text, for the results that are there."""
    found = {}
    speed = RESULTS / "activations.json"
    if speed.is_file():
        found["activation_speed"] = activation_speed(json.loads(speed.read_text(encoding="utf-8")))
    return found


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
