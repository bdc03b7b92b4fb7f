"""Factors of sensitivity: what a group's errors become at the outputs, measured on the real thing."""

import pytest
import torch
from torch import nn

from gleanet.nn import build
from gleanet.prune import carry_out, find_groups, least_squares
from gleanet.prune.budget import CostModel
from gleanet.prune.plan import make_plan
from gleanet.prune.residual import input_moments, residual_scores
from gleanet.prune.sensitivity import weigh
from tests.prune.nets import KINDS, NETS, images, lively, logits


@pytest.mark.parametrize("groups", [1, 2])
def test_half_a_groups_weighed_scores_are_the_outputs_error_when_half_of_it_is_pruned(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last layer reads the group, so pruning and refitting it is all that happens; relative to the variance of centred logits."""
    monkeypatch.setattr(least_squares, "RIDGE", 1e-10)
    net = lively(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Conv2d(8, 6, 10, groups=groups), nn.Flatten()))
    x, grouping = images(900), find_groups(net, images(1))
    moments = input_moments(net, grouping, [x], 0)
    score = residual_scores(net, grouping, [x], moments=moments)
    weighed = weigh(net, grouping, score, moments, [x])
    for group in grouping.groups:
        order = score[group.name].argsort(descending=True)
        kept, gone = order[: group.channels // 2], order[group.channels // 2 :]
        keep = {group.name: tuple(sorted(kept.tolist()))}
        plan = make_plan(grouping, CostModel(grouping), keep, criterion="none", allocation="none", align=1, target=1.0)
        small = carry_out(net, plan, calibration=[x], grouping=grouping)
        one, two = ((out - out.mean(1, keepdim=True)).detach() for out in (logits(net, x[:256]), logits(small, x[:256])))
        expected = (two - one).square().sum() / (one - one.mean(0)).square().sum()
        torch.testing.assert_close(weighed[group.name][gone].sum(), expected, rtol=1e-3, atol=0.0)
        torch.testing.assert_close(weighed[group.name] / weighed[group.name].sum(), score[group.name] / score[group.name].sum())


@pytest.mark.parametrize("name", KINDS)
def test_the_network_is_left_alone_and_every_score_is_a_positive_number(name: str) -> None:
    net = lively(NETS[name]())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    batches, grouping = [images(24, seed=7), images(16, seed=8)], find_groups(net, images(1), residual=True)
    moments = input_moments(net, grouping, batches, 0)
    weighed = weigh(net, grouping, residual_scores(net, grouping, batches, moments=moments), moments, batches)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert weighed.keys() == {group.name for group in grouping.groups}
    assert all(bool(torch.isfinite(score).all()) and float(score.min()) >= 0 for score in weighed.values())


def test_a_group_nearer_to_a_quiet_output_counts_less() -> None:
    """Two equal branches, one of which reaches the logits ten times weaker: its errors are worth a hundredth."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
            self.two.load_state_dict(self.one.state_dict())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.one(x), 0.1 * self.two(x)], 1).mean((2, 3))

    net = Branches().eval().double()
    x, grouping = images(40), find_groups(net, images(1))
    moments = input_moments(net, grouping, [x], 0)
    weighed = weigh(net, grouping, residual_scores(net, grouping, [x], moments=moments), moments, [x])
    assert 50 < float(weighed["one.0"].sum() / weighed["two.0"].sum()) < 200


def test_a_group_that_costs_nothing_is_worth_nothing() -> None:
    net = lively(build("resnet8", seed=0))
    with torch.no_grad():
        net.get_parameter("layer1.0.conv2.weight").zero_()
    x, grouping = images(40), find_groups(net, images(1))
    moments = input_moments(net, grouping, [x], 0)
    weighed = weigh(net, grouping, residual_scores(net, grouping, [x], moments=moments), moments, [x])
    assert float(weighed["layer1.0.conv1"].sum()) < 1e-9 < float(weighed["layer2.0.conv1"].sum())
