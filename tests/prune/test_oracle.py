"""Our groups against those of an independent tool: Torch-Pruning 1.6.1 (G. Fang et al., "DepGraph", CVPR 2023).

For a channel of one of our groups, it must find the same slices: the same (module, role, position). Where it does not, the law of
removal (DESIGN 5.2) decides: its own removal of its own slices is carried out, and either does not run or changes the logits of the
network in which those slices are zero. That ours keep the law on the same networks is in `test_apply.py` and `test_networks.py`.
"""

import copy
import warnings
from typing import Any

import pytest
import torch
import torch_pruning
from torch import Tensor, nn

from gleanet.nn import build
from gleanet.prune import Group, find_groups
from gleanet.prune.layers import WEIGHTED, is_depthwise
from tests.prune.nets import NETS, images, lively, logits

Slices = set[tuple[str, str, int]]
BUILT_IN = ("resnet20_b", "resnet18_cifar", "resnet50", "vgg16_bn_cifar", "mobilenet_v2_cifar", "squeezenet1_1_cifar", "densenet40")
OPTION_A = "an option-A shortcut puts 8 zero channels in front: channel c of one stage meets c + 8 of the next, not c"
# network -> the groups where it differs from us, and why
DIFFERENT: dict[str, tuple[set[str], str]] = {
    **dict.fromkeys(("resnet8", "resnet8-mish", "resnet8-beamish", "resnet20"), ({"conv1"}, OPTION_A)),
    "chain-permute": ({"conv2"}, "after permute(0, 2, 3, 1) and flatten a channel is every twelfth feature, not nine features in a row"),
    "grouped": ({"mixed.0"}, "a depthwise convolution with two filters for each channel has positions 2c and 2c + 1, not c"),
    "parts": (
        {"left.0", "spread"},
        "a channel shuffle before a grouped convolution interleaves the halves of a concat, so they shrink together; a pixel shuffle by 2 "
        "makes one channel of four",
    ),
}
# network -> the layer that it prunes and we leave alone, and our reason
LEFT: dict[str, tuple[str, str]] = {
    "chain-minus": ("conv2", "the code gives it a fixed size (108); write -1 there"),
    "norm-layer": ("conv1", "norm1 (GroupNorm) mixes all its channels"),
}


def network(name: str) -> tuple[nn.Module, Tensor]:
    if name in NETS:
        return lively(NETS[name]()), images(1)
    return build(name, seed=0).double().eval(), images(1, shape=(3, 32, 32))


def graph_of(net: nn.Module, example: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parameters without a gradient and the like
        return torch_pruning.DependencyGraph().build_dependency(net, example)


def their_group(graph: Any, net: nn.Module, path: str, positions: tuple[int, ...]) -> Any:
    module = net.get_submodule(path)
    return graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, list(positions))


def slices_of(graph: Any, net: nn.Module, group: Any) -> Slices:
    """Its slices in our words: "out" and "in" of convolutions and linear layers, a depthwise one is "out" alone; "norm" of what else."""
    names: dict[object, str] = {module: path for path, module in net.named_modules()}
    names |= {parameter: path.rpartition(".")[0] for path, parameter in net.named_parameters()}  # of modules that it does not know
    found: Slices = set()
    for dependency, positions in group:
        module = dependency.target.module
        if module not in names or isinstance(module, nn.ReLU | nn.ReLU6 | nn.Mish):
            continue  # operations without channels of their own
        role = "norm"
        if isinstance(module, WEIGHTED):
            role = "out" if is_depthwise(module) or graph.is_out_channel_pruning_fn(dependency.handler) else "in"
        found |= {(names[module], role, int(position)) for position in positions}
    return found


def our_slices(group: Group, channel: int) -> Slices:
    return {(member.path, member.role, position) for member in group.members for position in member.index[channel]}


def some(channels: int) -> list[int]:
    return list(range(channels)) if channels <= 4 else [0, channels // 2, channels - 1]


@pytest.mark.parametrize("name", [*NETS, *BUILT_IN])
def test_its_groups_and_layers_are_ours(name: str) -> None:
    net, example = network(name)
    graph = graph_of(net, example)
    grouping = find_groups(net, example, residual=True)
    different, _ = DIFFERENT.get(name, (set(), ""))
    for group in grouping.groups:
        first = group.producers()[0]
        pairs = [
            (our_slices(group, c), slices_of(graph, net, their_group(graph, net, first.path, first.index[c]))) for c in some(group.channels)
        ]
        assert any(ours != theirs for ours, theirs in pairs) == (group.name in different), group.name

    # and it prunes no other layers, but for the outputs, which it prunes unless told not to
    names = {module: path for path, module in net.named_modules()}
    ours = {member.path for group in grouping.groups for member in group.producers()}
    left = {item.path: item.reason for item in grouping.left}
    theirs = {
        names[dependency.target.module]
        for group in graph.get_all_groups()
        for dependency, _ in group
        if isinstance(dependency.target.module, WEIGHTED) and graph.is_out_channel_pruning_fn(dependency.handler)
    }
    assert ours <= theirs
    more = {(path, left[path]) for path in theirs - ours if left[path] != "it is the network's output"}
    assert more == ({LEFT[name]} if name in LEFT else set())


@pytest.mark.parametrize("name", [*DIFFERENT, *LEFT])
def test_where_it_differs_its_removal_breaks_the_law(name: str) -> None:
    net, example = network(name)
    named = find_groups(net, example, residual=True).named()
    first = [named[group].producers()[0] for group in sorted(DIFFERENT[name][0])] if name in DIFFERENT else []
    for path, positions in [(member.path, member.index[0]) for member in first] if first else [(LEFT[name][0], (0,))]:
        zeroed, small = copy.deepcopy(net), copy.deepcopy(net)
        graph = graph_of(small, example)
        group = their_group(graph, small, path, positions)
        with torch.no_grad():
            for where, role, position in slices_of(graph, small, group):
                module = zeroed.get_submodule(where)
                if role != "in":
                    for parameter in module.parameters(recurse=False):
                        view = parameter.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) and parameter.dim() > 1 else parameter
                        view[position] = 0.0
        try:
            group.prune()
            moved = float((logits(small, images(3)) - logits(zeroed, images(3))).abs().max())
        except RuntimeError:  # it does not even run
            continue
        assert moved > 1e-6
