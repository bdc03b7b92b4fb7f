"""The law of removal (DESIGN 5.2): a network with channels at zero and the network without them give the same logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gleanet.core.errors import ModelError, SettingsError
from gleanet.nn import ACTIVATIONS, BeaMish, architecture_of, build, cost, load, replace_activations, save
from gleanet.prune import Grouping, Plan, apply, find_groups, zero
from gleanet.prune.apply import zero_channels
from tests.prune.nets import KINDS, NETS, SHAPE, Chain, Head, Normed, conv_bn, images, lively, logits, random_plan

DEEP = {"resnet56": lambda: build("resnet56", seed=0), "resnet56-mish": lambda: build("resnet56", activation="mish", seed=0)}


def law(net: nn.Module, plan: Plan, grouping: Grouping) -> float:
    """The largest difference between logits with the channels zeroed and with them removed, from either network."""
    zeroed, small = zero(net, plan, grouping=grouping), apply(net, plan, grouping=grouping)
    again = apply(zeroed, plan, grouping=grouping)
    worst = 0.0
    for count in (1, 3):
        x = images(count, seed=count, dtype=next(net.parameters()).dtype)
        expected = logits(zeroed, x)
        worst = max(worst, *(float((logits(other, x) - expected).abs().max()) for other in (small, again)))
    return worst


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_law_for_every_group_and_for_random_plans(name: str, residual: bool) -> None:
    net = lively(NETS[name]())
    assert float(logits(net, images(4)).std(0).max()) > 1e-3  # the logits depend on the image: equal logits mean something
    grouping = find_groups(net, images(1), residual=residual)
    plans = [random_plan(grouping, seed, only=group.name) for seed, group in enumerate(grouping.groups)]
    for plan in [*plans, *(random_plan(grouping, seed) for seed in range(2))]:
        assert law(net, plan, grouping) <= 1e-12


@pytest.mark.parametrize("name", [*(name for name in ACTIVATIONS if name != "relu"), "swish(beta=2)", "for each channel"])
@pytest.mark.parametrize("residual", [False, True])
def test_law_with_every_activation(name: str, residual: bool) -> None:
    """Functions that are not flat around zero too: what matters is their value at zero, which is zero."""
    if name == "for each channel":
        plain, image = build("resnet8", seed=0), images(1, dtype=torch.float32)
        net = lively(replace_activations(plain, lambda channels: BeaMish(learnable=True, channels=channels), example_input=image))
    else:
        net = lively(build("resnet8", activation=name, seed=0))
    grouping = find_groups(net, images(1), residual=residual)
    for seed in range(3):
        plan = random_plan(grouping, seed)
        assert law(net, plan, grouping) <= 1e-12
        if name == "for each channel":
            inner = next(part for part in plan.groups if part.name == "layer1.0.conv1")
            before, after = (other.get_parameter("layer1.0.act1.log_alpha") for other in (net, apply(net, plan, grouping=grouping)))
            assert torch.equal(after, before[list(inner.keep)])


@pytest.mark.parametrize("name", DEEP)
def test_law_on_a_deep_network(name: str) -> None:
    net = lively(DEEP[name]())
    grouping = find_groups(net, images(1))
    assert law(net, random_plan(grouping, 0), grouping) <= 1e-12


@pytest.mark.parametrize("name", ["resnet20", "chain-module", "dense", "mobilenet-v2", "grouped", "parts", "squeeze-excite"])
def test_law_in_single_precision(name: str) -> None:
    net = lively(NETS[name](), dtype=torch.float32)
    net.load_state_dict({k: v if v.dim() < 2 else v * 0.5 for k, v in net.state_dict().items()})
    grouping = find_groups(net, images(1, dtype=torch.float32))
    assert law(net, random_plan(grouping, 0), grouping) <= 1e-5


@pytest.mark.parametrize("name", ["resnet20", "mobilenet-v2", "norm-plain-batch", "norm-untracked", "norm-group", "norm-plain-instance"])
def test_law_in_training_mode(name: str) -> None:
    """With batch statistics; the kept channels' statistics do not see the others."""
    net = lively(NETS[name]()).train()
    plan = random_plan(find_groups(net, images(1)), 3)
    small, zeroed, x = apply(net, plan), zero(net, plan), images(4)
    assert small.training
    assert float((logits(small, x) - logits(zeroed, x)).abs().max()) <= 1e-12


@pytest.mark.parametrize("name", KINDS)
def test_the_original_is_not_modified_and_no_global_random_number_is_drawn(name: str) -> None:
    net = lively(NETS[name]()).train()
    before, draw = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    numpy_draw = np.random.get_state()[1].tolist()  # type: ignore[index]
    plan = random_plan(find_groups(net, images(1)), 1)
    small = apply(net, plan)
    zero(net, plan)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draw)
    assert np.random.get_state()[1].tolist() == numpy_draw  # type: ignore[index]
    with torch.no_grad():  # and they share no memory
        for parameter in small.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("name", KINDS)
def test_kept_widths_are_the_plans_and_gradients_flow(name: str) -> None:
    net = lively(NETS[name]())
    grouping = find_groups(net, images(1))
    plan = random_plan(grouping, 5)
    small = apply(net, plan)
    counted = cost(small, images(1))
    assert (counted.macs, counted.params) == (plan.macs_after, plan.params_after)
    dropped: dict[str, int] = {}
    for group, part in zip(grouping.groups, plan.groups, strict=True):
        for member in group.producers():
            dropped[member.path] = dropped.get(member.path, 0) + len(part.drop()) * len(member.index[0])
    for path, count in dropped.items():
        before, after = net.get_submodule(path), small.get_submodule(path)
        for attribute in ("out_channels", "out_features"):
            if hasattr(before, attribute):
                assert getattr(after, attribute) == getattr(before, attribute) - count
    logits_sum = sum(out.sum() for out in _values(small(images(2))))
    logits_sum.backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in small.parameters())


def _values(out: object) -> list[torch.Tensor]:
    return list(out.values()) if isinstance(out, dict) else [out]  # type: ignore[list-item]


def unpadded() -> nn.Module:
    """The layer behind the first convolution does not pad; the one behind the second does."""
    one = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Softplus(), nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    two = [nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.Tanh(), Head(6)]
    return nn.Sequential(*one, *two)


def silence(net: nn.Module, path: str, channels: tuple[int, ...]) -> None:
    """Zero filters only: bias and batch-norm still emit a constant."""
    weight = net.get_parameter(f"{path}.weight")
    with torch.no_grad():
        weight[list(channels)] = 0.0


def test_constants_of_zero_filters_are_folded_exactly_where_nothing_is_padded() -> None:
    net = lively(unpadded())
    plan = random_plan(find_groups(net, images(1)), 0, only="0")
    drop = plan.groups[0].drop()
    silence(net, "0", drop)
    before = logits(net, images(3))
    assert float((logits(zero(net, plan), images(3)) - before).abs().max()) > 1e-2  # there is a constant to lose
    small = apply(net, plan)
    assert float((logits(small, images(3)) - before).abs().max()) <= 1e-12
    assert small.get_submodule("3").bias is None  # it went to the batch-norm's mean


def test_constants_go_to_a_linear_layer_and_to_a_bias_that_was_not_there() -> None:
    net = lively(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 6, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(600, 5))
    )
    plan = random_plan(find_groups(net, images(1)), 1)
    for part in plan.groups:
        silence(net, part.name, part.drop())
    small = apply(net, plan)
    assert float((logits(small, images(3)) - logits(net, images(3))).abs().max()) <= 1e-12
    assert small.get_submodule("2").bias is not None


def test_where_a_layer_pads_the_mean_of_the_constant_is_folded() -> None:
    """The error that is left averages to zero over the positions of the layer's output."""
    net = lively(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    plan = random_plan(find_groups(net, images(1)), 1)
    silence(net, "0", plan.groups[0].drop())
    assert float((logits(apply(net, plan), images(3)) - logits(net, images(3))).abs().max()) <= 1e-12
    assert float((logits(zero(net, plan), images(3)) - logits(net, images(3))).abs().max()) > 1e-2


def test_a_sigmoid_at_zero_is_folded_too() -> None:
    """A channel that is dropped with its weights emits sigmoid(0) when zeroed; apply folds that into the layer behind."""
    net = lively(Chain(norm=False, act=nn.Sigmoid, padding=0))
    group = next(g for g in find_groups(net, images(1)).groups if g.name == "fc1")
    assert group.offset
    assert not next(g for g in find_groups(lively(Chain()), images(1)).groups if g.name == "fc1").offset


def test_zeroed_channels_scale_by_a_factor() -> None:
    net = lively(conv_bn(3, 8).append(Head(8)))
    group, before = find_groups(net, images(1)).groups[0], net.get_parameter("0.weight").clone()
    zero_channels(net, group, [1, 4], factor=0.25)
    expected = before.clone()
    expected[[1, 4]] *= 0.25
    assert torch.equal(net.get_parameter("0.weight"), expected)
    net = lively(Normed("plain-batch"))
    mean = net.get_buffer("norm1.running_mean").clone()
    zero_channels(net, find_groups(net, images(1)).groups[0], [0], factor=0.5)
    assert torch.equal(net.get_buffer("norm1.running_mean")[:2], mean[:2] * torch.tensor([0.5, 1.0]))


def test_channels_last_stays_channels_last() -> None:
    net = lively(NETS["resnet8"](), dtype=torch.float32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small = apply(net, random_plan(find_groups(net, images(1, dtype=torch.float32)), 0))
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in small.parameters() if p.dim() == 4)


def test_frozen_parameters_stay_frozen() -> None:
    net = lively(NETS["resnet8"]()).requires_grad_(False)
    small = apply(net, random_plan(find_groups(net, images(1)), 0))
    assert not any(parameter.requires_grad for parameter in small.parameters())


def test_a_plan_for_another_network_is_refused_in_one_line() -> None:
    plan = random_plan(find_groups(lively(build("resnet20")), images(1)), 0)
    others = [
        build("resnet56"),
        build("resnet8"),
        lively(Chain()),
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        build("resnet20", widths={"layer1.0.conv1": 8}),
    ]
    for other in others:
        for carry_out in (apply, zero):
            with pytest.raises(SettingsError, match="the plan is for another network") as caught:
                carry_out(other, plan)
            assert "\n" not in str(caught.value)


def test_a_damaged_plan_is_refused() -> None:
    net = lively(build("resnet8"))
    plan = random_plan(find_groups(net, images(1)), 0)
    for keep in ((), (0, 0), (3, 1), (-1, 2), (0, 99)):
        broken = replace(plan, groups=(replace(plan.groups[0], keep=keep), *plan.groups[1:]))
        with pytest.raises(SettingsError, match="the plan is damaged"):
            apply(net, broken)


class CountsItself(nn.Module):
    """Code that holds a number of channels where no trace can see it: in a function that is called with plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.width = conv_bn(3, 8), Head(8), 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        torch._assert(x.size(1) == self.width, "the width is 8")  # type: ignore[no-untyped-call]
        return self.head(x)  # type: ignore[no-any-return]


def test_a_network_that_does_not_run_when_narrower_is_refused() -> None:
    net = lively(CountsItself())
    grouping = find_groups(net, images(1))
    with pytest.raises((ModelError, AssertionError)):
        apply(net, random_plan(grouping, 0))


def test_a_pruned_builtin_network_can_be_saved_and_rebuilt(tmp_path: object) -> None:
    net = lively(build("resnet8", seed=0), dtype=torch.float32)
    plan = random_plan(find_groups(net, images(1, dtype=torch.float32)), 2)
    small = apply(net, plan)
    assert architecture_of(small).widths == {part.name: len(part.keep) for part in plan.groups}
    save(small, f"{tmp_path}/small.gleanet")
    x = images(2, dtype=torch.float32)
    assert torch.equal(logits(load(f"{tmp_path}/small.gleanet"), x), logits(small, x))
    assert plan.input_shape == SHAPE
