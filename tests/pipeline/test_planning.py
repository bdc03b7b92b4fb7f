"""Latency budgets on a real machine: which widths are measured and pruned, not how fast they are."""

from pathlib import Path

import torch

from gleanet.core.settings import Pruning
from gleanet.data import load
from gleanet.export import export_onnx
from gleanet.nn import build
from gleanet.pipeline.planning import latency_table, planned, without_times
from gleanet.pipeline.subject import Subject
from gleanet.prune import find_groups, least_part


def test_a_latency_out_of_reach_of_inner_widths_takes_the_residual_ones_too(tmp_path: Path) -> None:
    """The target lies half-way between the least with and without them, far from both."""
    target = Subject(build("resnet8", seed=0), load("digits"), torch.device("cpu"))
    base = export_onnx(target.net, target.example, tmp_path / "base.onnx").path
    least = []
    for residual in (False, True):
        grouping = find_groups(target.net, target.example, residual=residual)
        table = latency_table(target.net, target.example, residual=residual, base=base)
        least.append(least_part(grouping, bound="latency", align=8, floor=0.1, table=table))
    assert least[1] < least[0] - 0.05
    pruning = Pruning(latency=sum(least) / 2, criterion="l2", allocation="global")
    images = torch.zeros(2, *target.example.shape[1:])
    made, table_used = planned(pruning, target, [images], base=base, threads=1, seed=0)
    assert made.residual
    assert any(part.name == "conv1" and len(part.keep) < part.channels for part in made.groups)
    assert table_used is not None
    assert {path: times.outs for times in table_used.layers for path in times.layers}["conv1"] == (4, 8, 12, 16)
    assert made.measured is not None
    assert 0 < made.measured < 1
    assert "ms" not in without_times(made)


def test_other_budgets_measure_nothing_without_a_file() -> None:
    target = Subject(build("resnet8", seed=0), load("digits"), torch.device("cpu"))
    made, table = planned(Pruning(params=0.5, criterion="l2"), target, [target.example], base=None, threads=1, seed=0)
    assert table is None
    assert (made.bound, made.residual, made.ms_after) == ("params", False, None)
