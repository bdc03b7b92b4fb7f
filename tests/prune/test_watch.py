"""Data-driven criteria inside a training loop: against finite differences, against the same criteria on calibration images."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import SettingsError
from gleanet.nn import build
from gleanet.prune import FCR, find_groups
from gleanet.prune.observe import activation_scores
from gleanet.prune.watch import WATCHED, Watch
from tests.prune.nets import NETS, Head, OptionB, UpAndDown, images, lively, logits
from tests.prune.test_observe import scaled

X = images(1)


def backward(net: nn.Module, step: int, dtype: torch.dtype = torch.float64) -> None:
    net.zero_grad()
    loss(net, step, dtype).backward()  # type: ignore[no-untyped-call]


def loss(net: nn.Module, step: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.cross_entropy(net(images(8, seed=step, dtype=dtype)), torch.arange(8) % 5)


def bare() -> nn.Module:
    """No norm, so that training and evaluation are the same."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), Head(6))


@pytest.mark.parametrize(("net", "residual"), [(OptionB(), True), (bare(), False), (UpAndDown(), False)])
def test_taylor_is_the_squared_derivative_of_each_steps_loss_by_a_gate(net: nn.Module, residual: bool) -> None:
    """Batch statistics included: the gate is behind the norm."""
    net, eps = lively(net).train(), 1e-5
    grouping = find_groups(net, X, residual=residual)
    watch = Watch("taylor", net, grouping)
    for step in range(2):
        backward(net, step)
        watch.step()
    found = watch.take()
    for group in grouping.groups:
        for channel in range(0, group.channels, 3):
            ends = [torch.stack([loss(scaled(net, group, channel, 1 + sign * eps), step) for step in range(2)]) for sign in (1, -1)]
            expected = ((ends[0] - ends[1]) / (2 * eps)).square().mean().detach()
            torch.testing.assert_close(found[group.name][channel], expected, rtol=1e-4, atol=1e-9)


def test_activation_is_what_the_calibration_criterion_sees_on_the_training_batches() -> None:
    net = lively(bare()).train()
    grouping = find_groups(net, X)
    watch = Watch("activation", net, grouping)
    expected = activation_scores(net, grouping, [images(8, seed=step) for step in range(3)])
    for step in range(3):
        backward(net, step)
        watch.step()
    net.eval()
    logits(net, images(8, seed=9))  # evaluation in between does not count
    found = watch.take()
    for name, score in expected.items():
        torch.testing.assert_close(found[name], score)
    with pytest.raises(SettingsError, match="saw no training batch"):
        watch.take()


@pytest.mark.parametrize("criterion", WATCHED)
def test_fcr_ranks_by_what_was_seen_since_the_last_ranking(criterion: str) -> None:
    net = build("resnet8", seed=0).double().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    fcr = FCR(net, X, flops=0.5, total_steps=12, interval=3, phase=1.0, criterion=criterion, recycle="weights")
    other = Watch(criterion, net, find_groups(net, X))
    assert fcr.plan.criterion == criterion
    for step in range(1, 13):
        backward(net, step)
        optimizer.step()
        other.step()
        fcr.step()
        if step % 3 == 0:
            score = other.take()
            for part in fcr.plan.groups:
                kept, dropped = (score[part.name][list(which)] for which in (part.keep, part.drop()))
                assert float(kept.min()) >= float(dropped.max())
    assert fcr.frozen


@pytest.mark.parametrize("criterion", WATCHED)
@pytest.mark.parametrize("name", ["option-b", "mobilenet-v2", "grouped", "parts", "chain-bare", "norm-plain-batch", "norm-prelu"])
def test_it_trains_networks_of_every_kind_and_leaves_nothing_behind(name: str, criterion: str) -> None:
    net = NETS[name]().double().train()
    fcr = FCR(
        net, X, flops=0.6, total_steps=6, interval=2, residual=True, align=1, criterion=criterion, allocation="global", recycle="weights"
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for step in range(5):
        backward(net, step)
        optimizer.step()
        fcr.step()
    small = fcr.finish().eval()
    assert float((logits(small, images(4)) - logits(net.eval(), images(4))).abs().max()) <= 1e-12
    assert not any(module._forward_pre_hooks for which in (net, small) for module in which.modules())


@pytest.mark.parametrize("criterion", WATCHED)
def test_finish_between_rankings_keeps_the_plan_and_after_new_batches_makes_one(criterion: str) -> None:
    net = build("resnet8", seed=0).double().train()
    fcr = FCR(net, X, flops=0.5, total_steps=100, interval=2, criterion=criterion, recycle="weights")
    for step in range(2):
        backward(net, step)
        fcr.step()
    kept, again = fcr.plan.groups, copy.deepcopy(fcr)
    fcr.finish()
    assert fcr.plan.groups == kept
    again.finish()
    assert again.plan.groups == kept


def test_gradients_that_are_gone_are_missed_in_one_line() -> None:
    net = build("resnet8", seed=0).double().train()
    fcr = FCR(net, X, flops=0.5, total_steps=10, criterion="taylor", recycle="weights")
    backward(net, 0)
    net.zero_grad()
    with pytest.raises(SettingsError, match=r"call fcr.step\(\) after optimizer.step\(\), before zero_grad\(\)"):
        fcr.step()
    unused = FCR(net, X, flops=0.5, total_steps=10, interval=1, criterion="activation", recycle="weights")
    with pytest.raises(SettingsError, match="saw no training batch"):
        unused.step()


@pytest.mark.parametrize("criterion", WATCHED)
def test_a_state_of_another_criterion_is_refused_in_one_line(criterion: str) -> None:
    def fcr(which: str) -> FCR:
        return FCR(lively(build("resnet8", seed=0)), X, flops=0.5, total_steps=10, criterion=which, recycle="weights")

    with pytest.raises(SettingsError, match=f"holds nothing of criterion '{criterion}'") as caught:
        fcr(criterion).load_state_dict(fcr("l2").state_dict())
    assert "\n" not in str(caught.value)
    state = fcr(criterion).state_dict()
    state["watched"] = {name: [0.0] for name in state["watched"]}
    with pytest.raises(SettingsError, match="other widths"):
        fcr(criterion).load_state_dict(state)
    fcr("l2").load_state_dict(fcr(criterion).state_dict())  # norms need nothing


def scaled_training(scale: float | None, steps: int = 8, broken: int | None = None) -> tuple[nn.Module, FCR]:
    net = build("resnet8", seed=0).double().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    fcr = FCR(net, X, flops=0.5, total_steps=10, interval=2, criterion="taylor", recycle="weights")
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    for step in range(steps):
        optimizer.zero_grad()
        value = loss(net, step) * (float("inf") if step == broken else 1.0)
        scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        fcr.step()
    return net, fcr


def test_a_gradient_scaler_changes_nothing_and_a_step_it_skips_is_not_counted() -> None:
    (plain, one), (scaled_net, other) = scaled_training(None), scaled_training(1024.0)
    assert one.plan == other.plan
    for mine, theirs in zip(plain.parameters(), scaled_net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    for broken, count in ((4, 0.0), (3, 1.0)):  # the fourth step ends in a ranking, the fifth is the first after it
        net, fcr = scaled_training(1024.0, steps=5, broken=broken)
        assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
        seen: dict[str, list[float]] = fcr.state_dict()["watched"]
        assert all(bool(torch.isfinite(torch.tensor(values)).all()) for values in seen.values())
        assert {values[-1] for values in seen.values()} == {count}


@pytest.mark.parametrize("criterion", ["l2", "bn_scale", *WATCHED])
@pytest.mark.parametrize("recycle", ["weights", "none"])
def test_under_autocast(criterion: str, recycle: Any) -> None:
    """Weights are float32, activations bfloat16; the pruned network is exact, and learns on."""
    net = build("resnet8", seed=0).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    fcr = FCR(net, X.float(), flops=0.5, total_steps=10, interval=2, criterion=criterion, recycle=recycle)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(net, 0, torch.float32)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fcr.step()
        losses.append(value.item())
    small = fcr.finish().eval()
    assert {p.dtype for p in small.parameters()} == {torch.float32}
    assert losses[-1] < losses[0]
    x = images(4, dtype=torch.float32)
    assert float((logits(small, x) - logits(net.eval(), x)).abs().max()) <= 1e-5
