"""Quantization against its rivals, the chain of pruning and quantization, and the sharing of work over the grid of methods.

    python -m venv RIVALS && RIVALS/bin/pip install -r benchmarks/rivals/requirements.txt
    GLEANET_DATA=DATA python benchmarks/quantization.py WEIGHTS_FOLDER --rivals RIVALS/bin/python [--networks resnet20 resnet56]
        [--parts ours ort nncf olive measure grid chain]

(Where the package index offers builds of torch for CUDA only: add ``--extra-index-url https://download.pytorch.org/whl/cpu``.)

The public checkpoints on CIFAR-10 (JPEG q75), one thread. 512 training images calibrate, 2,000 others choose (ours and Olive's), the
10,000 test images judge. Parts ``ours``, ``ort``, ``nncf`` and ``olive`` make files in ``runs/quantization-benchmark/NETWORK``;
``measure`` judges and times all that are there, in turns; ``grid`` times our grid of files against one ``quantize_static`` a file;
``chain`` runs the real ``gleanet shrink`` at half the MACs and profiles its files layer by layer. Each part is written into
``benchmarks/results/quantization/NETWORK.json`` when it ends, so parts can be run again one by one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from layer_profile import profile
from numpy.typing import NDArray
from shared_grid import CASES, our_grid

from gleanet.core.errors import GleanetError
from gleanet.core.files import write_bytes
from gleanet.core.host import cores, machine, versions
from gleanet.core.records import Preprocess, Run, loads
from gleanet.core.stats import paired_change, wilson
from gleanet.data import Dataset, load, to_input
from gleanet.export import export_onnx
from gleanet.measure import latency, predict
from gleanet.nn import build
from gleanet.pipeline.subject import samples
from gleanet.quantize import USUAL_DROP, quantize

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "quantization"
RIVALS = Path(__file__).parent / "rivals"
WORK = ROOT / "runs" / "quantization-benchmark"
CALIBRATION, SELECTION, SEED, PIXELS = 512, 2000, 0, Preprocess()
THREADS, BATCHES, SECONDS = 1, (1, 64), 2.0
GRID_ROUNDS = 3
Answers = NDArray[np.int64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rivals", type=Path, required=True, help="an interpreter with benchmarks/rivals/requirements.txt")
    parser.add_argument("--networks", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    given = parser.parse_args()
    data = load("cifar10-jpeg")
    for network in given.networks:
        bench = prepared(network, given.weights / f"{network}-jpeg.pt", given.rivals, data)
        for part in given.parts:
            sys.stderr.write(f"== {network}: {part}\n")
            begin = time.perf_counter()
            found = PARTS[part](bench)
            record(
                network, data, part, {**found, "part_seconds": time.perf_counter() - begin, "versions": versions(), "machine": machine()}
            )
    return 0


@dataclass(frozen=True)
class Bench:
    """One network with everything that the parts share; ``inputs`` are the arrays that rivals read from .npy files."""

    network: str
    weights: Path
    rivals: Path
    folder: Path
    data: Dataset
    inputs: dict[str, NDArray[Any]]

    @property
    def float(self) -> Path:
        return self.folder / "float.onnx"

    def array(self, name: str) -> str:
        return str(WORK / f"{name}.npy")

    def rival(self, script: str, *arguments: object) -> None:
        """Run a script of benchmarks/rivals under its own interpreter."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OLIVE_DISABLE_TELEMETRY": "1"}
        subprocess.run([str(self.rivals), str(RIVALS / script), *map(str, arguments)], check=True, env=environment, cwd=self.folder)

    def result(self, folder: str) -> dict[str, Any]:
        """What a rival's script left; empty where it has not been run."""
        file = self.folder / folder / "result.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def prepared(network: str, weights: Path, rivals: Path, data: Dataset) -> Bench:
    """The float file, and the images as arrays, in memory and on disk."""
    drawn = samples(data, CALIBRATION, SELECTION, SEED)
    inputs: dict[str, NDArray[Any]] = {
        "calibration": to_input(drawn.calibration.pixels, PIXELS),
        "selection": to_input(drawn.selection.pixels, PIXELS),
        "selection_labels": drawn.selection.labels,
        "test": to_input(data.test.pixels, PIXELS),
    }
    folder = WORK / network
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in inputs.items():
        np.save(WORK / f"{name}.npy", array)
    bench = Bench(network, weights, rivals.absolute(), folder, data, inputs)
    export_onnx(build(network, weights=weights).eval(), torch.zeros(1, 3, 32, 32), bench.float, check=inputs["test"][:64])
    return bench


def record(network: str, data: Dataset, part: str, found: dict[str, Any]) -> None:
    file = RESULTS / f"{network}.json"
    whole = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"parts": {}}
    whole |= {
        "what": "quantized files of gleanet and of its rivals: accuracy, time, seconds to make; the chain; the grid",
        "settings": {
            "network": network, "calibration": CALIBRATION, "selection": SELECTION, "seed": SEED, "threads": THREADS,
            "batches": BATCHES, "max_drop": USUAL_DROP,
        },
        "data": {"title": data.title, "test": len(data.test)},
    }  # fmt: skip
    whole["parts"][part] = found
    text = json.dumps(whole, indent=1).replace(f"{ROOT}/", "")  # paths as they are in any checkout
    write_bytes(file, text.encode() + b"\n")


def ours(bench: Bench) -> dict[str, Any]:
    """``gleanet.quantize`` as a user calls it; its seconds hold everything, the measuring of all methods included."""
    split = range(0, CALIBRATION, 128), range(0, len(bench.inputs["selection"]), 128)
    calibration = [bench.inputs["calibration"][i : i + 128] for i in split[0]]
    selection = [(bench.inputs["selection"][i : i + 128], bench.inputs["selection_labels"][i : i + 128]) for i in split[1]]
    begin = time.perf_counter()
    choice = quantize(
        bench.float, calibration=calibration, evaluate=selection, method="auto", max_drop=None,
        out=bench.folder / "ours.onnx", threads=THREADS, batches=BATCHES, seed=SEED,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "method": choice.method, "reason": choice.reason, "trials": msgspec.to_builtins(choice.trials)}


def ort_defaults(bench: Bench) -> dict[str, Any]:
    bench.rival("ort_defaults.py", bench.float, bench.array("calibration"), bench.folder / "ort")
    return bench.result("ort")


def nncf(bench: Bench) -> dict[str, Any]:
    bench.rival("nncf_quantize.py", bench.float, bench.array("calibration"), bench.folder / "nncf")
    return bench.result("nncf")


def olive(bench: Bench) -> dict[str, Any]:
    arrays = [bench.array(name) for name in ("calibration", "selection", "selection_labels")]
    folder = bench.folder / "olive"
    shutil.rmtree(folder, ignore_errors=True)  # its cache would answer a second search
    bench.rival("olive_search.py", bench.float, *arrays, folder, "--max-drop", USUAL_DROP)
    return bench.result("olive")


def measure(bench: Bench) -> dict[str, Any]:
    """Every file that is there, judged on the test images and timed in turns: ONNX Runtime here, OpenVINO beside it in another process."""
    files = {"float": bench.float, "ours": bench.folder / "ours.onnx"} | rivals_files(bench, ".onnx")
    olive_file = bench.result("olive").get("file")
    if olive_file:
        files["olive"] = Path(olive_file)
    test, labels = bench.inputs["test"], bench.data.test.labels
    answers: dict[str, Answers] = {}
    errors: dict[str, str] = {}
    for name, file in files.items():
        if not file.is_file():
            continue
        try:
            answers[name] = predict(file, test, threads=cores()).argmax(axis=1)
        except GleanetError as error:
            errors[name] = str(error)
    times = latency([files[name] for name in answers], batches=BATCHES, threads=THREADS, seconds=SECONDS)
    rows = [
        {"name": name, "runtime": "onnxruntime", **judged(name, answers, labels), "bytes": files[name].stat().st_size,
         "latencies": [asdict(each) for each in times[files[name]]]}
        for name in answers
    ]  # fmt: skip
    beside = openvino(bench, answers, labels)
    theirs = bench.result("nncf").get("versions", {}) | beside.get("versions", {})
    return {"rows": rows, "errors": errors, "openvino": beside, "versions": theirs}


def rivals_files(bench: Bench, suffix: str) -> dict[str, Path]:
    rows = [
        row for folder in ("ort", "nncf") for row in bench.result(folder).get("rows", ()) if row["name"] != "preprocess" and row["file"]
    ]
    return {row["name"]: Path(row["file"]) for row in rows if row["file"].endswith(suffix)}


def judged(name: str, answers: dict[str, Answers], labels: Answers) -> dict[str, Any]:
    """Accuracy; change and agreement against the float file in ONNX Runtime; change against our choice."""
    hits, base = answers[name] == labels, answers["float"] == labels
    found: dict[str, Any] = {"accuracy": asdict(wilson(int(hits.sum()), len(labels)))}
    if name != "float":
        found |= {"change": asdict(paired_change(hits, base)), "agreement": float(np.mean(answers[name] == answers["float"]))}
    if name not in ("float", "ours") and "ours" in answers:
        found["against_ours"] = asdict(paired_change(hits, answers["ours"] == labels))
    return found


def openvino(bench: Bench, answers: dict[str, Answers], labels: Answers) -> dict[str, Any]:
    """Float, NNCF's and our files in OpenVINO, ONNX Runtime's float and our file in turns with them."""
    ir, out = rivals_files(bench, ".xml"), bench.folder / "openvino"
    if not ir:
        return {}
    files: list[dict[str, Any]] = [
        {"name": "float", "file": bench.float, "runtime": "onnxruntime"},
        {"name": "ours", "file": bench.folder / "ours.onnx", "runtime": "onnxruntime"},
        {"name": "openvino-float", "file": bench.result("nncf")["float"], "runtime": "openvino"},
        {"name": "openvino-float-f32", "file": bench.result("nncf")["float"], "runtime": "openvino", "precision": "f32"},
        {"name": "openvino-ours", "file": bench.folder / "ours.onnx", "runtime": "openvino"},
        *({"name": name, "file": file, "runtime": "openvino"} for name, file in ir.items()),
    ]
    settings = {"files": files, "images": bench.array("test"), "batches": BATCHES, "threads": THREADS, "seconds": SECONDS, "out": out}
    (bench.folder / "openvino.json").write_text(json.dumps(settings, default=str), encoding="utf-8")
    bench.rival("openvino_measure.py", bench.folder / "openvino.json")
    found = bench.result("openvino")
    for row in found["rows"]:
        if not row["error"]:
            file = next(Path(each["file"]) for each in files if each["name"] == row["name"])
            row["bytes"] = file.stat().st_size + (file.with_suffix(".bin").stat().st_size if file.suffix == ".xml" else 0)
            row |= judged(row["name"], {**answers, row["name"]: np.load(out / f"{row['name']}.npy")}, labels)
    return found


def grid(bench: Bench) -> dict[str, Any]:
    """The same list of files twice, in turns: ours, which shares what can be shared, and one ``quantize_static`` after another."""
    cases = bench.folder / "grid.json"
    cases.write_text(json.dumps(CASES), encoding="utf-8")
    rounds = []
    for _ in range(GRID_ROUNDS):
        begin = time.perf_counter()
        files = our_grid(bench.float, bench.inputs["calibration"], bench.folder / "our_grid")
        seconds = time.perf_counter() - begin
        bench.rival("ort_defaults.py", bench.float, bench.array("calibration"), bench.folder / "ort_grid", "--grid", cases)
        calls = bench.result("ort_grid")["rows"]
        rounds.append({"ours": seconds, "quantize_static": sum(each["seconds"] for each in calls), "calls": calls})
        sys.stderr.write(f"{len(files)} files: ours {seconds:.1f} s, quantize_static {rounds[-1]['quantize_static']:.1f} s\n")
    return {"cases": CASES, "images": CALIBRATION, "rounds": rounds}


def chain(bench: Bench) -> dict[str, Any]:
    """The real command at half the MACs, without fine-tuning, and where the time of its files goes."""
    folder = bench.folder / "shrink"
    shutil.rmtree(folder, ignore_errors=True)
    settings = ["--weights", bench.weights, "--data", "cifar10-jpeg", "--flops", "0.5", "--epochs", "0", "--seed", SEED, "--out", folder]
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "gleanet", "shrink", bench.network, *map(str, settings)], check=False, env=environment)
    if done.returncode not in (0, 3):
        raise subprocess.CalledProcessError(done.returncode, done.args)
    seconds = time.perf_counter() - begin
    run = loads((folder / "run.json").read_bytes(), Run, str(folder))
    files = [folder / name for name in ("base.onnx", "model.onnx", "model.int8.onnx") if (folder / name).is_file()]
    times = latency(files, batches=BATCHES, threads=THREADS, seconds=SECONDS)
    return {
        "seconds": seconds,
        "status": run.status,
        "rows": msgspec.to_builtins(run.rows),
        "results": msgspec.to_builtins(run.results),
        "latencies": {file.name: [asdict(each) for each in times[file]] for file in files},
        "profiles": {file.name: [profile(file, batch) for batch in BATCHES] for file in files},
        "nodes": {file.name: len(onnx.load(str(file)).graph.node) for file in files},
    }


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "ours": ours,
    "ort": ort_defaults,
    "nncf": nncf,
    "olive": olive,
    "measure": measure,
    "grid": grid,
    "chain": chain,
}

if __name__ == "__main__":
    sys.exit(main())
