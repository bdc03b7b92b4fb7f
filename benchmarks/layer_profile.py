"""Where the time of an ONNX file goes in ONNX Runtime: by kind of operator and by node of the graph that it executes."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

CALLS = {1: 300, 64: 40}
WARM_UP = 10


def profile(file: Path, batch: int, *, threads: int = 1, shape: tuple[int, ...] = (3, 32, 32)) -> dict[str, Any]:
    """Medians over the calls, microseconds: ``call``, the whole of it; ``nodes``, each executed node (name, kind, us) in order.

    ``call`` less the sum of the nodes is what the runtime itself takes, the profiler's own cost included: small nets at batch 1 look worse
    here than they are. Shares count, and times do not.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0].name
        images = np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
        for _ in range(WARM_UP + CALLS.get(batch, 40)):
            session.run(None, {entry: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
    calls = [event["dur"] for event in events if event.get("name") == "model_run"]
    nodes = [{"name": name, "kind": kind, "us": float(np.median(all_[WARM_UP:]))} for (name, kind), all_ in times.items()]
    kinds: dict[str, float] = defaultdict(float)
    for node in nodes:
        kinds[str(node["kind"])] += float(node["us"])  # type: ignore[arg-type]
    return {
        "batch": batch,
        "call_us": float(np.median(calls[WARM_UP:])),
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "nodes": nodes,
    }
