"""FCR with ``recycle="features"``, its default: one-shot pruning inside the loop, from the loop's own images."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import BudgetError
from gleanet.nn import build
from gleanet.prune import FCR, find_groups, plan, prune
from tests.prune.nets import NETS, Head, MobileNetV2, OptionB, conv, images, lively, logits

X = images(1)


def begin(**settings: Any) -> tuple[nn.Module, FCR, torch.optim.Optimizer]:
    net = build("resnet8", seed=0).double().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
    return net, FCR(net, X, **{"flops": 0.5, "total_steps": 12, "images": 20, "align": 1, **settings}), optimizer


def training(net: nn.Module, fcr: FCR, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        optimizer.zero_grad()
        F.cross_entropy(net(images(8, seed=step)), torch.arange(8) % 5).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fcr.step()


def test_the_event_is_one_shot_pruning_of_the_network_at_that_step() -> None:
    """The same plan, and the same function, as ``prune`` gives on the images that the loop has shown by then."""
    net, fcr, optimizer = begin()
    training(net, fcr, optimizer, 0, 2)
    assert fcr.state_dict()["refitted"] is False
    shown = torch.cat([images(8, seed=step) for step in range(3)])[:20]
    optimizer.zero_grad()
    F.cross_entropy(net(images(8, seed=2)), torch.arange(8) % 5).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    before = copy.deepcopy(net)
    fcr.step()
    assert fcr.frozen
    batches = [shown[:8], shown[8:16], shown[16:]]
    assert fcr.plan == plan(before, X, flops=0.5, align=1, calibration=batches)
    expected = prune(before.eval(), X, flops=0.5, align=1, calibration=batches)
    x = images(6, seed=99)
    torch.testing.assert_close(logits(net.eval(), x), logits(expected, x), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("net", [OptionB(), MobileNetV2(), *(NETS[name]() for name in ("grouped", "dense", "parts", "fire"))])
def test_finish_is_exact(net: nn.Module) -> None:
    net = lively(net).train()
    fcr = FCR(net, X, flops=0.6, total_steps=6, images=16, residual=True, align=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for step in range(6):
        optimizer.zero_grad()
        net(images(8, seed=step)).square().mean().backward()
        optimizer.step()
        fcr.step()
    small = fcr.finish().eval()
    assert float((logits(small, images(4)) - logits(net.eval(), images(4))).abs().max()) <= 1e-9


def test_finish_before_there_were_enough_images_prunes_at_once() -> None:
    for steps in (0, 1):
        net, fcr, optimizer = begin(images=1000)
        training(net, fcr, optimizer, 0, steps)
        small = fcr.finish().eval()
        assert fcr.plan.macs_after <= 0.5 * fcr.plan.macs_before
        assert fcr.plan.criterion == ("residual" if steps else "l2")
        assert float((logits(small, images(4)) - logits(net.eval(), images(4))).abs().max()) <= 1e-12


@pytest.mark.parametrize("stop", [1, 2, 3, 7])
def test_a_resumed_training_equals_an_uninterrupted_one(stop: int, tmp_path: Path) -> None:
    """While images are being kept, at the event, and after it; through a checkpoint that loads without pickle."""
    net, fcr, optimizer = begin()
    training(net, fcr, optimizer, 0, 12)
    first = begin()
    training(*first, 0, stop)
    torch.save([part.state_dict() for part in first], tmp_path / "checkpoint.pt")
    other = begin()
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    other[0].load_state_dict(saved[0])
    other[1].load_state_dict(saved[1])
    other[2].load_state_dict(saved[2])
    training(*other, stop, 12)
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in other[0].state_dict().items())
    assert other[1].plan == fcr.plan


def test_it_starts_when_it_is_told_to_and_looks_only_at_training_batches() -> None:
    net, fcr, optimizer = begin(start=0.5)
    training(net, fcr, optimizer, 0, 6)
    seen: list[Tensor] = fcr.state_dict()["images"]
    assert seen == []
    with torch.no_grad():
        net(images(8, seed=50))
    net.eval()
    net(images(8, seed=51))
    net.train()
    training(net, fcr, optimizer, 6, 8)
    assert [batch.tolist() for batch in fcr.state_dict()["images"]] == [images(8, seed=step).tolist() for step in (6, 7)]
    training(net, fcr, optimizer, 8, 9)
    assert fcr.frozen
    assert not net._forward_pre_hooks


def test_the_parameters_stay_those_that_the_optimizer_knows() -> None:
    """A convolution without a bias and without batch-norm behind it gets none: its checkpoint must still load."""
    net = lively(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), Head(8))).train()
    before = {name: id(parameter) for name, parameter in net.named_parameters()}
    fcr = FCR(net, X, flops=0.5, total_steps=4, images=8, align=1)
    net(images(8)).sum().backward()
    fcr.step()
    assert fcr.frozen
    assert before == {name: id(parameter) for name, parameter in net.named_parameters()}


def test_a_copy_of_the_network_keeps_no_images_for_us() -> None:
    net, fcr, _ = begin()
    other = copy.deepcopy(net)
    other(images(8))
    assert sum(len(batch) for batch in fcr.state_dict()["images"]) <= 8  # at worst the copy's own, never a second FCR


def test_a_budget_out_of_reach_is_said_before_training() -> None:
    with pytest.raises(BudgetError):
        begin(flops=0.01)


def test_any_criterion_chooses_on_the_kept_images() -> None:
    for criterion in ("taylor", "activation", "l2", lambda group: group.filters()[0].abs().amax(1)):
        net, fcr, optimizer = begin(criterion=criterion)
        training(net, fcr, optimizer, 0, 5)
        assert fcr.plan.allocation == "uniform"
        chosen = {group.name for group in find_groups(net, X).groups}
        assert {part.name for part in fcr.plan.groups} == chosen
        assert float((logits(fcr.finish().eval(), images(2)) - logits(net.eval(), images(2))).abs().max()) <= 1e-12
