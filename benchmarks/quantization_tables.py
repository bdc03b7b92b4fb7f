"""The tables about quantization, as Markdown, from ``benchmarks/results/quantization``; written into the docs by ``tables.py``."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gleanet.core.records import Accuracy, Change
from gleanet.report import units

RESULTS = Path(__file__).parent / "results" / "quantization"
PERCENTILE = Path(__file__).parent / "results" / "percentile.json"
REPAIR = Path(__file__).parent / "results" / "quantization_repair.json"
FASTER = 1.02  # two times within 2 % are the same for all the timing can tell
Row = dict[str, Any]


def texts() -> dict[str, str]:
    """Block name -> text, for the results that are there."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    makers: dict[str, tuple[str, Callable[[Row], str]]] = {
        "quantization_rivals": ("measure", rivals),
        "quantization_openvino": ("measure", openvino),
        "quantization_olive": ("olive", olive),
        "quantization_grid": ("grid", grid),
        "quantization_chain": ("chain", chain),
        "quantization_layers": ("chain", layers),
    }
    alone = {name: make(json.loads(file.read_text(encoding="utf-8"))) for name, (file, make) in ALONE.items() if file.is_file()}
    return alone | {
        name: "\n\n".join(f"**{result['settings']['network']}**\n\n{make(result)}" for result in found if part in result["parts"])
        for name, (part, make) in makers.items()
        if any(part in result["parts"] for result in found)
    }


def percentile(result: Row) -> str:
    """SQNR by range, a column a network."""
    networks = list(dict.fromkeys(row["network"] for row in result["rows"]))
    found = {(row["network"], row["range"]): row["sqnr_db"] for row in result["rows"]}
    lines = [f"| range | {' | '.join(networks)} |", "| --- |" + " --- |" * len(networks)]
    for name in dict.fromkeys(row["range"] for row in result["rows"]):
        lines.append(f"| {name} | " + " | ".join(f"{found[network, name]:.1f} dB" for network in networks) + " |")
    settings, versions = result["settings"], result["versions"]
    return "\n".join(lines) + (
        f"\n\n{settings['method']}, {settings['calibration']} training images calibrate, {settings['selection']:,} others are compared, "
        f"seed {settings['seed']}. {result['machine']['cpu']}, onnxruntime {versions['onnxruntime']}."
    )


def repaired(result: Row) -> str:
    """What each step gained, and what it costs in time against the float file; then the seconds for the sensitivity."""
    lines = ["| network | method | with | SQNR | against float (95 % interval) | on disk | layers in float | time of float, batch 1 / 64 |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in result["rows"]:
        ratios = " / ".join(f"{a['p50_ms'] / b['p50_ms']:.2f}" for a, b in zip(row["latencies"], row["float_latencies"], strict=True))
        lines.append(
            f"| {row['network']} | {row['method']} | {row['step']} | {row['sqnr_db']:.1f} dB | {units.change(Change(**row['change']))} | "
            f"{units.size(row['bytes'])} | {len(row['layers'])} | {ratios} |"
        )
    ranked = "; ".join(
        f"{each['network']} {each['layers']} layers in {each['seconds']:.0f} s, the most sensitive are "
        + ", ".join(one["layer"] for one in each["first"])
        for each in result["sensitivity"]
    )
    settings = result["settings"]
    return "\n".join(lines) + (
        f"\n\nEach step on top of the ones before. Layers are put in float until the logits reach {settings['need_db']:g} dB on "
        f"{settings['selection']:,} training images. Sensitivity ({settings['samples']} images): {ranked}. Accuracy: 10,000 test images, "
        f"CIFAR-10 (JPEG q75), seed {settings['seed']}; one thread, medians of interleaved calls; {result['machine']['cpu']}."
    )


def rivals(result: Row) -> str:
    """Every ONNX file in ONNX Runtime: what it costs and brings against float, and how our choice stands to it."""
    part = result["parts"]["measure"]
    seconds = _seconds(result)
    notes = "".join(f" {name}: {error}." for name, error in part["errors"].items())
    return f"{_table(part['rows'], seconds)}\n\n{_ahead(part['rows'])}{notes} {_under(result, part)}"


def openvino(result: Row) -> str:
    """The same for files that OpenVINO runs, with ONNX Runtime's float and our choice in turns with them."""
    part = result["parts"]["measure"]
    found = part["openvino"]
    if not found:
        return "not measured"
    names = {"float": "float, ONNX Runtime", "ours": "ours, ONNX Runtime"}
    rows = [{**row, "label": names.get(row["name"], row["name"])} for row in found["rows"] if not row["error"]]
    precision = {row["name"]: re.sub(r"[^a-z0-9]+|type", "", row["settings"]["precision"].lower()) for row in rows if row.get("settings")}
    kinds = ", ".join(f"{name} {kind}" for name, kind in precision.items())
    failed = "".join(f" {row['name']}: {row['error']}." for row in found["rows"] if row["error"])
    note = f"{failed} {_under(result, part)}"
    return f"{_table(rows, _seconds(result))}\n\n{_ahead(rows)} Type of the layers that are not in 8 bits: {kinds}.{note}"


def olive(result: Row) -> str:
    """Our choice and Olive's: seconds, and what each chose, judged on the images both chose by and on the test images."""
    parts = result["parts"]
    ours, theirs = parts["ours"], parts["olive"]
    tried = [point for point in theirs["points"] if point["metrics"] and point["pass"]]
    chosen: Row = next((point["pass"] for point in theirs["points"] if theirs["chosen"] and point["id"] == theirs["chosen"]["id"]), {})
    words = ", ".join(str(value) for value in chosen.values() if isinstance(value, str))
    flags = ", ".join(name.replace("_", " ") for name, value in chosen.items() if value is True)
    measured = {row["name"]: row for row in parts.get("measure", {}).get("rows", ())}
    own, other = units.duration(ours["seconds"]), units.duration(theirs["seconds"])
    lines = [
        "| | candidates | time of the search | chosen | accuracy (95 % interval) | p50, batch 1 | p50, batch 64 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| gleanet, `auto` | {len(ours['trials'])} | {own} | {ours['method']} | {_judged(measured.get('ours'))} |",
        f"| Olive, default space | {len(tried)} | {other} | {words}; {flags} | {_judged(measured.get('olive'))} |",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in theirs["versions"].items())
    return "\n".join(lines) + (
        f"\n\nBoth: {result['settings']['calibration']} images to calibrate, {result['settings']['selection']:,} to choose by, limit of "
        f"the loss {result['settings']['max_drop']:g} (percentage points). {versions}. {_under(result, theirs)}"
    )


def grid(result: Row) -> str:
    """Seconds for the same list of files, round by round."""
    part = result["parts"]["grid"]
    lines = ["| round | gleanet | `quantize_static`, one after another | ratio |", "| --- | --- | --- | --- |"]
    for number, each in enumerate(part["rounds"], 1):
        lines.append(
            f"| {number} | {each['ours']:.2f} s | {each['quantize_static']:.2f} s | {units.times(each['quantize_static'] / each['ours'])} |"
        )
    slowest = max(part["rounds"][0]["calls"], key=lambda call: call["seconds"])
    failed = [call["name"] for call in part["rounds"][0]["calls"] if call["error"]]
    peak = max(call["peak_bytes"] for call in part["rounds"][0]["calls"])
    without = f"; it failed at {', '.join(failed)}" if failed else ""
    return "\n".join(lines) + (
        f"\n\n{len(part['cases'])} files, {part['images']} images; theirs with its pre-processing, once; its slowest call is "
        f"{slowest['name']} ({slowest['seconds']:.1f} s), its peak memory {peak / 1e9:.1f} GB{without}. "
        f"{_under(result, part)}"
    )


def chain(result: Row) -> str:
    """What ``gleanet shrink`` made, step by step, and the time of each step relative to the network as given."""
    part = result["parts"]["chain"]
    base = part["latencies"]["base.onnx"]
    heads = [f"batch {each['batch']}" for each in base]
    lines = ["| step | MACs | on disk | accuracy (95 % interval) | " + " | ".join(f"p50, {head} | speed-up" for head in heads) + " |"]
    lines.append("| --- | --- | --- | --- |" + " --- | --- |" * len(base))
    files = {"given": "base.onnx", "one-shot": "model.onnx", "recovered": "model.onnx", "quantized": "model.int8.onnx"}
    for row in part["rows"]:
        times = part["latencies"].get(files.get(row["role"], ""), ())
        measured = row["measured"]
        cells = [
            f"{units.milliseconds(t['p50_ms'])} | {units.times(b['p50_ms'] / t['p50_ms'])}" for t, b in zip(times, base, strict=bool(times))
        ]
        accuracy = units.accuracy(Accuracy(**measured["accuracy"]))
        lines.append(
            f"| {row['label']} | {units.count(measured['macs'])} | {units.size(measured['bytes'])} | {accuracy} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + f"\n\nThe whole command took {units.duration(part['seconds'])}. {_under(result, part)}"


def layers(result: Row) -> str:
    """Shares of the time of the last file by kind of operator, and block by block against the float network as given."""
    profiles = result["parts"]["chain"]["profiles"]
    last = "model.int8.onnx" if "model.int8.onnx" in profiles else "model.onnx"
    lines = ["| operator, quantized | " + " | ".join(f"share, batch {each['batch']}" for each in profiles[last]) + " |"]
    lines.append("| --- |" + " --- |" * len(profiles[last]))
    for kind in dict.fromkeys(kind for each in profiles[last] for kind in each["kinds"]):
        shares = [each["kinds"].get(kind, 0.0) / sum(each["kinds"].values()) for each in profiles[last]]
        if max(shares) >= 0.005:
            lines.append(f"| {kind} | " + " | ".join(units.percent(share) for share in shares) + " |")
    before, after = [[_blocks(each["nodes"]) for each in profiles[name]] for name in ("base.onnx", last)]
    lines += ["", "| block | " + " | ".join(f"batch {e['batch']}: float | now | speed-up | share" for e in profiles[last]) + " |"]
    lines.append("| --- |" + " --- | --- | --- | --- |" * len(profiles[last]))
    for block in dict.fromkeys(name for blocks in (*after, *before) for name in blocks):
        cells = []
        for was, now in zip(before, after, strict=True):
            a, b = was.get(block, 0.0), now.get(block, 0.0)
            ratio = units.times(a / b) if a and b else units.NONE
            cells.append(f"{a:.0f} µs | {b:.0f} µs | {ratio} | {units.percent(b / sum(now.values()))}")
        lines.append(f"| {block} | " + " | ".join(cells) + " |")
    outside = ", ".join(
        f"{each['call_us'] - sum(n['us'] for n in each['nodes']):.0f} µs at batch {each['batch']}" for each in profiles[last]
    )
    return (
        "\n".join(lines) + f"\n\nONNX Runtime's profiler, medians; outside of the operators, the profiler's own cost included: {outside}."
    )


def _blocks(nodes: list[Row]) -> dict[str, float]:
    """Microseconds by block of the network: nodes are named by the layer they came from, those that the runtime adds by their kind."""
    found: dict[str, float] = defaultdict(float)
    for node in nodes:
        name = re.sub(r"_(token|nchwc|\d)+.*$", "", node["name"])
        name = {"act": "conv1"}.get(name, name)  # a fused node has the name of its last part
        parts = name.split(".")
        own = len(parts) > 1 or name in ("conv1", "linear", "pool", "flatten")
        found[".".join(parts[: 2 if len(parts) > 2 else 1]) if own else "layout and types"] += node["us"]
    return found


def _table(rows: list[Row], seconds: dict[str, float]) -> str:
    base = rows[0]
    heads = [f"p50, batch {each['batch']} | speed-up" for each in base["latencies"]]
    lines = [f"| file | made in | on disk | accuracy (95 % interval) | change | agreement | ours against it | {' | '.join(heads)} |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |" + " --- | --- |" * len(heads))
    for row in rows:
        times = [
            f"{units.milliseconds(t['p50_ms'])} | {units.times(b['p50_ms'] / t['p50_ms'])}"
            for t, b in zip(row["latencies"], base["latencies"], strict=True)
        ]
        against = row.get("against_ours")
        mirrored = {**against, "delta": -against["delta"], "low": -against["high"], "high": -against["low"]} if against else None
        cells = [
            str(row.get("label", row["name"])),
            f"{seconds[row['name']]:.1f} s" if row["name"] in seconds else "",
            f"{units.size(row['bytes'])} ({units.percent(row['bytes'] / base['bytes'])})",
            units.accuracy(Accuracy(**row["accuracy"])),
            _points(row["change"]) if "change" in row else "",
            f"{100 * row['agreement']:.2f} %" if "agreement" in row else "",
            _points(mirrored) if mirrored else "",
        ]
        lines.append(f"| {' | '.join(cells)} | {' | '.join(times)} |")
    return "\n".join(lines)


def _ahead(rows: list[Row]) -> str:
    """Who beats our choice in both: more of the test images right, and faster by more than the noise, at one batch size."""
    ours = next(each for each in rows if each["name"] == "ours")
    theirs = [row for row in rows if "against_ours" in row and row["name"] != "openvino-ours"]
    better = [row for row in theirs if row["against_ours"]["delta"] > 0]
    words = []
    for index, mine in enumerate(ours["latencies"]):
        both = [row["name"] for row in better if mine["p50_ms"] > FASTER * row["latencies"][index]["p50_ms"]]
        words.append(f"{', '.join(both) or 'none'} at batch {mine['batch']}")
    return f"More images right than gleanet's choice and faster too (by over 2 %): {'; '.join(words)}."


def _seconds(result: Row) -> dict[str, float]:
    parts = result["parts"]
    rows = [row for name in ("ort", "nncf") for row in parts.get(name, {}).get("rows", ())]
    found = {row["name"]: row["seconds"] for row in rows}
    return found | {name: parts[name]["seconds"] for name in ("ours", "olive") if name in parts}


def _points(change: Row) -> str:
    """Hundredths of a point: the limits that are promised are tenths."""
    delta, low, high = (f"{100 * change[name]:+.2f}".replace("-", units.MINUS) for name in ("delta", "low", "high"))
    return f"{delta} ({low} to {high})"


def _judged(row: Row | None) -> str:
    if row is None:
        return " | | "
    times = [units.milliseconds(each["p50_ms"]) for each in row["latencies"]]
    return " | ".join([units.accuracy(Accuracy(**row["accuracy"])), *times])


def _under(result: Row, part: Row) -> str:
    """Data, machine, threads, repeats and versions."""
    settings, hardware = result["settings"], part["machine"]
    rows = part.get("rows", ()) if "errors" in part else ()
    repeats = min((each["repeats"] for row in rows for each in row["latencies"]), default=0)
    turns = f", medians of at least {repeats} calls in turns" if repeats else ""
    versions = ", ".join(f"{name} {part['versions'][name]}" for name in ("onnxruntime", "openvino", "nncf") if name in part["versions"])
    return (
        f"{result['data']['title']}, {result['data']['test']:,} test images; {settings['threads']} thread{turns}; {hardware['cpu']}, "
        f"{hardware['cores']} cores, {' '.join(hardware['isa'])}; {versions}."
    )


ALONE: dict[str, tuple[Path, Callable[[Row], str]]] = {  # block -> (a result file of its own, what makes the text of it)
    "percentile": (PERCENTILE, percentile),
    "repair": (REPAIR, repaired),
}
