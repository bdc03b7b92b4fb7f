"""Tables about streamed folders and ImageNet-sized training, from ``benchmarks/results``; written into the docs by ``tables.py``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
IMAGES, EPOCHS = 1_281_167, 90  # ImageNet-1k's training set, and the usual length of a training
TEST_IMAGES = 50_000
BATCHES = (64, 256)
FLOPS_PER_MAC, PASSES = 2, 3  # the backward pass takes about twice what the forward pass takes
SUSTAINED = 50e12  # floating-point operations a second, to turn work into hours: an assumption, not a measurement


def texts() -> dict[str, str]:
    """Block name -> text for docs/evidence.md, for the results that are there."""
    file = RESULTS / "streaming.json"
    return {"streaming": loading(json.loads(file.read_text(encoding="utf-8")))} if file.is_file() else {}


def page_texts() -> dict[str, str]:
    """The same for docs/imagenet.md."""
    steps, stream = RESULTS / "imagenet_steps.json", RESULTS / "streaming.json"
    if not steps.is_file() or not stream.is_file():
        return {}
    found, rates = (json.loads(file.read_text(encoding="utf-8")) for file in (steps, stream))
    return {"imagenet_memory": memory(found), "imagenet_time": time_needed(found), "imagenet_loading": workers(found, rates)}


def loading(found: dict[str, Any]) -> str:
    """Images per second and per core of both loaders, the ratio, the memory and the listing."""
    settings, versions, scan = found["settings"], found["versions"], found["listing"]
    lines = ["| loader | images per core-second | images/s by the clock |", "| --- | --- | --- |"]
    lines += [f"| {name} | {each['core']:.0f} | {each['wall']:.0f} |" for name, each in found["images_per_s"].items()]
    lines += ["", "| ratio (median of rounds, lowest to highest) | per core | by the clock |", "| --- | --- | --- |"]
    lines += [f"| {name} | {_ratio(each['core'])} | {_ratio(each['wall'])} |" for name, each in found["ratios"].items()]
    memory_text = ", ".join(f"{value / 2**20:.0f} MiB after {int(n):,} images" for n, value in found["peak_bytes"].items())
    rounds = next(iter(found["ratios"].values()))["core"]["rounds"]
    return "\n".join(lines) + (
        f"\n\nPeak memory of a process that streams one epoch: {memory_text}. Listing {scan['files']:,} files takes "
        f"{1e6 * scan['processor_seconds'] / scan['files']:.1f} microseconds and {scan['bytes_per_file']:.0f} bytes a file.\n\n"
        f"{settings['images']} JPEGs, {settings['bytes'] / settings['images'] / 1000:.0f} kB each (quality {settings['jpeg_quality']}, "
        f"made from scikit-learn's two photographs), seed {settings['seed']}, batches of {settings['batch']}, {rounds} interleaved rounds "
        f"of one epoch. {_machine(found)}, Pillow {versions['pillow']}. Other work ran on the machine meanwhile, which the clock shows "
        "and processor time hides."
    )


def memory(found: dict[str, Any]) -> str:
    """What a training takes: of parameters with gradient and momentum, and of activations, by batch size."""
    settings = found["settings"]
    lines = [
        f"| network | parameters, gradients, momentum | activations of one image | {' | '.join(f'batch {b}' for b in BATCHES)} |",
        "| --- |" + " --- |" * (2 + len(BATCHES)),
    ]
    for name, each in found["networks"].items():
        fixed = 3 * 4 * each["params"]
        sizes = " | ".join(_gigabytes(fixed + batch * each["bytes_per_image"]) for batch in BATCHES)
        lines.append(f"| {name} | {_gigabytes(fixed)} | {each['bytes_per_image'] / 1e6:.0f} MB | {sizes} |")
    small, large = settings["memory_batches"]
    return "\n".join(lines) + (
        f"\n\nfloat32. The activations are what the peak memory of a process grows by for each image, measured between batches of {small} "
        f"and {large}; the sums are worked out from that. Beside it lie the libraries, and three batches of pixels. {_machine(found)}."
    )


def time_needed(found: dict[str, Any]) -> str:
    """Work and time of a whole training: on cores as measured, on a GPU as estimated from the work."""
    lines = [
        "| network | MACs | training step, one core | 90 epochs on 64 such cores | work of 90 epochs | estimate at sustained 50 TFLOP/s |",
        "| --- |" + " --- |" * 5,
    ]
    for name, each in found["networks"].items():
        core_seconds = each["processor_seconds_per_image"] * IMAGES * EPOCHS
        work = FLOPS_PER_MAC * PASSES * each["macs"] * IMAGES * EPOCHS
        lines.append(
            f"| {name} | {each['macs'] / 1e9:.2f} G | {1000 * each['processor_seconds_per_image']:.0f} ms an image | "
            f"{core_seconds / 64 / 86400:.1f} days | {work / 1e18:.2f} EFLOP | {work / SUSTAINED / 3600:.1f} h |"
        )
    settings = found["settings"]
    return "\n".join(lines) + (
        f"\n\n{IMAGES:,} images an epoch. Measured: processor seconds of a step at batch {settings['batch']}, median of "
        f"{settings['rounds']} rounds, one thread. {_machine(found)}. Worked out: days on 64 cores (as if they did not wait for each "
        "other), and work (2 operations a MAC, 3 passes: forward, and backward at twice its cost). The last column is an estimate from "
        "the work alone, for a GPU that sustains that rate: what yours sustains, a short run tells."
    )


def workers(found: dict[str, Any], rates: dict[str, Any]) -> str:
    """How many cores it takes to decode as fast as a network learns."""
    rate = next(each["core"] for name, each in rates["images_per_s"].items() if name.startswith("gleanet, 1"))
    lines = [
        "| network | images/s at a sustained 50 TFLOP/s (estimate) | cores that decode as fast |",
        "| --- | --- | --- |",
    ]
    for name, each in found["networks"].items():
        needed = SUSTAINED / (FLOPS_PER_MAC * PASSES * each["macs"])
        lines.append(f"| {name} | {needed:,.0f} | {needed / rate:.1f} |")
    return "\n".join(lines) + (
        f"\n\nOne core decodes, cuts and resizes {rate:.0f} images a second (measured, see [evidence](evidence.md)): an epoch of "
        f"{IMAGES:,} images takes {IMAGES / rate / 60:.0f} core-minutes, the {TEST_IMAGES:,} of the validation set about "
        f"{TEST_IMAGES / rate / 60:.0f}."
    )


def _ratio(each: dict[str, float]) -> str:
    return f"{each['median']:.2f} ({each['lowest']:.2f} to {each['highest']:.2f})"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']['cpu']}, {found['machine']['cores']} cores, torch {found['versions']['torch']}"
