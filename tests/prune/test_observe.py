"""Criteria that look at images: against finite differences of the loss, and against activations computed by hand."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import SettingsError
from gleanet.nn import build
from gleanet.prune import Group, apply, find_groups, plan, prune, zero
from gleanet.prune.budget import CostModel
from gleanet.prune.layers import SCALING
from gleanet.prune.observe import activation_scores, taylor_scores
from gleanet.prune.plan import make_plan
from tests.prune.nets import KINDS, NETS, Chain, OptionB, images, lively, logits

Observing = Callable[..., dict[str, Tensor]]

X = images(6, seed=3)
Y = torch.tensor([0, 4, 2, 2, 1, 3])


def scaled(net: nn.Module, group: Group, channel: int, factor: float) -> nn.Module:
    """The network with what one channel emits multiplied: with ReLU, scale and shift of its norms, else its filters and bias."""
    other = copy.deepcopy(net)
    norms = [m for m in group.members if m.role == "norm"] or group.producers()
    with torch.no_grad():
        for member in norms:
            module = other.get_submodule(member.path)
            for tensor in (module.get_parameter("weight"), module.get_parameter("bias")):
                tensor[list(member.index[channel])] *= factor
    return other


def losses(net: nn.Module, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits(net, X), labels, reduction="none")


@pytest.mark.parametrize(
    ("net", "residual"), [(Chain("permute"), False), (OptionB(), True), (OptionB(bottleneck=True, widths=(4, 6)), True)]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_taylor_is_the_squared_derivative_of_the_loss_by_a_gate(net: nn.Module, residual: bool, labelled: bool) -> None:
    net, step = lively(net), 1e-5
    grouping = find_groups(net, X[:1], residual=residual)
    labels = Y if labelled else logits(net, X).argmax(1)
    found = taylor_scores(net, grouping, [(X, Y)] if labelled else [X])
    for group in grouping.groups:
        for channel in range(0, group.channels, 3):
            up, down = (losses(scaled(net, group, channel, 1 + sign * step), labels) for sign in (1, -1))
            expected = ((up - down) / (2 * step)).square().mean()
            torch.testing.assert_close(found[group.name][channel], expected, rtol=1e-4, atol=1e-9)


def test_activation_is_the_mean_magnitude_of_what_is_read() -> None:
    net = lively(Chain("permute"))
    assert isinstance(net, Chain)
    one = F.max_pool2d(F.relu(net.bn1(net.conv1(X))), 2)
    two = F.avg_pool2d(F.relu(net.bn2(net.conv2(one))), 2)
    hidden = F.relu(net.fc1(two.permute(0, 2, 3, 1).reshape(len(X), -1)))
    expected = {"conv1": one.mean((0, 2, 3)), "conv2": two.mean((0, 2, 3)), "fc1": hidden.mean(0), "fc2": F.relu(net.fc2(hidden)).mean(0)}
    found = activation_scores(net, find_groups(net, X[:1]), [X])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach())


def test_a_channel_with_several_readers_counts_with_their_mean() -> None:
    net = lively(NETS["inception"]())
    x = X
    for module in (net.get_submodule("stem"),):
        x = module(x)
    pooled = F.max_pool2d(x, 3, 1, 1)
    expected = (3 * x.mean((0, 2, 3)) + pooled.mean((0, 2, 3))) / 4
    torch.testing.assert_close(activation_scores(net, find_groups(net, X[:1]), [X])["stem.0"], expected.detach())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("criterion", [taylor_scores, activation_scores])
def test_a_channel_that_emits_nothing_scores_nothing(name: str, criterion: Observing) -> None:
    """In every kind of network: where it lies in flattened, tied, grouped and concatenated positions does not matter."""
    net = lively(NETS[name]())
    grouping = find_groups(net, X[:1], residual=True)
    whole = {group.name: tuple(range(1, group.channels)) for group in grouping.groups}
    made = make_plan(grouping, CostModel(grouping), whole, criterion="none", allocation="none", align=1, target=1.0, residual=True)
    score = criterion(zero(net, made, grouping=grouping), grouping, [X])
    for group in (g for g in grouping.groups if not g.offset):
        assert float(score[group.name][0]) == 0
        assert float(score[group.name][1:].max()) > 0


@pytest.mark.parametrize("criterion", [taylor_scores, activation_scores])
def test_scores_do_not_depend_on_how_images_are_batched(criterion: Observing) -> None:
    net = lively(build("resnet8", seed=0))
    grouping = find_groups(net, X[:1])
    one, other = criterion(net, grouping, [(X, Y)]), criterion(net, grouping, [(X[:1], Y[:1]), (X[1:], Y[1:])])
    for name, score in one.items():
        torch.testing.assert_close(score, other[name])


def test_labels_reach_taylor_through_plan_and_prune() -> None:
    net = lively(build("resnet8", seed=0))
    score = taylor_scores(net, find_groups(net, X[:1]), [(X, Y)])
    made = plan(net, X[:1], flops=0.5, criterion="taylor", calibration=[(X, Y)])
    assert made.criterion == "taylor"
    for part in made.groups:
        assert float(score[part.name][list(part.keep)].min()) >= float(score[part.name][list(part.drop())].max())
    guessed = plan(net, X[:1], flops=0.5, criterion="taylor", calibration=[X])
    assert guessed.groups != made.groups
    small = prune(net, X[:1], flops=0.5, criterion="taylor", recycle="none", calibration=[(X, Y)])
    for part in made.groups:
        assert torch.equal(small.get_parameter(f"{part.name}.weight"), apply(net, made).get_parameter(f"{part.name}.weight"))


def test_outputs_of_several_heads_are_judged_together_and_cannot_take_labels() -> None:
    net = lively(NETS["heads"]())
    grouping = find_groups(net, X[:1])
    assert all(float(score.min()) >= 0 and float(score.max()) > 0 for score in taylor_scores(net, grouping, [X]).values())
    with pytest.raises(SettingsError, match="pass images alone"):
        taylor_scores(net, grouping, [(X, Y)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y.double(), r"labels beside the calibration images have shape \[6\] and type torch.float64"),
        (Y[:3], r"shape \[3\]"),
        (Y + 90, "labels go from 90 to 94, but the network has 10 classes"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(labels: Tensor, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        plan(lively(build("resnet8", seed=0)), X[:1], flops=0.5, criterion="taylor", calibration=[(X, labels)])
    assert "\n" not in str(caught.value)
    plan(lively(build("resnet8", seed=0)), X[:1], flops=0.5, criterion="activation", calibration=[(X, labels)])


def test_frozen_parameters_and_gradients_are_left_alone() -> None:
    net = lively(build("resnet8", seed=0)).requires_grad_(False)
    grouping = find_groups(net, X[:1])
    expected = taylor_scores(lively(build("resnet8", seed=0)), grouping, [X])
    found = taylor_scores(net, grouping, [X])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())
    assert not any(isinstance(module, SCALING) and module._forward_pre_hooks for module in net.modules())
