"""NNCF's post-training quantization, on the ONNX model and on OpenVINO's, with its defaults and with its other preset.

    RIVALS_PYTHON benchmarks/rivals/nncf_quantize.py MODEL.onnx CALIBRATION.npy OUT_FOLDER

CALIBRATION.npy: float32 [N, C, H, W]. OUT_FOLDER gets an ONNX file for each case of the ONNX backend, an IR (.xml and .bin) for each of the
OpenVINO backend, the float IR, and ``result.json`` with the seconds of each, or the error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import openvino as ov
from attempt import timed

SUBSET = 300  # NNCF's default
# ``performance`` (symmetric activations) is the default preset, ``mixed`` (asymmetric ones) is what its guide recommends for other
# activations than ReLU; the device is the one that runs the file.
PRESETS = {"default": None, "mixed": nncf.QuantizationPreset.MIXED}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "calibration", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    images = np.load(given.calibration)
    dataset = nncf.Dataset([image[None] for image in images], lambda image: {"input": image})
    float_ir = ov.convert_model(str(given.model))
    ov.save_model(float_ir, str(given.out / "float.xml"), compress_to_fp16=False)
    rows = []
    for name, preset in PRESETS.items():
        settings = {"preset": preset, "target_device": nncf.TargetDevice.CPU, "subset_size": SUBSET}
        file = given.out / f"nncf-onnx-{name}.onnx"
        rows.append(timed(file.stem, file, lambda f=file, s=settings: as_onnx(given.model, dataset, f, s)))  # type: ignore[misc]
        file = given.out / f"nncf-openvino-{name}.xml"
        rows.append(timed(file.stem, file, lambda f=file, s=settings: as_ir(given.model, dataset, f, s)))  # type: ignore[misc]
    result = {
        "rows": rows,
        "float": str(given.out / "float.xml"),
        "images": min(SUBSET, len(images)),
        "versions": {"nncf": nncf.__version__, "openvino": ov.__version__, "onnx": onnx.__version__},
    }
    (given.out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def as_onnx(model: Path, dataset: Any, file: Path, settings: dict[str, Any]) -> None:
    onnx.save(nncf.quantize(onnx.load(str(model)), dataset, **settings), str(file))


def as_ir(model: Path, dataset: Any, file: Path, settings: dict[str, Any]) -> None:
    ov.save_model(nncf.quantize(ov.convert_model(str(model)), dataset, **settings), str(file))


if __name__ == "__main__":
    sys.exit(main())
