"""Criteria against loops over channels."""

import itertools

import torch
from torch import nn

from gleanet.prune import CRITERIA, Group, GroupTensors, find_groups
from gleanet.prune.importance import scores
from gleanet.prune.layers import TRANSPOSED
from tests.prune.nets import Chain, Grouped, OptionB, UpAndDown, images, lively

NETS = (Chain(), OptionB(), Grouped(), UpAndDown())


def rows(net: nn.Module, group: Group, path: str, channel: int) -> torch.Tensor:
    """All weights that write to a channel, read off the layer's own layout."""
    module = net.get_submodule(path)
    weight = module.get_parameter("weight").detach()
    if isinstance(module, TRANSPOSED) and module.groups == 1:
        weight = weight.transpose(0, 1)
    member = next(m for m in group.producers() if m.path == path)
    return torch.cat([weight[position].flatten() for position in member.index[channel]])


def loops(net: nn.Module, group: Group, name: str) -> torch.Tensor:
    result = torch.zeros(group.channels, dtype=torch.float64)
    for member, channel in itertools.product(group.producers(), range(group.channels)):
        own = rows(net, group, member.path, channel)
        if name == "l1":
            result[channel] += sum(abs(float(w)) for w in own)
        elif name == "l2":
            result[channel] += sum(float(w) ** 2 for w in own) ** 0.5
        else:
            others = [rows(net, group, member.path, other) for other in range(group.channels)]
            result[channel] += sum(float((own - other).norm()) for other in others)
    return result


def test_norms_and_distances() -> None:
    for net in NETS:
        lively(net)
        for group in find_groups(net, images(1), residual=True).groups:
            for name in ("l1", "l2", "fpgm"):
                found = CRITERIA[name](GroupTensors(group, net, torch.Generator()))
                torch.testing.assert_close(found, loops(net, group, name), rtol=1e-6, atol=1e-6)


def test_batch_norm_scale() -> None:
    net = lively(OptionB())
    named = find_groups(net, images(1), residual=True).named()
    stem = CRITERIA["bn_scale"](GroupTensors(named["stem.0"], net, torch.Generator()))
    norms = [net.get_submodule(path).get_parameter("weight").abs() for path in ("stem.1", "stages.0.body.2", "stages.1.body.2")]
    torch.testing.assert_close(stem, sum(norms), check_dtype=False)
    grouped = lively(Grouped())
    tied = CRITERIA["bn_scale"](GroupTensors(find_groups(grouped, images(1)).named()["stem.0"], grouped, torch.Generator()))
    torch.testing.assert_close(tied, grouped.get_submodule("stem.1").get_parameter("weight").abs().reshape(4, 4).mean(0))


def test_without_batch_norm_the_scale_is_the_norm() -> None:
    net = lively(Chain(norm=False))
    for group in find_groups(net, images(1)).groups:
        tensors = GroupTensors(group, net, torch.Generator())
        assert torch.equal(CRITERIA["bn_scale"](tensors), CRITERIA["l2"](tensors))


def test_random_scores_come_from_the_seed() -> None:
    net = lively(Chain())
    groups, draw = find_groups(net, images(1)).groups, torch.get_rng_state()
    one, same, other = (scores(groups, net, CRITERIA["random"], seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in one)
    assert all(float(score.min()) >= 0 and float(score.max()) < 1 for score in one.values())
    assert torch.equal(torch.get_rng_state(), draw)
