"""A run folder with a float and an int8 file, and the numbers that ONNX Runtime gives for the page to match."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from gleanet.core.records import Preprocess, Run, dumps
from gleanet.data import load
from gleanet.measure import predict
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import convnet, save

CLASSES = tuple("0123456789")
PREPROCESS = Preprocess(mean=(0.3, 0.4, 0.5), std=(0.2, 0.25, 0.3))  # three different ones, so that a mixed-up channel shows


def metadata(classes: tuple[str, ...] = CLASSES, preprocess: Preprocess | None = PREPROCESS) -> dict[str, str]:
    found = {"gleanet.classes": json.dumps(classes)}
    return found if preprocess is None else {**found, "gleanet.preprocess": json.dumps(asdict(preprocess))}


def write_record(folder: Path, *, data: str | None = "digits", command: str = "shrink", model: str = "resnet8") -> None:
    run = Run(
        id=folder.name,
        command=command,
        model=model,
        status="done",
        started="2026-01-02T03:04:05+00:00",
        seconds=1.0,
        settings={"data": data, "seed": 7},
        versions={},
        machine={},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(dumps(run))


def make_run(folder: Path, *, classes: tuple[str, ...] = CLASSES, data: str | None = "digits") -> Path:
    """A run whose base.onnx has lively, random weights and whose model.int8.onnx is it, quantized."""
    write_record(folder, data=data)
    model = convnet(size=16, classes=10, metadata=metadata(classes))
    source = save(model, folder / "base.onnx")
    prepared = prepare(model, source)
    pixels = load("digits").train.images[:32]
    images = normalised(pixels)
    ranges = min_max(prepared, [images], file=source)
    save(insert(prepared, ranges, METHODS["u8s8"], model), folder / "model.int8.onnx")
    return folder


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean, std = (np.array(values, dtype=np.float64).reshape(1, 3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    return ((pixels / 255 - mean) / std).astype(np.float32)


def probabilities(file: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[K] of one image uint8 [3, H, W]: ONNX Runtime's logits through a softmax in float64."""
    logits = predict(file, pixels[None])[0].astype(np.float64)
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [3, H, W] as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(out, "PNG")
    return out.getvalue()


def renamed(folder: Path, target: Path, classes: tuple[str, ...]) -> Path:
    """A copy of a run whose files name their classes so."""
    write_record(target)
    for name in ("base.onnx", "model.int8.onnx"):
        model: Any = onnx.load(str(folder / name))
        onnx.helper.set_model_props(model, metadata(classes))
        onnx.save(model, str(target / name))
    return target
