"""Every budget, whatever it bounds: met within 1 % from below, or refused with the least that can be reached."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gleanet as gn
from gleanet.core.errors import BudgetError
from gleanet.prune import find_groups, least_part, plan
from gleanet.prune.budget import CostModel
from gleanet.prune.quantity import quantity
from tests.prune.nets import images, lively
from tests.prune.test_budget import BUDGETED, EXAMPLE


@pytest.mark.parametrize("align", [8, 1])
@pytest.mark.parametrize("bound", ["params", "bytes"])
@pytest.mark.parametrize("name", BUDGETED)
def test_the_budget_is_met_from_below_or_the_least_is_named(name: str, bound: str, align: int) -> None:
    net = BUDGETED[name]()
    for residual in (False, True):
        grouping = find_groups(net, EXAMPLE, residual=residual)
        for allocation in ("uniform", "global"):
            for target in (0.3, 0.5, 0.7):
                settings = {bound: target, "allocation": allocation, "align": align, "residual": residual, "grouping": grouping}
                try:
                    made = plan(net, EXAMPLE, **settings)  # type: ignore[arg-type]
                except BudgetError as error:
                    least = float(str(error).split("the least is ")[1].split(" ")[0].strip(";"))
                    assert target < least_part(grouping, bound=bound, align=align, floor=0.1) <= least  # type: ignore[arg-type]
                    reached = plan(net, EXAMPLE, **{**settings, bound: least})  # type: ignore[arg-type]
                    assert part(reached, bound) <= least
                else:
                    assert target - 0.01 <= part(made, bound) <= target
                    assert (made.bound, made.target) == (bound, target)


def part(made: gn.Plan, bound: str) -> float:
    if bound == "params":
        return made.params_after / made.params_before
    assert made.bytes_before is not None
    assert made.bytes_after is not None
    return made.bytes_after / made.bytes_before


def test_what_is_counted_is_the_pruned_network() -> None:
    net = gn.build("resnet20", seed=0)
    made = plan(net, EXAMPLE, params=0.5)
    assert made.params_after == gn.cost(gn.apply(net, made), EXAMPLE).params <= 0.5 * gn.cost(net, EXAMPLE).params


def test_more_than_one_is_a_size_in_bytes() -> None:
    net = gn.build("resnet20", seed=0)
    half = plan(net, EXAMPLE, bytes=0.5)
    assert half.bytes_before is not None
    assert plan(net, EXAMPLE, bytes=half.bytes_before / 2) == half
    assert plan(net, EXAMPLE, bytes=1e9).groups == plan(net, EXAMPLE, flops=1.0).groups
    with pytest.raises(BudgetError, match=r"bytes of the 8-bit file cannot be reached: .* the least is 0\.\d+ \([\d,]+ bytes\)"):
        plan(net, EXAMPLE, bytes=20_000)


@pytest.mark.slow
@pytest.mark.parametrize("target", [1.0, 0.5])
@pytest.mark.parametrize("name", ["resnet20", "vgg", "mobilenet-v2", "bottleneck"])
def test_the_quantized_file_is_as_large_as_estimated_and_no_larger(name: str, target: float, tmp_path: Path) -> None:
    """Within 4 %, also on files of 36 kB, and never more than was allowed."""
    net = lively(BUDGETED[name](), dtype=torch.float32)
    made = plan(net, EXAMPLE, bytes=target)
    gn.export_onnx(gn.apply(net, made), EXAMPLE, tmp_path / "net.onnx")
    x = images(8, dtype=torch.float32).numpy()
    labels = np.zeros(8, dtype=np.int64)
    file = tmp_path / "q.onnx"
    gn.quantize(
        tmp_path / "net.onnx",
        calibration=[x],
        evaluate=[(x, labels)],
        method="u8s8-channel",
        max_drop=100,
        out=tmp_path / "q.onnx",
        batches=(1,),
    )
    actual = file.stat().st_size
    assert made.bytes_after is not None
    assert made.bytes_before is not None
    assert 0.96 * made.bytes_after <= actual <= made.bytes_after
    assert actual <= target * made.bytes_before


def test_the_price_of_a_width_is_the_amount_with_the_other_groups_whole() -> None:
    cost = CostModel(find_groups(gn.build("resnet20", seed=0), EXAMPLE))
    name = "layer3.0.conv1"
    for bound, of in (("flops", cost.macs), ("params", cost.params), ("bytes", cost.int8_bytes)):
        price = quantity(cost, bound).price  # type: ignore[arg-type]
        assert [price(name, width) for width in (64, 56, 7)] == [of({name: width}) for width in (64, 56, 7)]
