"""Recycled features: exact where the kept channels can say all, least squares everywhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gleanet.core.progress import Advance
from gleanet.nn import build, replace_activations
from gleanet.prune import Group, Grouping, Plan, apply, carry_out, find_groups, least_squares, prune, recycle
from gleanet.prune.budget import CostModel
from gleanet.prune.layers import filters
from gleanet.prune.plan import make_plan
from gleanet.prune.recycle import recycle_features
from tests.prune.nets import KINDS, NETS, Chain, Head, OptionB, UpAndDown, conv_bn, images, lively, logits, random_plan

CALIBRATION = [images(24, seed=7), images(16, seed=8)]
NOT_REFITTED = {"up-and-down", "heads"}  # a transposed convolution; a module that is called twice


@pytest.fixture
def tiny_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "RIDGE", 1e-10)


def keeping(grouping: Grouping, keep: dict[str, tuple[int, ...]]) -> Plan:
    whole = {group.name: tuple(range(group.channels)) for group in grouping.groups}
    return make_plan(grouping, CostModel(grouping), {**whole, **keep}, criterion="none", allocation="none", align=1, target=1.0)


@torch.no_grad()
def twin(net: nn.Module, group: Group, of: int, to: int) -> None:
    """Make channel ``to`` of a group emit what channel ``of`` emits."""
    for member in group.members:
        module, source, target = net.get_submodule(member.path), list(member.index[of]), list(member.index[to])
        if member.role == "out":
            filters(module)[target] = filters(module)[source]
            if module.bias is not None:
                module.bias[target] = module.bias[source]  # type: ignore[index,operator]
        elif member.role == "norm":
            for tensor in [*module.parameters(), *module.buffers()]:
                if tensor.dim() == 1:
                    tensor[target] = tensor[source]


@pytest.mark.usefixtures("tiny_ridge")
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", sorted(set(KINDS) - NOT_REFITTED))
def test_duplicated_channels_are_given_back_exactly(name: str, residual: bool) -> None:
    net = lively(NETS[name]())
    grouping = find_groups(net, images(1), residual=residual)
    for group in grouping.groups:
        twin(net, group, 0, group.channels - 1)
    plan = keeping(grouping, {group.name: tuple(range(group.channels - 1)) for group in grouping.groups})
    seen_before = torch.cat(CALIBRATION)  # so few images leave wide layers other solutions, which are as good on these
    before = logits(net, seen_before)
    plain = apply(net, plan, grouping=grouping)
    small = carry_out(net, plan, calibration=CALIBRATION, grouping=grouping)
    assert float((logits(plain, seen_before) - before).abs().max()) > 1e-3
    assert float((logits(small, seen_before) - before).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "name", ["resnet20", "chain-module", "chain-bare", "option-b", "dense", "mobilenet-v2", "grouped", "up-and-down", "heads"]
)
def test_it_comes_closer_to_the_original_than_removal_alone(name: str) -> None:
    """On images that were not used for it."""
    net = lively(NETS[name]())
    grouping = find_groups(net, images(1))
    keep = {group.name: tuple(range(1, group.channels)) for group in grouping.groups}
    plan, fresh = keeping(grouping, keep), images(32, seed=99)
    before = logits(net, fresh)
    lost = float((logits(apply(net, plan, grouping=grouping), fresh) - before).square().mean())
    left = float((logits(carry_out(net, plan, calibration=CALIBRATION, grouping=grouping), fresh) - before).square().mean())
    assert left < 0.7 * lost


def seen(net: nn.Module, x: Tensor, path: str) -> Tensor:
    """What the module at ``path`` reads."""
    inputs: list[Tensor] = []
    handle = net.get_submodule(path).register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    logits(net, x)
    handle.remove()
    return inputs[0]


def patches(x: Tensor, layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Linear):
        return x
    assert isinstance(layer, nn.Conv2d)
    size, padding, stride = layer.kernel_size, layer.padding, layer.stride
    rows = torch.nn.functional.unfold(x, size, padding=padding, stride=stride)  # type: ignore[arg-type]
    return rows.permute(0, 2, 1).flatten(0, 1)


@pytest.mark.usefixtures("tiny_ridge")
@pytest.mark.parametrize("bias", [True, False])
def test_one_layer_is_solved_as_numpy_solves_it(bias: bool) -> None:
    """The bias path: with a bias, without one, and into the mean of a batch-norm."""
    for norm in (nn.Identity(), nn.BatchNorm2d(5)):
        net = lively(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Conv2d(8, 5, 3, bias=bias), norm, nn.Flatten()))
        x, grouping = images(20), find_groups(net, images(1))
        small = carry_out(net, keeping(grouping, {"0": (0, 2, 3, 6)}), calibration=[x], grouping=grouping)
        layer = net.get_submodule("2")
        rows = patches(seen(small, x, "2"), layer).numpy()
        target = layer(seen(net, x, "2")).detach().permute(0, 2, 3, 1).reshape(len(rows), -1).numpy()
        design = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        best = torch.from_numpy(design @ np.linalg.lstsq(design, target, rcond=None)[0])
        expected = norm(best.reshape(20, 8, 8, 5).permute(0, 3, 1, 2)).flatten(1)
        torch.testing.assert_close(logits(small, x), expected.detach(), rtol=1e-5, atol=1e-5)


def sums(net: nn.Module, x: Tensor, path: str) -> Tensor:
    """What a block adds up: the input of the activation behind the add."""
    return seen(net, x, path)


@pytest.mark.usefixtures("tiny_ridge")
def test_what_the_shortcut_lost_is_part_of_the_target() -> None:
    """Normal equations of every block of a pruned ResNet-20: what its *sum* lacks has mean zero and no correlation with its patches."""
    net = lively(build("resnet20", activation="silu", seed=0))
    x, grouping = images(20), find_groups(net, images(1))
    small = carry_out(net, random_plan(grouping, 0), calibration=[x[:13], x[13:]], grouping=grouping)
    lost = []
    for block in (f"layer{stage}.{index}" for stage in (1, 2, 3) for index in range(3)):
        lacking = (sums(net, x, f"{block}.act2") - sums(small, x, f"{block}.act2")).permute(0, 2, 3, 1).flatten(0, 2)
        rows = patches(seen(small, x, f"{block}.conv2"), small.get_submodule(f"{block}.conv2"))
        scale = float(sums(net, x, f"{block}.act2").std())
        assert float(lacking.mean(0).abs().max()) < 1e-6 * scale
        correlation = (rows - rows.mean(0)).T @ lacking / len(rows)
        assert float(correlation.abs().max()) < 1e-5 * scale * float(rows.std())
        lost.append(float(lacking.std()) / scale)
    assert max(lost) > 0.05  # something is lacking all the same


@pytest.mark.usefixtures("tiny_ridge")
@pytest.mark.parametrize("bottleneck", [False, True])
def test_with_pruned_residual_widths_and_projected_shortcuts(bottleneck: bool) -> None:
    """The last block's sum, on the channels it keeps; its own shortcut was pruned too, and the projection before it refitted."""
    net = replace_activations(lively(OptionB(bottleneck=bottleneck, widths=(6, 8))), "silu", kinds=nn.ReLU)
    x, grouping = images(60), find_groups(net, images(1), residual=True)
    plan = random_plan(grouping, 3)
    small = carry_out(net, plan, calibration=[x], grouping=grouping)
    for block, last in (("stages.2", "2" if bottleneck else "1"), ("stages.3", "2" if bottleneck else "1")):
        group = next(g for g in grouping.groups if any(m.path == f"{block}.body.{last}" and m.role == "out" for m in g.members))
        kept = list(next(part.keep for part in plan.groups if part.name == group.name))
        lacking = (sums(net, x, f"{block}.relu")[:, kept] - sums(small, x, f"{block}.relu")).permute(0, 2, 3, 1).flatten(0, 2)
        rows = patches(seen(small, x, f"{block}.body.{last}"), small.get_submodule(f"{block}.body.{last}"))
        correlation = (rows - rows.mean(0)).T @ lacking / len(rows)
        scale = float(sums(net, x, f"{block}.relu").std())
        assert float(lacking.mean(0).abs().max()) < 1e-6 * scale
        assert float(correlation.abs().max()) < 1e-5 * scale * float(rows.std())


@pytest.mark.usefixtures("tiny_ridge")
@pytest.mark.parametrize("through_add", [False, True])
def test_before_a_relu_the_second_solve_comes_closer_to_what_the_relu_lets_through(
    through_add: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objective, squared errors of relu's input where the original is positive and of its output elsewhere, cannot grow."""
    net = lively(build("resnet8", seed=0))
    x, grouping = images(60), find_groups(net, images(1))
    plan = keeping(grouping, {"layer1.0.conv1": (0, 2, 3, 6)})
    path = "layer1.0.act2" if through_add else "layer2.0.act1"
    if not through_add:  # its input differs only by what the block before it lost
        monkeypatch.setattr(recycle, "_shortcut", lambda *_: None)
    found = []
    for rectified in (recycle._is_rectified, lambda *_: False):
        monkeypatch.setattr(recycle, "_is_rectified", rectified)
        small = carry_out(net, plan, calibration=[x[:24], x[24:]], grouping=grouping)
        target, value = sums(net, x, path), sums(small, x, path)
        found.append(float(torch.where(target > 0, target - value, value.clamp(min=0)).square().mean()))
    assert found[0] < 0.99 * found[1]


def test_a_layer_with_too_many_columns_has_its_mean_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycle, "LARGEST", 30)
    net = lively(Chain("torch"))
    grouping = find_groups(net, images(1))
    small = carry_out(net, keeping(grouping, {"conv2": (0, 1, 2, 5)}), calibration=CALIBRATION, grouping=grouping)
    plain = apply(net, keeping(grouping, {"conv2": (0, 1, 2, 5)}), grouping=grouping)
    x = torch.cat(CALIBRATION)
    assert torch.equal(small.get_parameter("fc1.weight"), plain.get_parameter("fc1.weight"))
    layer, slim = net.get_submodule("fc1"), small.get_submodule("fc1")
    torch.testing.assert_close(slim(seen(small, x, "fc1")).mean(0), layer(seen(net, x, "fc1")).mean(0))


def untouched(net: nn.Module) -> Callable[[], bool]:
    state, draw = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    return lambda: all(torch.equal(state[k], v) for k, v in net.state_dict().items()) and torch.equal(draw, torch.get_rng_state())


@pytest.mark.parametrize("name", KINDS)
def test_the_original_its_mode_the_images_and_random_numbers_are_left_alone(name: str) -> None:
    net = lively(NETS[name]()).train()
    same, given = untouched(net), [batch.clone() for batch in CALIBRATION]
    small = prune(net, images(1), flops=0.9, align=1, calibration=given, seed=3)
    assert same()
    assert net.training
    assert small.training
    assert all(torch.equal(batch, other) for batch, other in zip(given, CALIBRATION, strict=True))


def test_a_network_that_works_in_place_on_its_input_does_not_change_the_images() -> None:
    net = lively(nn.Sequential(nn.ReLU(inplace=True), conv_bn(3, 8), conv_bn(8, 8), Head(8)))
    given = CALIBRATION[0].clone()
    grouping = find_groups(net, images(1))
    plan = keeping(grouping, {"1.0": (0, 1, 2)})
    recycle_features(net, apply(net, plan, grouping=grouping), plan, grouping, [given])
    assert torch.equal(given, CALIBRATION[0])


def test_a_layer_that_is_called_twice_is_left_as_it_is() -> None:
    net = lively(NETS["heads"]())
    grouping = find_groups(net, images(1))
    plan = random_plan(grouping, 0)
    small, plain = carry_out(net, plan, calibration=CALIBRATION, grouping=grouping), apply(net, plan, grouping=grouping)
    assert torch.equal(small.get_parameter("shared.0.weight"), plain.get_parameter("shared.0.weight"))
    assert not torch.equal(small.get_parameter("first.fc.weight"), plain.get_parameter("first.fc.weight"))


def test_the_seed_makes_it() -> None:
    net = lively(build("resnet8", seed=0), dtype=torch.float32)
    batches = [images(600, dtype=torch.float32)]  # so many that positions are sampled
    one, same, other = (
        prune(net, images(1, dtype=torch.float32), flops=0.5, criterion="l2", calibration=batches, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one.state_dict()[k], v) for k, v in same.state_dict().items())
    assert not torch.equal(one.get_parameter("layer1.0.conv2.weight"), other.get_parameter("layer1.0.conv2.weight"))


def test_layers_before_the_first_loss_are_not_touched_and_all_behind_it_are() -> None:
    net = lively(UpAndDown())
    grouping = find_groups(net, images(1))
    small = apply(net, keeping(grouping, {"merge.0": (0, 1, 2)}), grouping=grouping)
    before = {k: v.clone() for k, v in small.state_dict().items()}
    recycle_features(net, small, keeping(grouping, {"merge.0": (0, 1, 2)}), grouping, CALIBRATION)
    changed = {k for k, v in small.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.fc.weight", "head.fc.bias"}
    net = lively(build("resnet8", seed=0))
    grouping = find_groups(net, images(1))
    plan = keeping(grouping, {"layer2.0.conv1": (0, 1, 2)})
    before = {k: v.clone() for k, v in apply(net, plan, grouping=grouping).state_dict().items()}
    small = carry_out(net, plan, calibration=CALIBRATION, grouping=grouping)
    changed = {k for k, v in small.state_dict().items() if not torch.equal(v, before[k])}
    behind = ("layer2.0.conv2", "layer3.0.conv1", "layer3.0.conv2")
    norms = {f"{path.replace('conv', 'bn')}.running_mean" for path in behind}
    assert changed == {f"{path}.weight" for path in behind} | norms | {"linear.weight", "linear.bias"}


def test_memory_bounds_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is alive at once in both networks is an image, what the first layer gives, and that again behind its norm; so many fit."""
    net = lively(nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), Head(8)))
    grouping = find_groups(net, images(1))
    plan, x = keeping(grouping, {"0.0": (0, 1, 2)}), images(30)
    per_image = 2 * 144 * 8 * (8 + 8)  # float64, 12 x 12 pixels: convolution and norm, once the image itself has gone
    monkeypatch.setattr(recycle, "MEMORY", 7 * per_image)
    bounded, first = (carry_out(net, plan, calibration=[given], grouping=grouping) for given in (x, x[:7]))
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in bounded.state_dict().items())
    monkeypatch.setattr(recycle, "MEMORY", 1)
    carry_out(net, plan, calibration=[x], grouping=grouping)


def test_progress_counts_the_layers() -> None:
    told: list[object] = []

    class Listening:
        @contextmanager
        def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
            told.append((what, total, unit))
            yield lambda units: told.append(units)

        def say(self, line: str) -> None:
            told.append(line)

    net = lively(nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), Head(8)))
    prune(net, images(1), flops=0.5, align=1, criterion="l2", calibration=CALIBRATION, progress=Listening())
    assert told[0] == ("Recycle features", 2, "layers")
    assert told[1:] == [1, 1]
