"""Answers and times of files in OpenVINO and in ONNX Runtime, in one process and in turns, so that their ratios can be compared.

    PYTHONPATH=REPOSITORY RIVALS_PYTHON benchmarks/rivals/openvino_measure.py SETTINGS.json

SETTINGS.json: ``files`` (name, file, runtime "openvino" or "onnxruntime", and for OpenVINO an optional ``precision``, "f32"), ``images``
(float32 [N, C, H, W] .npy), ``batches``, ``threads``, ``seconds`` per file and batch, ``out``. OUT gets ``NAME.npy``, the answers int64
[N], and ``result.json``. OpenVINO gets what it likes best: a fixed batch, one stream, the hint for latency, tensors that are not copied.
Without ``precision`` it computes float layers in whatever its plugin prefers, on a CPU with AMX in bfloat16; the result says what it
took.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
from numpy.typing import NDArray

from gleanet.measure import open_session
from gleanet.measure.timing import interleaved, summary

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ANSWERING = 250  # images per call where only the answers count


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    images, out = np.load(given["images"]), Path(given["out"])
    out.mkdir(parents=True, exist_ok=True)
    rows = {each["name"]: {"name": each["name"], "runtime": each["runtime"], "latencies": [], "error": ""} for each in given["files"]}
    for each in given["files"]:
        try:
            run, taken = opened(each, ANSWERING, given["threads"])
            answers = [run(images[start : start + ANSWERING]).argmax(axis=1) for start in range(0, len(images), ANSWERING)]
        except Exception as reason:  # a runtime that refuses a file is a result
            rows[each["name"]]["error"] = f"{type(reason).__name__}: {' '.join(str(reason).split())[:300]}"
            continue
        rows[each["name"]]["settings"] = taken
        np.save(out / f"{each['name']}.npy", np.concatenate(answers).astype(np.int64))
    able = [each for each in given["files"] if not rows[each["name"]]["error"]]
    for batch in given["batches"]:
        calls = {each["name"]: call(each, images[:batch], given["threads"]) for each in able}
        for name, times in interleaved(calls, seconds=given["seconds"]).items():
            rows[name]["latencies"].append(asdict(summary(times, batch=batch, threads=given["threads"])))
    result = {"rows": list(rows.values()), "versions": {"openvino": ov.__version__, "onnxruntime": onnxruntime.__version__}}
    (out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def call(each: dict[str, Any], images: NDArray[np.float32], threads: int) -> Callable[[], object]:
    run, _ = opened(each, len(images), threads)
    images = np.ascontiguousarray(images)
    return lambda: run(images)


def opened(each: dict[str, Any], batch: int, threads: int) -> tuple[Run, dict[str, str]]:
    """The file as a function of ``batch`` images, and what the runtime says of its settings."""
    if each["runtime"] == "onnxruntime":
        return open_session(each["file"], threads=threads).run, {}
    core = ov.Core()
    model = core.read_model(each["file"])
    model.reshape(ov.PartialShape([batch, *list(model.input().get_partial_shape())[1:]]))
    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", hints | ({"INFERENCE_PRECISION_HINT": each["precision"]} if each.get("precision") else {}))
    request = compiled.create_infer_request()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = request.infer([images], share_inputs=True, share_outputs=True)[0]
        return logits

    return run, {"precision": str(compiled.get_property("INFERENCE_PRECISION_HINT"))}


if __name__ == "__main__":
    sys.exit(main())
