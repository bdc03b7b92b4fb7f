"""What each step of the repair gains, how long the sensitivity of all layers takes, and what layers in float cost: ResNet-20 and ResNet-56.

    GLEANET_DATA=DATA python benchmarks/quantization_repair.py WEIGHTS_FOLDER [resnet20 resnet56]

Public networks on CIFAR-10 (JPEG q75). The methods with 7-bit weights are what CPUs without VNNI need, and lose the most. 512 training
images calibrate, 256 of them correct biases and rank layers; layers are put in float until the logits reach ``NEED_DB`` on 2,000 other
training images; accuracies are on the 10,000 test images, paired with the float file. Results: benchmarks/results/quantization_repair.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess, Trial
from gleanet.core.stats import paired_change, sqnr_db, wilson
from gleanet.data import load, to_input
from gleanet.export import export_onnx
from gleanet.measure import latency, predict
from gleanet.measure.runtime import read_model, serialize
from gleanet.nn import build
from gleanet.pipeline.subject import samples
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.correct import correct_biases
from gleanet.quantize.equalize import equalize
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.repair import Case, repair
from gleanet.quantize.sensitivity import sensitivity

RESULT = Path(__file__).parent / "results" / "quantization_repair.json"
NAMES = ("u8s8-7bit", "u8s8-7bit-channel")
CALIBRATION, SELECTION, SAMPLES, SEED, PIXELS, NEED_DB = 512, 2000, 256, 0, Preprocess(), 31.0
Images = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("networks", nargs="*", default=["resnet20", "resnet56"])
    given = parser.parse_args()
    data = load("cifar10-jpeg")
    drawn = samples(data, CALIBRATION, SELECTION, SEED)
    images = {"calibration": drawn.calibration, "selection": drawn.selection, "test": data.test}
    arrays = {name: to_input(part.pixels, PIXELS) for name, part in images.items()}
    rows, sensitivities = [], []
    for network in given.networks:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "float.onnx"
            export_onnx(build(network, weights=given.weights / f"{network}-jpeg.pt").eval(), torch.zeros(1, 3, 32, 32), file)
            for name in NAMES:
                rows += [{"network": network, "method": name} | row for row in of_method(file, name, arrays, data.test.labels)]
                sys.stderr.write(f"{network} {name}: {json.dumps(rows[-1])}\n")
            sensitivities.append({"network": network} | timed_sensitivity(file, arrays["calibration"]))
    result = {
        "what": "repair of quantized networks, step by step",
        "settings": {
            "calibration": CALIBRATION, "selection": SELECTION, "samples": SAMPLES, "seed": SEED, "need_db": NEED_DB, "threads": 1,
        },
        "versions": versions(),
        "machine": machine(),
        "rows": rows,
        "sensitivity": sensitivities,
    }  # fmt: skip
    write_bytes(RESULT, json.dumps(result, indent=1).encode() + b"\n")
    return 0


def of_method(file: Path, name: str, arrays: dict[str, Images], labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """One row for each step, each on top of the ones before."""
    begin, written = time.perf_counter(), {}
    layers: dict[str, tuple[str, ...]] = {}
    for step, (model, in_float) in steps(file, name, arrays):
        written[step] = file.with_name(f"{step.replace(' ', '-')}.onnx")
        written[step].write_bytes(serialize(model))
        layers[step] = in_float
    seconds = time.perf_counter() - begin
    exact, times = predict(file, arrays["test"], threads=2), latency([file, *written.values()], threads=1)
    meant = exact.argmax(axis=1) == labels
    rows = []
    for step, path in written.items():
        logits = predict(path, arrays["test"], threads=2)
        hits = logits.argmax(axis=1) == labels
        rows.append(
            {
                "step": step,
                "sqnr_db": sqnr_db(exact, logits),
                "accuracy": asdict(wilson(int(hits.sum()), len(hits))),
                "change": asdict(paired_change(hits, meant)),
                "bytes": path.stat().st_size,
                "layers": layers[step],
                "latencies": [asdict(one) for one in times[path]],
                "float_latencies": [asdict(one) for one in times[file]],
                "seconds_for_all": seconds,
            }
        )
    return rows


def steps(file: Path, name: str, arrays: dict[str, Images]) -> Iterator[tuple[str, tuple[onnx.ModelProto, tuple[str, ...]]]]:
    """Names and models of the steps, with the layers that are in float."""
    source, method, few = read_model(file), METHODS[name], arrays["calibration"][:SAMPLES]

    def ranges(model: onnx.ModelProto, images: Images = few) -> dict[str, tuple[float, float]]:
        return calibrate([model], [images], file=file)[0].ranges(method.calibrator)

    prepared = prepare(source, file)
    yield "plain", (insert(prepared, ranges(prepared, arrays["calibration"]), method, source), ())
    even = equalize(prepared).model
    equalized = insert(even, ranges(even), method, source)
    yield "equalization", (equalized, ())
    yield "bias correction", (correct_biases(equalized, even, few), ())
    exact = predict(file, arrays["selection"], threads=2)
    case = Case(
        method=method,
        source=source,
        prepared=prepared,
        samples=few,
        calibrate=ranges,
        judge=partial(judged, file.with_name("judged.onnx"), arrays["selection"], exact),
        within=lambda trial: trial.sqnr_db is not None and trial.sqnr_db >= NEED_DB,
    )
    done = repair(case)
    yield "layers in float", (done.model, done.steps[-1].layers)


def judged(path: Path, images: Images, exact: Images, model: onnx.ModelProto) -> Trial:
    """The precision of ``model`` on the images that decide."""
    path.write_bytes(serialize(model))
    return Trial("repaired", "tried", "", sqnr_db=sqnr_db(exact, predict(path, images, threads=2)))


def timed_sensitivity(file: Path, calibration: Images) -> dict[str, Any]:
    """Seconds for every layer of the network, and the three most sensitive."""
    source = read_model(file)
    prepared = prepare(source, file)
    (seen,) = calibrate([prepared], [calibration], file=file)
    begin = time.perf_counter()
    found = sensitivity(prepared, seen.ranges("min-max"), METHODS["u8s8-channel"], source, calibration[:SAMPLES])
    seconds = time.perf_counter() - begin
    return {"method": "u8s8-channel", "seconds": seconds, "layers": len(found), "first": [asdict(one) for one in found[:3]]}


if __name__ == "__main__":
    sys.exit(main())
