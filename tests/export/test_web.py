"""onnxruntime-web runs our files and computes what ONNX Runtime computes.

Needs node and the folder of the npm package onnxruntime-web in GLEANET_ORT_WEB (``npm install onnxruntime-web``).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gleanet.export import export_onnx, reform_file
from gleanet.measure import predict
from gleanet.nn import build
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from tests.tiny import images
from tests.tiny_onnx import save

SCRIPT = """
import fs from 'node:fs'
import { pathToFileURL } from 'node:url'
const [entry, model, pixels, n, ...shape] = process.argv.slice(2)
const ort = await import(pathToFileURL(entry))
ort.env.wasm.numThreads = 1
const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)), { executionProviders: ['wasm'] })
const data = new Uint8Array(fs.readFileSync(pixels))
const x = new ort.Tensor('uint8', data, [Number(n), ...shape.map(Number)])
const result = await session.run({ [session.inputNames[0]]: x })
console.log(JSON.stringify(Array.from(result[session.outputNames[0]].data, Number)))
"""


@pytest.fixture(scope="module")
def entry() -> Path:
    found = Path(os.environ.get("GLEANET_ORT_WEB", "")) / "dist/ort.node.min.mjs"
    if shutil.which("node") is None or not found.is_file():
        pytest.skip("needs node, and the folder of the npm package onnxruntime-web in GLEANET_ORT_WEB")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", ["float", "u8s8", "u8s8-channel-head"])
def test_a_browser_computes_the_same(entry: Path, method: str, tmp_path: Path) -> None:
    net = build("resnet8", seed=0)
    export_onnx(net, images(1, size=32), tmp_path / "float.onnx")
    pixels: Any = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    model = onnx.load(str(tmp_path / "float.onnx"))
    if method != "float":
        prepared = prepare(model, tmp_path / "float.onnx")
        ranges = min_max(prepared, [images(8, size=32).numpy()], file=tmp_path / "float.onnx")
        model = insert(prepared, ranges, METHODS[method], model)
    source = save(model, tmp_path / "source.onnx")
    reform_file(source, tmp_path / "web.onnx", input="uint8", output="softmax", layout="NHWC", batch=8)
    (tmp_path / "run.mjs").write_text(SCRIPT)
    np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).tofile(tmp_path / "pixels.bin")
    command = ["node", tmp_path / "run.mjs", entry, tmp_path / "web.onnx", tmp_path / "pixels.bin", "8", "32", "32", "3"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout)).reshape(8, -1)
    assert np.abs(found - predict(tmp_path / "web.onnx", pixels)).max() <= 1e-4
