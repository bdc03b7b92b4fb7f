"""One-shot accuracy at equal measured latency, and what alignment costs and brings: ResNet-20 and ResNet-56 on CIFAR-10 (JPEG q75).

    GLEANET_DATA=DATA python benchmarks/pruning_latency.py WEIGHTS_FOLDER [resnet20 resnet56]

Equal MACs are not equal time. So each way of choosing channels is brought to the same measured time of the float network in ONNX Runtime
(one thread, batch 1, in turns with the unpruned network), within 2 % where its widths allow, and then judged on the 10,000 test images.
A second table holds the same budget of MACs at widths in blocks of 1, 2, 4 and 8, all files timed in turns. Written to
benchmarks/results/pruning_latency/NETWORK.json.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.core.records import LatencyTable, Preprocess
from gleanet.core.stats import wilson
from gleanet.data import Dataset, calibration, load, to_input
from gleanet.export import export_onnx
from gleanet.measure import latency
from gleanet.nn import build
from gleanet.pipeline.planning import latency_table, timed
from gleanet.prune import Grouping, Plan, carry_out, find_groups, importance, plan
from gleanet.prune.allocate import Allocation, allocate
from gleanet.prune.budget import CostModel
from gleanet.prune.latency import meet
from gleanet.prune.plan import make_plan
from gleanet.prune.sensitivity import weighed_residual_scores
from gleanet.train.evaluate import predict

RESULTS = Path(__file__).parent / "results" / "pruning_latency"
IMAGES, SEED, PIXELS = 1024, 0, Preprocess()
WITHIN = 0.02
EXAMPLE = torch.zeros(1, 3, 32, 32)
TARGETS = {"resnet20": (0.8, 0.65), "resnet56": (0.65,)}
METHODS: dict[str, tuple[str, Allocation]] = {
    "l2, uniform": ("l2", "uniform"),
    "residual, uniform": ("residual", "uniform"),
    "residual, by MACs": ("residual", "global"),
    "residual, by time": ("residual", "latency"),
}


def main() -> int:
    data = load("cifar10-jpeg")
    images = calibration(data.train, IMAGES, SEED)
    batches = list(torch.split(torch.from_numpy(to_input(images.pixels, PIXELS)), 128))
    for name in sys.argv[2:] or ["resnet20", "resnet56"]:
        net = build(name, weights=Path(sys.argv[1]) / f"{name}-jpeg.pt").eval()
        with tempfile.TemporaryDirectory() as folder:
            base = export_onnx(net, EXAMPLE, Path(folder) / "base.onnx").path
            table = latency_table(net, EXAMPLE, base=base)
            result = {
                "what": "accuracy after one-shot pruning at equal measured latency, and at equal MACs in blocks of several sizes",
                "settings": {"network": name, "images": IMAGES, "seed": SEED, "recycle": "features", "batch": 1, "threads": 1},
                "data": {"title": data.title, "test": len(data.test)},
                "base": judged(net, data),
                "equal_latency": equal_latency(net, base, table, batches, data, TARGETS[name]),
                "alignment": alignment(net, base, batches, data, Path(folder)),
                "versions": versions(),
                "machine": machine(),
            }
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_bytes(RESULTS / f"{name}.json", json.dumps(result, indent=1).encode() + b"\n")
    return 0


def judged(net: nn.Module, data: Dataset) -> dict[str, Any]:
    hits = predict(net, data.test.images, PIXELS).argmax(1) == data.test.labels
    found = wilson(int(hits.sum()), len(hits))
    return {"accuracy": found.value, "low": found.low, "high": found.high}


def equal_latency(
    net: nn.Module, base: Path, table: LatencyTable, batches: list[Tensor], data: Dataset, targets: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Every way at every target; the budget that is searched for is one of MACs, so that each way spends it as it would."""
    rows, grouping = [], find_groups(net, EXAMPLE)
    scores = {
        "l2": importance.scores(grouping.groups, net, importance.l2, SEED),
        "residual": weighed_residual_scores(net, grouping, batches, seed=SEED),
    }
    for target in targets:
        for method, (criterion, allocation) in METHODS.items():
            at = _planner(grouping, table, scores[criterion], criterion, allocation)
            chosen, ratio = meet(at, target, timed(net, EXAMPLE, base), within=WITHIN)
            small = carry_out(net, chosen, calibration=batches, seed=SEED)
            rows.append(
                {"method": method, "target": target, "measured": ratio, "macs": chosen.macs_after / chosen.macs_before,
                 "params": chosen.params_after, "widths": [len(part.keep) for part in chosen.groups], **judged(small, data)}
            )  # fmt: skip
            sys.stderr.write(f"{method} at {target}: {ratio:.3f} of the time, {rows[-1]['macs']:.3f} of the MACs, {rows[-1]['accuracy']}\n")
    return rows


def _planner(
    grouping: Grouping, table: LatencyTable, scores: dict[str, Tensor], criterion: str, allocation: Allocation
) -> Callable[[float], Plan]:
    """Plans for a budget of MACs from scores that are known: they need not be found again for each try."""
    cost, ranked = CostModel(grouping), {name: score.numpy() for name, score in scores.items()}

    def at(goal: float) -> Plan:
        widths = allocate(
            cost, ranked, target=goal, kind=allocation, align=8, floor=0.1, comparable=criterion == "residual", table=table
        )  # fmt: skip
        keep = {name: tuple(sorted((-score).argsort(kind="stable")[: widths[name]].tolist())) for name, score in ranked.items()}
        return make_plan(grouping, cost, keep, criterion=criterion, allocation=allocation, align=8, target=goal, table=table)

    return at


def alignment(net: nn.Module, base: Path, batches: list[Tensor], data: Dataset, folder: Path) -> list[dict[str, Any]]:
    files, rows = {"unpruned": base}, []
    for align in (1, 2, 4, 8):
        chosen = plan(net, EXAMPLE, flops=0.5, align=align, calibration=batches, seed=SEED)
        small = carry_out(net, chosen, calibration=batches, seed=SEED)
        files[str(align)] = export_onnx(small, EXAMPLE, folder / f"align{align}.onnx").path
        rows.append({"align": align, "widths": [len(part.keep) for part in chosen.groups], **judged(small, data)})
    times = latency(list(files.values()), batches=(1, 64), seconds=2.0)
    whole = [asdict(each) for each in times[base]]
    for row in rows:
        row["latencies"] = [asdict(each) for each in times[files[str(row["align"])]]]
        row["unpruned"] = whole
    return rows


if __name__ == "__main__":
    sys.exit(main())
