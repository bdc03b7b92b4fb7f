"""The built-in networks: published figures, torchvision's names, depth, shapes; each runs, trains and traces."""

from typing import Any

import pytest
import torch
import torch.fx
from torch import nn

from gleanet.cli.jobs import BUILT_IN
from gleanet.core.errors import ModelError
from gleanet.nn import ACTIVATIONS, NAMES, architecture_of, build, cost

# Parameters and MACs of convolutions and linear layers, with as many digits as are published. ImageNet networks: "num_params" and "_ops"
# of torchvision's weights (docs.pytorch.org/vision/stable/models.html). CIFAR ResNets: parameters by K. He et al. 2015, table 6; MACs by
# Y. He et al. 2018 (Soft Filter Pruning, tables 1 and 2). VGG-16: H. Li et al. 2017 (Pruning Filters for Efficient ConvNets, table 1).
# DenseNet-40: MACs by M. Lin et al. 2020 (HRank, table 4), parameters by G. Huang et al. 2017, table 2.
PUBLISHED = {
    "resnet20": ("0.27 M", "0.0406 G"),
    "resnet56": ("0.85 M", "0.1255 G"),
    "resnet110": ("1.7 M", "0.253 G"),
    "resnet18": ("11.689512 M", "1.814 G"),
    "resnet34": ("21.797672 M", "3.664 G"),
    "resnet50": ("25.557032 M", "4.089 G"),
    "vgg16_bn": ("138.365992 M", "15.47 G"),
    "vgg16_bn_cifar": ("15 M", "0.313 G"),
    "mobilenet_v2": ("3.504872 M", "0.301 G"),
    "squeezenet1_1": ("1.235496 M", "0.349 G"),
    "densenet40": ("1 M", "0.28292 G"),
}


def rounded(value: float, published: str) -> str:
    """``value`` as the published figure is written: in its unit, with its digits."""
    number, unit = published.split()
    return f"{value / {'M': 1e6, 'G': 1e9}[unit]:.{len(number.partition('.')[2])}f} {unit}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_equals_the_published_figures(name: str) -> None:
    params, macs = PUBLISHED[name]
    with torch.device("meta"):  # shapes only
        net = build(name)
        found = cost(net, torch.zeros(1, *architecture_of(net).input_shape))
    assert (rounded(found.params, params), rounded(found.macs, macs)) == (params, macs)


def test_small_forms_have_the_parameters_of_the_large_ones_but_for_stem_and_head() -> None:
    """ImageNet's classes and 7x7 stem, and VGG's hidden layers, counted by hand."""
    params = {name: sum(p.numel() for p in build(name, num_classes=10).parameters()) for name in NAMES if name != "vgg16_bn"}
    assert params["resnet18"] - params["resnet18_cifar"] == 3 * 64 * (49 - 9)
    assert params["mobilenet_v2"] == params["mobilenet_v2_cifar"]
    assert params["squeezenet1_1"] == params["squeezenet1_1_cifar"]
    hidden = (25088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert params["vgg16_bn_cifar"] - (512 + 1) * 10 == 138_365_992 - hidden
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    for depth in ("20", "56", "110"):
        assert params[f"resnet{depth}_b"] - params[f"resnet{depth}"] == projections


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet18", 18), ("resnet34", 34), ("resnet50", 50), ("vgg16_bn", 16), ("densenet40", 40), ("resnet110_b", 110)]
)
def test_depth_is_what_the_name_says(name: str, depth: int) -> None:
    with torch.device("meta"):
        net = build(name)
    projections = sum(isinstance(m, nn.Conv2d) for path, m in net.named_modules() if ".downsample." in path or ".shortcut." in path)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) - projections == depth


# Names and shapes as in the state dicts that torchvision publishes, from its documentation of each network.
STATES: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet18": {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.0.weight": (128, 64, 1, 1), "layer4.1.bn2.running_var": (512,)},
    "resnet50": {"layer1.0.downsample.1.bias": (256,), "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.weight": (1000, 2048)},
    "vgg16_bn": {
        "features.0.bias": (64,), "features.41.running_mean": (512,), "classifier.0.weight": (4096, 25088), "classifier.6.bias": (1000,),
    },
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3), "features.1.conv.0.0.weight": (32, 1, 3, 3), "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.3.weight": (24,), "features.17.conv.1.0.weight": (960, 1, 3, 3), "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    },
    "squeezenet1_1": {
        "features.3.squeeze.weight": (16, 64, 1, 1), "features.12.expand3x3.bias": (256,), "classifier.1.weight": (1000, 512, 1, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_names_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        state = build(name).state_dict()
    assert {key: tuple(state[key].shape) for key in STATES[name]} == STATES[name]


def small(name: str) -> nn.Module:
    """Narrow heads; the ImageNet forms run on smaller images too."""
    return build(name, num_classes=7, seed=0)


QUICK = [name for name in NAMES if name not in ("resnet34", "resnet50", "vgg16_bn", "resnet110", "resnet110_b", "resnet44", "resnet32")]


@pytest.mark.parametrize("name", QUICK)
def test_digits_and_cifar_sizes_run_and_every_parameter_gets_a_gradient(name: str) -> None:
    net = small(name)
    for side in (16, 32) if architecture_of(net).input_shape[1] <= 32 else (64,):
        assert net.eval()(torch.zeros(2, 3, side, side)).shape == (2, 7)
        x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
        net.zero_grad()
        net.train()(x).square().sum().backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


@pytest.mark.parametrize("name", QUICK)
def test_every_activation_is_its_own_module_of_the_table(name: str) -> None:
    """The published one where none is asked for; and nothing in the code calls another."""
    for asked, kind in ((None, nn.ReLU6 if name.startswith("mobilenet") else nn.ReLU), ("hardswish", nn.Hardswish)):
        with torch.device("meta"):
            net = build(name, activation=asked)
        traced = torch.fx.symbolic_trace(net)
        used: list[Any] = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
        acts = [path for path, module in net.named_modules() if type(module) in {row.kind for row in ACTIVATIONS.values()}]
        assert acts
        assert {type(net.get_submodule(path)) for path in acts} == {kind}
        assert [used.count(path) for path in acts] == [1] * len(acts)
        called = {getattr(node.target, "__name__", node.target) for node in traced.graph.nodes if node.op.startswith("call_f")}
        assert called <= {"add", "cat", "flatten", "pad", "getitem"}


def test_arguments_are_checked() -> None:
    with pytest.raises(ModelError, match="num_classes must be a whole number from 1 to 100,000, got 0"):
        build("vgg16_bn_cifar", num_classes=0)
    with pytest.raises(ModelError, match="mobilenet_v2 takes no widths: prune it, or load a pruned one from its file"):
        build("mobilenet_v2", widths={"features.0.0": 8})
    with pytest.raises(ModelError, match="unknown activation 'rolu'"):
        build("densenet40", activation="rolu")
    assert architecture_of(build("mobilenet_v2_cifar")).kwargs == {"num_classes": 10, "activation": "relu6"}
    assert build("resnet20_b", widths={"layer1.0.conv1": 5}).get_parameter("layer1.0.conv2.weight").shape == (16, 5, 3, 3)


def test_the_help_of_the_commands_lists_every_name() -> None:
    words = BUILT_IN.replace(",", " ").split()
    assert sorted(word for word in words if word in NAMES) == sorted(NAMES)
