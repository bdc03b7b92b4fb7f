"""One-shot pruning in one call."""

import copy

import pytest
import torch

from gleanet.core.errors import BudgetError, ModelError, SettingsError
from gleanet.core.settings import Allocation, Recycle
from gleanet.nn import build, cost
from gleanet.prune import Member, apply, carry_out, find_groups, plan, prune
from gleanet.prune.collect import recycle_weights
from tests.prune.nets import KINDS, NETS, Grouped, OptionB, UpAndDown, images, lively, logits

X = images(1)
CALIBRATION = [images(16)]


def test_it_is_a_plan_carried_out() -> None:
    net = lively(build("resnet8", seed=0))
    for recycle in ("none", "weights", "similarity", "features"):
        small = prune(net, X, flops=0.5, criterion="l1", recycle=recycle, calibration=CALIBRATION)
        chosen = plan(net, X, flops=0.5, criterion="l1")
        other = carry_out(net, chosen, recycle=recycle, calibration=CALIBRATION)
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in small.state_dict().items())
        assert cost(small, X).macs == chosen.macs_after


def test_weights_are_recycled_before_the_channels_go() -> None:
    net = lively(build("resnet8", seed=0))
    chosen, mixed = plan(net, X, flops=0.5), copy.deepcopy(net)
    recycle_weights(mixed, chosen, find_groups(mixed, X))
    expected, small = apply(mixed, chosen), prune(net, X, flops=0.5, recycle="weights")
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in small.state_dict().items())


def test_defaults_follow_from_the_calibration_images() -> None:
    net = lively(build("resnet8", seed=0))
    defaults: tuple[tuple[Allocation, Recycle], ...] = (("uniform", "similarity"), ("global", "none"))
    for allocation, recycle in defaults:
        plain = prune(net, X, flops=0.5, allocation=allocation)
        same = prune(net, X, flops=0.5, criterion="l2", allocation=allocation, recycle=recycle)
        assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in plain.state_dict().items())
    looked = prune(net, X, flops=0.5, calibration=(batch for batch in CALIBRATION))  # an iterator is read once
    given = prune(net, X, flops=0.5, criterion="residual", allocation="global", recycle="features", calibration=CALIBRATION)
    assert all(torch.equal(tensor, given.state_dict()[name]) for name, tensor in looked.state_dict().items())


@pytest.mark.parametrize("net", [build("resnet8", seed=0), OptionB(), Grouped(), UpAndDown()])
def test_weights_are_mixed_once_by_the_groups_norms(net: torch.nn.Module) -> None:
    net = lively(net)
    grouping = find_groups(net, X, residual=True)
    chosen = plan(net, X, flops=0.6, align=1, residual=True)
    mixed = copy.deepcopy(net)
    recycle_weights(mixed, chosen, grouping, strength=0.5)
    known = grouping.named()
    for part in chosen.groups:
        group, drop = known[part.name], part.drop()
        if not drop:
            continue
        norms = sum(torch.linalg.vector_norm(_rows(net, member), dim=1) for member in group.producers())
        assert isinstance(norms, torch.Tensor)
        for member in group.producers():
            before, after = (_rows(which, member) for which in (net, mixed))
            collector = sum(norms[i] / norms[list(drop)].sum() * before[i] for i in drop)
            for j in part.keep:
                torch.testing.assert_close(after[j], before[j] + 0.5 * norms[j] / norms[list(part.keep)].max() * collector)
            assert torch.equal(after[list(drop)], before[list(drop)])


def _rows(net: torch.nn.Module, member: Member) -> torch.Tensor:
    module = net.get_submodule(member.path)
    weight = module.get_parameter("weight").detach()
    if isinstance(module, torch.nn.ConvTranspose2d) and module.groups == 1:
        weight = weight.transpose(0, 1)
    return torch.stack([weight[list(positions)].flatten() for positions in member.index])


@pytest.mark.parametrize("recycle", ["none", "weights", "similarity", "features"])
@pytest.mark.parametrize("name", KINDS)
def test_every_network_with_every_way(name: str, recycle: str) -> None:
    """At align 1 and with residual widths; the result runs, costs what was asked for, and the original is as it was."""
    net = lively(NETS[name]()).train()
    before, draw = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    small = prune(net, X, flops=0.75, align=1, residual=True, criterion="residual", recycle=recycle, calibration=CALIBRATION)  # type: ignore[arg-type]
    assert cost(small, X).macs <= 0.75 * cost(net, X).macs
    assert bool(torch.isfinite(logits(small.eval(), images(2))).all())
    assert net.training
    assert torch.equal(torch.get_rng_state(), draw)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_what_cannot_be_done_is_said_in_one_line() -> None:
    net = lively(build("resnet8", seed=0))
    with pytest.raises(SettingsError, match="recycle='features' refits layers on images"):
        prune(net, X, flops=0.5, recycle="features")
    with pytest.raises(SettingsError, match="unknown recycle 'all'"):
        prune(net, X, flops=0.5, recycle="all")  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="cannot be reached"):
        prune(net, X, flops=0.01)
    with pytest.raises(ModelError, match="cannot run"):
        prune(net, torch.zeros(1, 1, 12, 12, dtype=torch.float64), flops=0.5)
    with pytest.raises(SettingsError, match="for another network"):
        carry_out(lively(OptionB()), plan(net, X, flops=0.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_another_device() -> None:
    """Everything stays on the network's device, and gives what the CPU gives."""
    for name, make in NETS.items():
        net = lively(make())
        expected = prune(net, X, flops=0.75, align=1, residual=True, calibration=CALIBRATION)
        there = prune(net.cuda(), X.cuda(), flops=0.75, align=1, residual=True, calibration=CALIBRATION)
        assert all(tensor.is_cuda for tensor in there.state_dict().values()), name
        for criterion in ("taylor", "activation"):
            given = prune(net, X.cuda(), flops=0.75, align=1, criterion=criterion, recycle="similarity", calibration=CALIBRATION)
            assert all(tensor.is_cuda for tensor in given.state_dict().values()), name
        torch.testing.assert_close(logits(there, images(2).cuda()).cpu(), logits(expected, images(2)), rtol=1e-6, atol=1e-6, msg=name)
