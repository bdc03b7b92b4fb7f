"""Building a built-in network: public checkpoints, initialisation, widths. Figures of all of them: `test_networks.py`."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.fx
from torch import nn

from gleanet.core.errors import ModelError
from gleanet.core.records import Preprocess
from gleanet.data import load
from gleanet.nn import ACTIVATIONS, architecture_of, build
from gleanet.nn.networks.resnet_cifar import Block
from gleanet.train import predict


@pytest.mark.parametrize(("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")])
def test_public_checkpoints_classify_original_pixels(name: str, file: str, shared_data: Path, shared_weights: Path) -> None:
    net = build(name, weights=shared_weights / file)
    images = load(str(shared_data / "cifar-10-batches-py")).test
    hits = predict(net, images.images, Preprocess()).argmax(1) == images.labels
    assert float(np.mean(hits)) > 0.9


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = build("resnet8", seed=1), build("resnet8", seed=1), build("resnet8", seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))


@pytest.mark.parametrize("name", ["relu", "mish"])
def test_initial_weights_are_he_normal_fan_in_with_the_activations_gain(name: str) -> None:
    weight = build("resnet20", seed=0, activation=name).get_parameter("layer3.0.conv1.weight")  # 32 channels to 64
    moment = {"relu": 0.5, "mish": 0.4523}[name]  # E[f(z)^2], z standard normal
    assert float(weight.detach().std()) == pytest.approx((1 / (moment * 32 * 9)) ** 0.5, rel=0.02)
    assert float(weight.detach().mean()) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation_is_its_own_module_and_traces(name: str) -> None:
    net = build("resnet8", seed=0, activation=name).eval()
    uses = [module for module in net.modules() if type(module) is ACTIVATIONS[name].kind]
    assert len(uses) == 7
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))


def test_the_shortcut_subsamples_and_pads_equally_on_both_sides() -> None:
    block = Block(4, 4, 8, 2, nn.Identity)
    x = torch.arange(2 * 4 * 4 * 4, dtype=torch.float32).view(2, 4, 4, 4)
    expected = np.pad(x.numpy()[:, :, ::2, ::2], ((0, 0), (2, 2), (0, 0), (0, 0)))
    assert np.array_equal(block.shortcut(x).numpy(), expected)


def test_widths_narrow_the_inner_convolutions_only() -> None:
    net = build("resnet8", seed=0, widths={"layer2.0.conv1": 5})
    assert net.get_parameter("layer2.0.conv1.weight").shape == (5, 16, 3, 3)
    assert net.get_parameter("layer2.0.bn1.weight").shape == (5,)
    assert net.get_parameter("layer2.0.conv2.weight").shape == (32, 5, 3, 3)
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert architecture_of(net).widths == {"layer2.0.conv1": 5}


@pytest.mark.parametrize(
    ("widths", "message"), [({"layer2.0.conv2": 5}, "'layer2.0.conv2' is not an inner"), ({"layer1.0.conv1": 0}, "at least 1")]
)
def test_impossible_widths_are_refused(widths: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build("resnet8", widths=widths)


def test_the_record_survives_deepcopy_and_stays_out_of_the_state_dict() -> None:
    net = build("resnet8", seed=0, num_classes=7, activation="mish")
    assert architecture_of(copy.deepcopy(net)) == architecture_of(net)
    assert architecture_of(net).kwargs == {"num_classes": 7, "activation": "mish"}
    assert not any("architecture" in key for key in net.state_dict())
    assert architecture_of(pickle.load(io.BytesIO(pickle.dumps(net)))) == architecture_of(net)  # noqa: S301 (our own bytes)


def test_a_network_without_a_record_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"Linear has no architecture record.*build"):
        architecture_of(nn.Linear(2, 2))
