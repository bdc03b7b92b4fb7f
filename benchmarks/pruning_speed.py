"""Time of pruning ResNet-50 to half its MACs, from the network to a smaller one: gleanet against Torch-Pruning, interleaved.

    python benchmarks/pruning_speed.py --rounds 9

Each round runs both, in alternating order, in one process on one thread: finding groups, choosing channels (filter norms, uniform), and
removing them, for inner widths only and for all widths. What favours Torch-Pruning: it prunes in place, and the copy it needs for that
is not timed, where ours makes its own; and the ratio that brings it to half the MACs is searched before, where ours finds widths for the
budget inside the measurement, and checks that the result runs. Written to benchmarks/results/pruning_speed.json.
"""

import argparse
import copy
import gc
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch_pruning
from torch import nn

from gleanet.core.files import write_bytes
from gleanet.core.host import machine, versions
from gleanet.nn import build, cost
from gleanet.prune import apply, find_groups, plan

RESULT = Path(__file__).parent / "results" / "pruning_speed.json"
TARGET, ALIGN = 0.5, 8
Stages = dict[str, float]


def gleanet_prunes(net: nn.Module, example: torch.Tensor, residual: bool) -> tuple[nn.Module, Stages]:
    marks = [time.perf_counter()]
    grouping = find_groups(net, example, residual=residual)
    marks.append(time.perf_counter())
    chosen = plan(
        net, example, flops=TARGET, criterion="l2", allocation="uniform", align=ALIGN, residual=residual, grouping=grouping
    )  # fmt: skip
    marks.append(time.perf_counter())
    small = apply(net, chosen, grouping=grouping)
    marks.append(time.perf_counter())
    return small, {"groups": marks[1] - marks[0], "plan": marks[2] - marks[1], "removal": marks[3] - marks[2]}


def torch_pruning_prunes(net: nn.Module, example: torch.Tensor, residual: bool, ratio: float) -> tuple[nn.Module, Stages]:
    small = copy.deepcopy(net)
    inner = (".conv1", ".conv2")
    convs = [(path, module) for path, module in small.named_modules() if isinstance(module, nn.Conv2d)]
    kept = [small.get_submodule("fc"), *(module for path, module in convs if not residual and not path.endswith(inner))]
    marks = [time.perf_counter()]
    pruner: Any = torch_pruning.pruner.MagnitudePruner(
        small, example, importance=torch_pruning.importance.MagnitudeImportance(p=2), pruning_ratio=ratio, ignored_layers=kept,
        round_to=ALIGN,
    )  # fmt: skip
    marks.append(time.perf_counter())
    pruner.step()
    marks.append(time.perf_counter())
    return small, {"groups": marks[1] - marks[0], "plan and removal": marks[2] - marks[1]}


def ratio_for(net: nn.Module, example: torch.Tensor, residual: bool) -> float:
    """The ratio, in steps of 0.02, that brings Torch-Pruning closest to the target."""
    whole = cost(net, example).macs
    tried = {r / 100: cost(torch_pruning_prunes(net, example, residual, r / 100)[0], example).macs for r in range(20, 50, 2)}
    return min(tried, key=lambda ratio: abs(tried[ratio] / whole - TARGET))


def compare(net: nn.Module, example: torch.Tensor, residual: bool, rounds: int) -> dict[str, Any]:
    ratio = ratio_for(net, example, residual)
    ways = {
        "gleanet": lambda: gleanet_prunes(net, example, residual),
        "torch-pruning": lambda: torch_pruning_prunes(net, example, residual, ratio),
    }
    stages: dict[str, list[Stages]] = {way: [] for way in ways}
    kept = {}
    for number in range(rounds + 1):
        for way in ways if number % 2 else reversed(ways):
            gc.collect()
            small, times = ways[way]()
            kept[way] = cost(small, example).macs / cost(net, example).macs
            stages[way].append(times)
    seconds = {way: [sum(times.values()) for times in found[1:]] for way, found in stages.items()}  # the first round warms up
    each = [ours / theirs for ours, theirs in zip(seconds["gleanet"], seconds["torch-pruning"], strict=True)]
    return {
        "macs_kept": kept,
        "torch_pruning_ratio": ratio,
        "median_seconds": {way: median(times) for way, times in seconds.items()},
        "median_seconds_by_stage": {
            way: {stage: median(times[stage] for times in found[1:]) for stage in found[0]} for way, found in stages.items()
        },
        "gleanet_over_torch_pruning": {"median": median(each), "lowest": min(each), "highest": max(each), "rounds": rounds},
        "seconds": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", choices=["resnet50"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pixels", type=int, default=224)
    settings = parser.parse_args()
    warnings.simplefilter("ignore")  # of the other tool
    torch.set_num_threads(1)
    net = build(settings.model, seed=0).eval()
    example = torch.randn(1, 3, settings.pixels, settings.pixels, generator=torch.Generator().manual_seed(0))
    widths = {name: compare(net, example, residual, settings.rounds) for name, residual in (("inner widths", False), ("all widths", True))}
    result = {
        "what": "time from a network to one with half the MACs: groups, choice of channels, removal; one process, interleaved",
        "settings": {**vars(settings), "target": TARGET, "align": ALIGN, "threads": 1, "seed": 0},
        "widths": widths,
        "versions": {**versions(), "torch-pruning": version("torch-pruning")},
        "machine": machine(),
    }
    write_bytes(RESULT, json.dumps(result, indent=2).encode() + b"\n")
    for name, found in widths.items():
        seconds, over = found["median_seconds"], found["gleanet_over_torch_pruning"]
        sys.stdout.write(
            f"{name}: gleanet {seconds['gleanet']:.3f} s, Torch-Pruning {seconds['torch-pruning']:.3f} s, ratio {over['median']:.2f} "
            f"({over['lowest']:.2f} to {over['highest']:.2f})\n"
        )
    sys.stdout.write(f"-> {RESULT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
