"""Swapping activations by kind and by path."""

import pytest
import torch
from torch import nn

from gleanet.core.errors import ModelError
from gleanet.nn import BeaMish, architecture_of, build, replace_activations


def test_every_activation_becomes_its_own_copy_of_the_new_one() -> None:
    net = build("resnet8", seed=0)
    swapped = replace_activations(net, to=BeaMish(1.0, 1.5))
    new = [module for module in swapped.modules() if isinstance(module, BeaMish)]
    assert len(new) == len({id(module) for module in new}) == 7
    assert not any(isinstance(module, nn.ReLU) for module in swapped.modules())
    assert sum(isinstance(module, nn.ReLU) for module in net.modules()) == 7
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), swapped.parameters(), strict=True))
    assert architecture_of(swapped) == architecture_of(net)


def test_the_swap_computes_what_a_network_built_with_it_computes() -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    built = build("resnet8", seed=0, activation="mish").eval()
    swapped = replace_activations(build("resnet8", seed=0).eval(), to="mish")
    swapped.load_state_dict(built.state_dict())
    assert torch.equal(swapped(x), built(x))
    assert not any(module.training for module in swapped.modules())


def test_by_path_and_by_kind() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.SiLU(), nn.ReLU())

    def kinds(changed: nn.Module) -> list[str]:
        return [type(module).__name__ for module in changed.children()]

    assert kinds(replace_activations(net, to=nn.GELU, paths=["0", "1"])) == ["GELU", "GELU", "SiLU", "ReLU"]
    assert kinds(replace_activations(net, to="gelu", kinds=nn.ReLU)) == ["GELU", "Tanh", "SiLU", "GELU"]
    assert kinds(replace_activations(net, to="gelu", kinds=(nn.Tanh, nn.SiLU))) == ["ReLU", "GELU", "GELU", "ReLU"]
    assert kinds(replace_activations(net, to="gelu", kinds=nn.ReLU, paths=["3", "1"])) == ["ReLU", "Tanh", "SiLU", "GELU"]


def test_nothing_to_replace_and_unknown_paths_are_errors() -> None:
    with pytest.raises(ModelError, match="no activation module"):
        replace_activations(nn.Sequential(nn.Conv2d(3, 3, 1)), to="mish")
    with pytest.raises(ModelError, match="no module 'act9'"):
        replace_activations(build("resnet8"), to="mish", paths=["act9"])
    with pytest.raises(ModelError, match="unknown activation 'swich'"):
        replace_activations(build("resnet8"), to="swich")


def test_a_path_of_a_part_means_every_activation_inside() -> None:
    net = build("resnet8", seed=0)
    swapped = replace_activations(net, to="beamish(alpha=2,beta=1)", paths=["layer1", "act"])
    changed = {path for path, module in swapped.named_modules() if isinstance(module, BeaMish)}
    assert changed == {"act", "layer1.0.act1", "layer1.0.act2"}
    assert all(module.alpha == 2.0 for module in swapped.modules() if isinstance(module, BeaMish))


def test_factors_for_each_channel_of_every_place() -> None:
    net = build("squeezenet1_1_cifar", seed=0)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mode_before, hooks = net.training, sum(len(module._forward_pre_hooks) for module in net.modules())
    swapped = replace_activations(net, lambda channels: BeaMish(learnable=True, channels=channels), example_input=x[:1])
    found = {path: module.channels for path, module in swapped.named_modules() if isinstance(module, BeaMish)}
    assert found["features.1"] == 64
    assert found["features.3.squeeze_activation"] == 16
    assert found["classifier.2"] == 10
    assert swapped.eval()(x).shape == (2, 10)
    assert net.training == mode_before
    assert sum(len(module._forward_pre_hooks) for module in net.modules()) == hooks
