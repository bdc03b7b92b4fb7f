"""Olive's search over ONNX Runtime's quantization for the CPU: its pass ``OnnxQuantization`` with the search space that it has by default.

    OLIVE_DISABLE_TELEMETRY=1 RIVALS_PYTHON benchmarks/rivals/olive_search.py MODEL.onnx CALIBRATION.npy IMAGES.npy LABELS.npy OUT_FOLDER
        [--max-drop 1.0]

CALIBRATION.npy and IMAGES.npy: float32 [N, C, H, W]; LABELS.npy: int64 [N]. As asked of our own choice: the fastest at batch 1 on one
thread among those that lose at most ``--max-drop`` points (latency first, accuracy bounded by a goal). The sampler ``sequential`` goes
through the whole space: 88 points (16 dynamic, 72 static; the 24 of QOperator with int8 are marked as invalid and skipped).
``result.json``: seconds, every point with its metrics, the chosen file.

What Olive 0.13.0 needed: the package ``requests``, which it imports and does not list; a ``type`` in the evaluator's configuration (without
one, its search for file names in the configuration fails: ``None is not a valid ResourceType``); and ``max_samples`` of a sampler has no
effect (it is lost on the way from the configuration to the sampler), so a shorter search than the whole space cannot be asked for. A
dynamic point comes up once for every value of the static parameters that it ignores; each repetition is logged as failed (an error in
Olive's own records, ``"FootprintNode" object has no field "model_config"``), costs next to nothing, and changes no result.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olive.data.registry import Registry
from olive.workflows import run as olive_run

BATCH = 64
SEARCHED = (
    "quant_mode",
    "precision",
    "activation_type",
    "per_channel",
    "reduce_range",
    "quant_preprocess",
    "calibrate_method",
    "quant_format",
)
CPU = {
    "type": "LocalSystem",
    "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "calibration", "images", "labels", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--max-drop", type=float, default=1.0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings, failures = workflow(given), Failures()
    logging.getLogger("olive").addHandler(failures)
    begin = time.perf_counter()
    found = olive_run(settings)
    seconds = time.perf_counter() - begin
    best = found.get_best_candidate() if found is not None and found.has_output_model() else None
    result = {
        "seconds": seconds,
        "file": None if best is None else str(best.model_path),
        "chosen": None if best is None else {"metrics": best.metrics_value, "id": best.model_id},
        "points": points(given.out / "footprint.json"),
        "failures": failures.counts,
        "workflow": settings,
        "versions": {"olive-ai": version("olive-ai"), "onnxruntime": version("onnxruntime")},
    }
    (given.out / "result.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    return 0


def workflow(given: argparse.Namespace) -> dict[str, Any]:
    """The workflow as Olive's guide writes it: nothing is said about the pass but its data, so that its whole default space is searched."""
    return {
        "input_model": {"type": "OnnxModel", "model_path": str(given.model)},
        "systems": {"local_system": CPU},
        "data_configs": [
            data("calibration", given.calibration, None, BATCH),
            data("evaluation", given.images, given.labels, BATCH),
            data("single", given.images, given.labels, 1),
        ],
        "evaluators": {"both": {"type": "OnnxEvaluator", "metrics": [latency(), accuracy(given.max_drop)]}},
        "passes": {"quantize": {"type": "OnnxQuantization", "data_config": "calibration"}},
        "search_strategy": {"execution_order": "joint", "sampler": "sequential"},
        "evaluator": "both",
        "host": "local_system",
        "target": "local_system",
        "cache_dir": str(given.out / "cache"),
        "output_dir": str(given.out),
        "evaluate_input_model": True,
        "log_severity_level": 2,
    }


def data(name: str, images: Path, labels: Path | None, batch: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "DataContainer",
        "load_dataset_config": {"type": "image_arrays", "images": str(images), "labels": None if labels is None else str(labels)},
        "dataloader_config": {"batch_size": batch},
        "post_process_data_config": {"type": "top1"},
    }


def latency() -> dict[str, Any]:
    one_thread = {"onnx": {"session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}}
    return {
        "name": "latency",
        "type": "latency",
        "data_config": "single",
        "sub_types": [{"name": "avg", "priority": 1}],
        "user_config": {"inference_settings": one_thread},
    }


def accuracy(max_drop: float) -> dict[str, Any]:
    goal = {"type": "max-degradation", "value": max_drop / 100}
    task = {"task": "multiclass", "num_classes": 10}
    return {
        "name": "accuracy",
        "type": "accuracy",
        "data_config": "evaluation",
        "sub_types": [{"name": "accuracy_score", "priority": 2, "metric_config": task, "goal": goal}],
    }


@Registry.register_dataset("image_arrays")  # type: ignore[untyped-decorator]
def image_arrays(images: str, labels: str | None, **settings: Any) -> "Images":
    return Images(np.load(images), None if labels is None else np.load(labels))


@Registry.register_post_process("top1")  # type: ignore[untyped-decorator]
def top1(logits: torch.Tensor, **settings: Any) -> torch.Tensor:
    return logits.argmax(dim=1)


def points(footprint: Path) -> list[dict[str, Any]]:
    """Every model that the search made: what the pass was told, what was measured, how long it took."""
    if not footprint.is_file():
        return []
    nodes = json.loads(footprint.read_text(encoding="utf-8"))
    nodes = nodes.get("nodes", nodes)
    return [
        {
            "id": node["model_id"],
            "pass": {name: value for name, value in (node.get("pass_run_config") or {}).items() if name in SEARCHED},
            "seconds": (node.get("end_time") or 0) - (node.get("start_time") or 0),
            "metrics": {name: each["value"] for name, each in ((node.get("metrics") or {}).get("value") or {}).items()},
        }
        for node in nodes.values()
    ]


class Failures(logging.Handler):
    """Counts what Olive only logs: points that it could not run, by the error they ended with."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self.counts[f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"] += 1


class Images(torch.utils.data.Dataset[Any]):
    """(``{"input": image}``, label) pairs; label 0 where there are none."""

    def __init__(self, images: Any, labels: Any) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        return {"input": self.images[index]}, 0 if self.labels is None else int(self.labels[index])


if __name__ == "__main__":
    sys.exit(main())
