"""FCR in training: against a loop written from DESIGN 5.3, exact at the end, resumable, three lines in anyone's loop."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import SettingsError
from gleanet.nn import build, cost
from gleanet.prune import CRITERIA, FCR, GroupTensors, find_groups
from gleanet.prune.collect import collect_and_assign
from tests.prune.nets import NETS, Chain, MobileNetV2, Normed, OptionB, images, lively, logits

X = images(1)


def drift(net: nn.Module, step: int) -> None:
    """What an optimizer might do: every parameter moves a little, the same for equal networks and steps."""
    generator = torch.Generator().manual_seed(1000 + step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def literal(net: nn.Module, steps: int, *, phase: int, interval: int, rho: float, aligned: bool, keep: dict[str, int]) -> None:
    """DESIGN 5.3, steps 1 to 5, one channel and one tensor at a time, on a network whose groups have one producer."""
    groups = find_groups(net, X).groups

    def d(t: int) -> float:
        return (1 - t / phase) ** 2

    for t in range(1, steps + 1):
        drift(net, t)
        for group in groups:
            conv = net.get_submodule(group.producers()[0].path)
            weight = conv.get_parameter("weight").data
            others = [net.get_submodule(m.path) for m in group.members if m.role == "norm"]
            s = [float(weight[i].norm()) for i in range(group.channels)]
            if t < phase and t % interval != 0:
                continue
            ranking = sorted(range(group.channels), key=lambda i: -s[i]) if t <= phase else ranking_of[group.name]
            ranking_of[group.name] = ranking
            big, small = ranking[: keep[group.name]], ranking[keep[group.name] :]
            now, before = (d(t), d(t - interval)) if t < phase else (0.0, 1.0)
            if t < phase:
                collector = sum((s[i] / sum(s[k] for k in small)) * weight[i] for i in small)
                assert isinstance(collector, Tensor)
                p = [value / sum(s) for value in s]
                for j in big:
                    cosine = float((weight[j] * collector).sum() / (weight[j].norm() * collector.norm()))
                    share = p[j] / max(p[k] for k in big) * (max(0.0, cosine) if aligned else 1.0)
                    weight[j] += rho * (1 - now / before) * share * collector
            for i in small:
                weight[i] *= now / before
                for module in others:
                    module.get_parameter("weight").data[i] *= now / before
                    module.get_parameter("bias").data[i] *= now / before


ranking_of: dict[str, list[int]] = {}


@pytest.mark.parametrize("aligned", [True, False])
def test_it_is_the_literal_loop(aligned: bool) -> None:
    net = lively(build("resnet8", seed=0))
    other = copy.deepcopy(net)
    fcr = FCR(net, X, flops=0.5, total_steps=20, phase=0.6, interval=3, strength=0.7, aligned=aligned, align=1, recycle="weights")
    for step in range(1, 17):
        drift(net, step)
        fcr.step()
    keep = {part.name: len(part.keep) for part in fcr.plan.groups}
    literal(other, 16, phase=12, interval=3, rho=0.7, aligned=aligned, keep=keep)
    for (name, mine), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name, rtol=1e-9, atol=1e-12)


def test_collector_is_a_convex_mixture_and_shares_follow_keep_probability() -> None:
    rows = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    score = torch.tensor([4.0, 2.0, 1.0, 3.0, 0.5, 0.5], dtype=torch.float64)
    keep, drop = torch.tensor([0, 1, 3]), torch.tensor([2, 4, 5])
    mixed = 0.5 * rows[2] + 0.25 * rows[4] + 0.25 * rows[5]
    got = collect_and_assign(rows, keep, drop, score, 0.8, aligned=False)
    torch.testing.assert_close(got, rows[keep] + 0.8 * torch.tensor([1.0, 0.5, 0.75])[:, None].double() * mixed)
    assert torch.equal(collect_and_assign(rows, keep, drop, score, 0.0, aligned=True), rows[keep])
    assert torch.equal(collect_and_assign(rows, keep, drop, torch.zeros(6), 1.0, aligned=False), rows[keep])
    against = collect_and_assign(torch.stack([-mixed, *rows[1:]]), keep, drop, score, 1.0, aligned=True)
    assert torch.equal(against[0], -mixed)  # a filter that points the other way takes nothing


def test_decay_is_monotone_and_zero_at_the_end_of_the_phase() -> None:
    net = lively(build("resnet8", seed=0))
    fcr = FCR(net, X, flops=0.5, total_steps=30, phase=0.5, interval=2, recycle="none")
    weakest = list(fcr.plan.groups[2].drop())
    norms = []
    for _ in range(15):
        fcr.step()
        norms.append(float(net.get_parameter("layer3.0.conv1.weight")[weakest].detach().norm()))
    assert all(later <= earlier for earlier, later in itertools.pairwise(norms))
    assert norms[-1] == 0.0
    assert 0 < norms[-2] < 0.1 * norms[0]
    assert fcr.frozen


def test_a_channel_can_come_back_until_the_plan_is_frozen() -> None:
    net = lively(build("resnet8", seed=0))
    fcr = FCR(net, X, flops=0.5, total_steps=10, phase=0.8, interval=2, recycle="weights")
    fcr.step()
    fcr.step()
    chosen = fcr.plan.groups[0].drop()[0]
    with torch.no_grad():
        net.get_parameter("layer1.0.conv1.weight")[chosen] = 100.0
    for _ in range(6):
        fcr.step()
    assert chosen in fcr.plan.groups[0].keep
    assert fcr.frozen
    with torch.no_grad():
        net.get_parameter("layer1.0.conv1.weight")[list(fcr.plan.groups[0].drop())] = 100.0
    kept = fcr.plan
    fcr.step()
    assert fcr.plan == kept


@pytest.mark.parametrize(
    "name", ["resnet8", "resnet8-beamish", "option-b", "mobilenet-v2", "dense", "grouped", "parts", "chain-sigmoid", "norm-group"]
)
@pytest.mark.parametrize("recycle", ["weights", "none"])
def test_finish_is_exact(name: str, recycle: Any) -> None:
    net = lively(NETS[name]())
    fcr = FCR(net, X, flops=0.6, total_steps=10, interval=2, recycle=recycle, align=1)
    for step in range(10):
        drift(net, step)
        fcr.step()
    small, x = fcr.finish(), images(4)
    assert float((logits(small, x) - logits(net, x)).abs().max()) <= 1e-12
    assert cost(small, X).macs == fcr.plan.macs_after <= 0.6 * fcr.plan.macs_before


def test_finish_before_the_end_is_exact_too() -> None:
    net = lively(build("resnet8", seed=0))
    fcr = FCR(net, X, flops=0.5, total_steps=100, recycle="weights")
    fcr.step()
    small = fcr.finish()
    assert float((logits(small, images(4)) - logits(net, images(4))).abs().max()) <= 1e-12


def test_a_short_phase_recycles_too() -> None:
    """With rankings 20 steps apart a phase of 6 would pass without one, and "weights" would be "none" without a word."""
    ends = {}
    for recycle in ("weights", "none"):
        net = lively(build("resnet8", seed=0))
        fcr = FCR(net, X, flops=0.5, total_steps=10, recycle=recycle)
        for _ in range(10):
            fcr.step()
        ends[recycle] = net.get_parameter("layer1.0.conv1.weight").detach().clone()
    assert not torch.equal(ends["weights"], ends["none"])
    with pytest.raises(SettingsError, match="interval=6 is as long as the pruning phase of 6 steps"):
        FCR(lively(build("resnet8", seed=0)), X, flops=0.5, total_steps=10, recycle="weights", interval=6)


def test_without_recycling_kept_filters_are_untouched() -> None:
    net = lively(build("resnet8", seed=0))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fcr = FCR(net, X, flops=0.5, total_steps=10, interval=2, recycle="none")
    for _ in range(10):
        fcr.step()
    for part in fcr.plan.groups:
        kept, dropped = list(part.keep), list(part.drop())
        now = net.get_parameter(f"{part.name}.weight")
        assert torch.equal(now[kept], before[f"{part.name}.weight"][kept])
        assert not bool(now[dropped].any())
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"layer{s}.0.{what}" for s in (1, 2, 3) for what in ("conv1.weight", "bn1.weight", "bn1.bias")}


def test_recycling_reaches_weights_in_channels_last() -> None:
    """Flattening such a weight makes a copy; an update of the copy would be lost."""
    plain, last = lively(build("resnet8", seed=0)), lively(build("resnet8", seed=0)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for net in (plain, last):
        fcr = FCR(net, X, flops=0.5, total_steps=10, interval=2, strength=1.0, aligned=False, recycle="weights")
        for _ in range(4):
            fcr.step()
    start = lively(build("resnet8", seed=0))
    for (name, one), other, first in zip(plain.named_parameters(), last.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
        assert not name.endswith("conv1.weight") or not name.startswith("layer") or not torch.equal(one, first)


def training(net: nn.Module, fcr: FCR, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x, y = images(8, seed=step), torch.arange(8) % 10
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fcr.step()


def begin(criterion: str = "fpgm", momentum: float = 0.9) -> tuple[nn.Module, FCR, torch.optim.Optimizer]:
    net = build("resnet8", seed=0).double().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=momentum, weight_decay=1e-3, nesterov=True)
    return net, FCR(net, X, flops=0.5, total_steps=12, interval=2, criterion=criterion, recycle="weights"), optimizer


@pytest.mark.parametrize("criterion", ["fpgm", "taylor", "activation"])
@pytest.mark.parametrize("stop", [1, 4, 7, 9])
def test_a_resumed_training_equals_an_uninterrupted_one(stop: int, criterion: str, tmp_path: Path) -> None:
    """Through a checkpoint file that loads without pickle; what a data-driven criterion has seen so far included."""
    net, fcr, optimizer = begin(criterion)
    training(net, fcr, optimizer, 0, 12)
    first_net, first_fcr, first_optimizer = begin(criterion)
    training(first_net, first_fcr, first_optimizer, 0, stop)
    torch.save((first_net.state_dict(), first_fcr.state_dict(), first_optimizer.state_dict()), tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    other_net, other_fcr, other_optimizer = begin(criterion)
    drift(other_net, 0)  # whatever it was made with
    other_net.load_state_dict(saved[0])
    other_fcr.load_state_dict(saved[1])
    other_optimizer.load_state_dict(saved[2])
    training(other_net, other_fcr, other_optimizer, stop, 12)
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in other_net.state_dict().items())
    assert other_fcr.plan == fcr.plan


def test_three_lines_in_a_loop() -> None:
    net, fcr, optimizer = begin()
    training(net, fcr, optimizer, 0, 12)
    assert fcr.frozen
    for part in fcr.plan.groups:  # momentum and weight decay push; the hold is after the push
        assert not bool(net.get_parameter(f"{part.name}.weight")[list(part.drop())].any())
    small = fcr.finish()
    net.eval()
    assert float((logits(small.eval(), images(4)) - logits(net, images(4))).abs().max()) <= 1e-12
    counted = cost(small, X)
    assert 0.49 <= counted.macs / cost(net, X).macs <= 0.5
    assert [small.get_submodule(part.name).out_channels for part in fcr.plan.groups] == [len(part.keep) for part in fcr.plan.groups]


@pytest.mark.parametrize("net", [Chain(), OptionB(), MobileNetV2(), Normed("untracked"), Normed("plain-batch")])
def test_it_trains_other_networks_and_residual_widths(net: nn.Module) -> None:
    net = net.double().train()
    fcr = FCR(net, X, flops=0.6, total_steps=6, interval=2, residual=True, align=1, allocation="global", recycle="weights")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for step in range(6):
        optimizer.zero_grad()
        net(images(8, seed=step)).square().mean().backward()
        optimizer.step()
        fcr.step()
    small = fcr.finish().eval()
    assert float((logits(small, images(4)) - logits(net.eval(), images(4))).abs().max()) <= 1e-12


def test_its_state_is_plain_and_checked() -> None:
    net = lively(build("resnet8", seed=0))
    fcr = FCR(net, X, flops=0.5, total_steps=10, recycle="weights")
    state = fcr.state_dict()
    assert state["step"] == 0
    assert all(isinstance(kept, list) for kept in state["keep"].values())
    for bad in ({}, {"step": "x", "keep": {}}, {"step": 1, "keep": 3}):
        with pytest.raises(SettingsError, match="not a state of FCR"):
            fcr.load_state_dict(bad)
    with pytest.raises(SettingsError, match="for another network"):
        fcr.load_state_dict({"step": 1, "keep": {"conv": [1]}})
    with pytest.raises(SettingsError, match="damaged"):
        fcr.load_state_dict({"step": 1, "keep": {**state["keep"], "layer1.0.conv1": [99]}})
    assert fcr.state_dict() == state


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "residual", "recycle": "weights"}, "ranks at every event"),
        ({"criterion": "l3"}, "unknown criterion 'l3'"),
        ({"total_steps": 0}, "total_steps >= 1"),
        ({"interval": 0}, "interval >= 1"),
        ({"phase": 0.0}, "0 < phase <= 1"),
        ({"phase": 1.5}, "0 < phase <= 1"),
        ({"strength": -1.0}, "strength >= 0"),
        ({"recycle": "similarity"}, "takes features, weights or none"),
        ({"images": 0}, "images >= 1"),
        ({"start": 1.0}, "0 <= start < 1"),
        ({"flops": 2.0}, "flops=2.0 is out of range"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        FCR(build("resnet8", seed=0), images(1, dtype=torch.float32), **{"flops": 0.5, "total_steps": 10, **settings})
    assert "\n" not in str(caught.value)


def test_scores_below_zero_cannot_be_mixed() -> None:
    fcr = FCR(
        lively(build("resnet8", seed=0)),
        X,
        flops=0.5,
        total_steps=10,
        interval=1,
        criterion=lambda group: -torch.arange(group.channels),
        recycle="weights",
    )
    with pytest.raises(SettingsError, match="scores below 0"):
        fcr.step()


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_data_free_criterion_and_one_of_ones_own(criterion: str) -> None:
    for given in (criterion, lambda group: group.filters()[0].abs().amax(1)):
        net = lively(build("resnet8", seed=0))
        fcr = FCR(net, X, flops=0.5, total_steps=4, interval=1, criterion=given, recycle="weights")
        for _ in range(4):
            fcr.step()
        assert float((logits(fcr.finish(), images(2)) - logits(net, images(2))).abs().max()) <= 1e-12


def test_random_ranks_are_drawn_anew_each_time_and_come_from_the_seed() -> None:
    def kept(seed: int) -> list[tuple[int, ...]]:
        fcr = FCR(
            lively(build("resnet8", seed=0)), X, flops=0.5, total_steps=10, interval=1, criterion="random", seed=seed, recycle="weights"
        )
        made = [fcr.plan.groups[2].keep]
        for _ in range(3):
            fcr.step()
            made.append(fcr.plan.groups[2].keep)
        return made

    assert kept(0) == kept(0) != kept(1)
    assert len(set(kept(0))) == 4


def test_scores_see_the_network_as_it_is_now() -> None:
    net, seen = lively(build("resnet8", seed=0)), []

    def own(group: GroupTensors) -> Tensor:
        seen.append(float(group.filters()[0].sum()))
        return torch.ones(group.channels)

    fcr = FCR(net, X, flops=0.5, total_steps=10, interval=1, criterion=own, recycle="weights")
    drift(net, 0)
    fcr.step()
    assert seen[0] != seen[3]
