"""Exported forms of Mish and Bea-Mish in ONNX Runtime, in turns in one process: alone, and in ResNet-20 in float and in 8 bits.

    python benchmarks/activation_export.py --rounds 300

Written to benchmarks/results/activation_export.json. ``alone``: nanoseconds a number of each way to write one activation. ``networks``:
milliseconds a call. Every ratio is to the Softplus-Tanh form in the same round; the 8-bit networks are one method from one calibration,
and differ in nothing but how the activation is written. Weights are untrained: they do not change how long a call takes.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.stats import sqnr_db
from gleanet.export import export_onnx
from gleanet.measure.activations import rewrite_activations
from gleanet.measure.timing import interleaved
from gleanet.nn import build
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.pointwise import look_up
from gleanet.quantize.prepare import prepare

RESULT = Path(__file__).parent / "results" / "activation_export.json"
NUMBERS = 32_768  # 32 channels of 32 x 32
ACTIVATIONS = ("mish", "beamish(alpha=1,beta=1.5)", "beamish(alpha=0.8,beta=1.3)")
FACTORS = {"mish": (1.0, 1.0), ACTIVATIONS[1]: (1.0, 1.5), ACTIVATIONS[2]: (0.8, 1.3)}
METHOD = "u8s8-channel-head"
BATCHES = (1, 64)
BASE = "Softplus, Tanh"
Call = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="at batch 1; a fifth of it at batch 64")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "what": "time of exported activations by the form they are written in, medians over rounds in which all forms take turns",
        "settings": {"rounds": options.rounds, "threads": options.threads, "method": METHOD, "numbers": NUMBERS, "seed": 0},
        "load_before": os.getloadavg(),
        "versions": versions(),
        "machine": machine(),
        "alone": {name: alone(name, options.rounds, options.threads) for name in ACTIVATIONS},
        "networks": {},
    }
    for name in ACTIVATIONS:
        files, precision = network_files(name)
        by_batch = {}
        for batch in BATCHES:
            x = images(batch)
            calls = {form: call(session(model, options.threads), x) for form, model in files.items()}
            by_batch[str(batch)] = times(calls, max(15, options.rounds // (1 if batch == 1 else 5)))
        result["networks"][name] = {"times": by_batch, "sqnr_db": precision}
    write_bytes(RESULT, json.dumps(result, indent=1).encode() + b"\n")
    return 0


def times(calls: dict[str, Call], rounds: int) -> dict[str, dict[str, float]]:
    """{form: milliseconds (median) and the median of how many times as fast as the base of its kind it is}."""
    samples = interleaved(calls, rounds=rounds)
    found = {}
    for form, seconds in samples.items():
        kind = form.split(":")[0]
        base = samples[f"{kind}: {BASE}"]
        found[form] = {"ms": 1e3 * float(np.median(seconds)), "speedup": float(np.median(base / seconds)), "rounds": len(seconds)}
    return found


def alone(name: str, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """One activation over ``NUMBERS`` numbers: float forms take float32 and give it, 8-bit forms uint8."""
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 32)).astype(np.float32)
    codes = np.random.default_rng(0).integers(0, 256, x.shape).astype(np.uint8)
    plain, fast = gate(name, rewrite=False), gate(name, rewrite=True)
    models: dict[str, tuple[onnx.ModelProto, NDArray[Any]]] = {
        f"float: {BASE}": (plain, x),
        "float: Exp": (fast, x),
        f"8 bits: {BASE}": (coded(plain), codes),
        "8 bits: Exp": (coded(fast), codes),
        "8 bits: table, Gather": (by_gather(), codes),
        "8 bits: table, GatherElements": (look_up(coded(fast)), codes),
    }
    return times({form: call(session(model, threads), given) for form, (model, given) in models.items()}, rounds)


def gate(name: str, *, rewrite: bool) -> onnx.ModelProto:
    """The activation as a model, float32 [1, 32, 32, 32] "x" -> "y"."""
    alpha, beta = FACTORS[name]
    nodes, u, s = [], "x", "s"
    if alpha != 1:
        nodes.append(helper.make_node("Mul", ["x", "alpha"], ["u"], "u"))
        u = "u"
    nodes.append(helper.make_node("Softplus", [u], ["s"], "s"))
    if beta != 1:
        nodes.append(helper.make_node("Mul", ["s", "beta"], ["m"], "m"))
        s = "m"
    nodes += [helper.make_node("Tanh", [s], ["t"], "t"), helper.make_node("Mul", ["x", "t"], ["y"], "y")]
    model = made(nodes, {"alpha": np.float32(alpha), "beta": np.float32(beta)}, TensorProto.FLOAT)
    if rewrite:
        rewrite_activations(model)
    return model


def coded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same between DequantizeLinear and QuantizeLinear, uint8 "code" -> "answer"."""
    constants: dict[str, Any] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {"a": np.float32(0.03), "b": np.uint8(100), "c": np.float32(0.02), "d": np.uint8(12)}
    first = helper.make_node("DequantizeLinear", ["code", "a", "b"], ["x"])
    last = helper.make_node("QuantizeLinear", ["y", "c", "d"], ["answer"])
    return made([first, *model.graph.node, last], constants, TensorProto.UINT8, "code", "answer")


def by_gather() -> onnx.ModelProto:
    nodes = [helper.make_node("Cast", ["code"], ["i"], to=TensorProto.INT32), helper.make_node("Gather", ["table", "i"], ["answer"])]
    return made(nodes, {"table": np.arange(256, dtype=np.uint8)}, TensorProto.UINT8, "code", "answer")


def made(nodes: list[onnx.NodeProto], constants: dict[str, Any], kind: int, source: str = "x", target: str = "y") -> onnx.ModelProto:
    shape, used = [1, 32, 32, 32], {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info(source, kind, shape)],
        [helper.make_tensor_value_info(target, kind, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def network_files(name: str) -> tuple[dict[str, onnx.ModelProto], dict[str, float]]:
    """{form: ResNet-20}, and the precision of its logits against those of the float network in its plain form."""
    net = build("resnet20", activation=name, seed=0).eval()
    sample = images(64)
    files: dict[str, onnx.ModelProto] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, activations in ((BASE, "plain"), ("Exp", "fast")):
            path = export_onnx(net, torch.from_numpy(sample[:2]), Path(folder) / "net.onnx", activations=activations).path  # type: ignore[arg-type]
            model = onnx.load(str(path))
            prepared = prepare(model, path, activations=activations)  # type: ignore[arg-type]
            files[f"float: {form}"] = model
            files[f"8 bits: {form}"] = insert(prepared, min_max(prepared, [sample], file=path), METHODS[METHOD], model)
    files["8 bits: table"] = look_up(files["8 bits: Exp"])
    logits = {form: session(model, 1).run(None, {"input": sample})[0] for form, model in files.items()}
    exact = logits[f"float: {BASE}"]
    return files, {form: sqnr_db(exact, found) for form, found in logits.items() if found is not exact}


def images(batch: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((batch, 3, 32, 32)).astype(np.float32)


def session(model: onnx.ModelProto, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def call(opened: Any, x: NDArray[Any]) -> Call:
    entry = opened.get_inputs()[0].name
    return lambda: opened.run(None, {entry: x})


if __name__ == "__main__":
    sys.exit(main())
