"""How much the percentile calibrator should keep: SQNR of the logits of u8s8-channel at several percentages, and of all other calibrators.

    GLEANET_DATA=DATA python benchmarks/percentile.py WEIGHTS_FOLDER

Public ResNet-20 and ResNet-56 on CIFAR-10 (JPEG q75): 512 training images calibrate, 2,000 others are compared with the float file.
The test images are not looked at, because a default is judged by this. Results: benchmarks/results/percentile.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import Preprocess
from gleanet.core.stats import sqnr_db
from gleanet.data import load, to_input
from gleanet.export import export_onnx
from gleanet.measure import predict
from gleanet.measure.runtime import read_model, serialize
from gleanet.nn import build
from gleanet.pipeline.subject import samples
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.thresholds import CALIBRATORS, percentile

RESULT = Path(__file__).parent / "results" / "percentile.json"
NETWORKS = ("resnet20", "resnet56")
PERCENTAGES = (99.0, 99.9, 99.99, 99.999, 99.9999)
CALIBRATION, SELECTION, SEED, PIXELS = 512, 2000, 0, Preprocess()
METHOD = METHODS["u8s8-channel"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    given = parser.parse_args()
    drawn = samples(load("cifar10-jpeg"), CALIBRATION, SELECTION, SEED)
    arrays = [to_input(part.pixels, PIXELS) for part in (drawn.calibration, drawn.selection)]
    rows = [row for network in NETWORKS for row in of_network(network, given.weights / f"{network}-jpeg.pt", *arrays)]
    result = {
        "what": "SQNR of the logits, in dB, by the range of the activations",
        "settings": {"method": METHOD.name, "calibration": CALIBRATION, "selection": SELECTION, "seed": SEED},
        "versions": versions(),
        "machine": machine(),
        "rows": rows,
    }
    write_bytes(RESULT, json.dumps(result, indent=1).encode() + b"\n")
    return 0


def of_network(network: str, weights: Path, images: Any, others: Any) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file, quantized = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        export_onnx(build(network, weights=weights).eval(), torch.zeros(1, 3, 32, 32), file)
        model = read_model(file)
        ready = prepare(model, file)
        (seen,) = calibrate([ready], [images], file=file)
        ranges = {name: seen.ranges(name) for name in CALIBRATORS if name != "percentile"}
        for kept in PERCENTAGES:
            ranges[f"{kept:g} %"] = ranges["min-max"] | {name: percentile(each, kept) for name, each in seen.histograms.items()}
        reference = predict(file, others)
        for name, found in ranges.items():
            quantized.write_bytes(serialize(insert(ready, found, METHOD, model)))
            rows.append({"network": network, "range": name, "sqnr_db": sqnr_db(reference, predict(quantized, others))})
            sys.stderr.write(f"{rows[-1]}\n")
    return rows


if __name__ == "__main__":
    sys.exit(main())
