"""ONNX Runtime's own quantization as a user finds it: its defaults, what its guide recommends for x86, and a list of calls one by one.

    RIVALS_PYTHON benchmarks/rivals/ort_defaults.py MODEL.onnx CALIBRATION.npy OUT_FOLDER [--grid GRID.json]

CALIBRATION.npy: float32 [N, C, H, W]. Without ``--grid``, OUT_FOLDER gets one file a case of :data:`CASES` and of :data:`DYNAMIC`. With
it, one file for each case that GRID.json lists (name, format, activation, weight, per_channel, reduce_range, calibrator, in ONNX
Runtime's words), each by a ``quantize_static`` of its own. ``result.json`` says what each took: seconds, peak resident bytes of the
process so far, or the error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from attempt import timed
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BATCH = 64  # faster than the single images of ONNX Runtime's examples, and the same ranges
U8S8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
# name -> (pre-processed first, arguments). The guide: pre-process; x86 without VNNI U8S8 with reduce_range, with VNNI without; per channel
# for accuracy (docstring of ``quantize_static`` and onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "ort-default": (False, {}),
    "ort-default-preprocessed": (True, {}),
    "ort-u8s8": (True, U8S8),
    "ort-u8s8-7bit": (True, {**U8S8, "reduce_range": True}),
    "ort-u8s8-channel": (True, {**U8S8, "per_channel": True}),
    "ort-u8s8-7bit-channel": (True, {**U8S8, "per_channel": True, "reduce_range": True}),
}
DYNAMIC: dict[str, dict[str, Any]] = {"ort-dynamic-default": {}, "ort-dynamic-u8": {"weight_type": QuantType.QUInt8}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "calibration", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--grid", type=Path)
    given = parser.parse_args()
    images = np.load(given.calibration)
    given.out.mkdir(parents=True, exist_ok=True)
    prepared = given.out / "preprocessed.onnx"
    rows = [timed("preprocess", prepared, lambda: quant_pre_process(str(given.model), str(prepared)))]
    if given.grid:
        cases = json.loads(given.grid.read_text(encoding="utf-8"))
        rows += [static(case["name"], prepared, images, given.out, grid_arguments(case)) for case in cases]
    else:
        rows += [static(name, prepared if pre else given.model, images, given.out, settings) for name, (pre, settings) in CASES.items()]
        for name, settings in DYNAMIC.items():
            file = given.out / f"{name}.onnx"
            rows.append(timed(name, file, lambda f=file, s=settings: quantize_dynamic(str(prepared), str(f), **s)))  # type: ignore[misc]
    result = {"rows": rows, "images": len(images), "batch": BATCH, "versions": {"onnxruntime": onnxruntime.__version__}}
    (given.out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def static(name: str, model: Path, images: NDArray[np.float32], out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One ``quantize_static``; only what is in ``settings`` differs from its defaults."""
    file = out / f"{name}.onnx"
    return timed(name, file, lambda: quantize_static(str(model), str(file), Reader(images), **settings))


def grid_arguments(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "quant_format": QuantFormat[case["format"]],
        "activation_type": QuantType[case["activation"]],
        "weight_type": QuantType[case["weight"]],
        "per_channel": case["per_channel"],
        "reduce_range": case["reduce_range"],
        "calibrate_method": CalibrationMethod[case["calibrator"]],
    }


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration batches in ONNX Runtime's protocol."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.batches = iter([images[start : start + BATCH] for start in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"input": batch}


if __name__ == "__main__":
    sys.exit(main())
