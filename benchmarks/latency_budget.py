"""Latency budgets on this machine: what was planned, what was measured, how long the table took.

    python benchmarks/latency_budget.py [resnet20 resnet56]

Weights are random: a time does not depend on them. What the inner widths of blocks do not reach is planned with the residual widths too.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

import gleanet as gn
from gleanet.core.progress import SILENT
from gleanet.pipeline.planning import timed
from gleanet.prune import find_groups, least_part

TARGETS = (0.7, 0.6, 0.5)


def check(name: str) -> None:
    """Print one line for each target of one network."""
    net, x = gn.build(name, seed=0), torch.zeros(1, 3, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        base = gn.export_onnx(net, x, Path(folder) / "base.onnx").path
        tables, least = {}, {}
        for residual in (False, True):
            start = time.perf_counter()
            tables[residual] = gn.latency_table(net, x, residual=residual, base=base)
            least[residual] = least_part(
                find_groups(net, x, residual=residual), bound="latency", align=8, floor=0.1, table=tables[residual]
            )
            print(
                f"{name} residual={residual}: table in {time.perf_counter() - start:.1f} s, {tables[residual].repeats} rounds, "
                f"base {tables[residual].base_ms:.3f} ms, least {least[residual]:.3f}"
            )
        for target in TARGETS:
            residual = least[False] > target
            if least[residual] > target:
                print(f"{name} --latency {target}: out of reach, the least is {least[residual]:.3f}")
                continue
            made = gn.plan(
                net, x, latency=target, allocation="global", residual=residual, table=tables[residual],
                timed=timed(net, x, base, progress=SILENT),
            )  # fmt: skip
            predicted = (made.ms_after or 0) / (made.ms_before or 1)
            print(
                f"{name} --latency {target}: measured {made.measured:.3f} (planned {predicted:.3f}), MACs "
                f"{made.macs_after / made.macs_before:.3f}, residual={residual}"
            )


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ("resnet20", "resnet56"):
        check(chosen)
