"""Our grid of quantized files, made from one calibration, and the same list in ONNX Runtime's words for ``quantize_static``."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.measure import read_model
from gleanet.measure.runtime import serialize
from gleanet.quantize.calibrate import calibrate
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare

FORMATS = {"QDQ": "", "QOperator": "qop"}
CALIBRATORS = {"MinMax": "min-max", "Percentile": "percentile", "Entropy": "entropy"}  # ONNX Runtime's word -> ours
TYPES = {"u8s8": ("QUInt8", "QInt8"), "u8u8": ("QUInt8", "QUInt8"), "s8s8": ("QInt8", "QInt8")}


def cases() -> list[dict[str, Any]]:
    """Every point that both can make: our mean-squared-error calibration, padding and float head have no counterpart."""
    found = []
    for kind, quant_format, calibrator, channel, seven in product(TYPES, FORMATS, CALIBRATORS, (False, True), (False, True)):
        words = [kind, "7bit" * seven, "channel" * channel, CALIBRATORS[calibrator].replace("min-max", ""), FORMATS[quant_format]]
        name = "-".join(word for word in words if word)
        if name in METHODS:
            found.append(
                {"name": name, "format": quant_format, "activation": TYPES[kind][0], "weight": TYPES[kind][1],
                 "per_channel": channel, "reduce_range": seven, "calibrator": calibrator}
            )  # fmt: skip
    return found


CASES = cases()


def our_grid(source: Path, images: NDArray[np.float32], folder: Path) -> list[Path]:
    """One file for each of :data:`CASES`: prepared and calibrated once, then inserted and written one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    model = read_model(source)
    ready = prepare(model, source)
    (statistics,) = calibrate([ready], [images], file=source)
    files = []
    for case in CASES:
        files.append(folder / f"{case['name']}.onnx")
        ranges = statistics.ranges(CALIBRATORS[case["calibrator"]])
        files[-1].write_bytes(serialize(insert(ready, ranges, METHODS[case["name"]], model)))
    return files
