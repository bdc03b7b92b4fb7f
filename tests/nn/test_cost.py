"""Multiply-accumulates against counts by hand."""

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.nn import class_count, cost


def test_a_chain_counted_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 8*10*12 outputs x 27
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, groups=4, bias=False),  # 16*4*5 outputs x 2*9
        nn.ConvTranspose2d(16, 6, 2, stride=2, groups=2),  # 16*4*5 inputs x 3*4
        nn.Flatten(),
        nn.Linear(6 * 8 * 10, 5),
    )
    found = cost(net, torch.zeros(7, 3, 10, 12))
    assert [layer.macs for layer in found.layers] == [8 * 120 * 27, 16 * 20 * 18, 16 * 20 * 12, 480 * 5]
    assert [layer.kind for layer in found.layers] == ["conv2d", "conv2d", "convtranspose2d", "linear"]
    assert [layer.params for layer in found.layers] == [8 * 28, 16 * 18, 16 * 12 + 6, 481 * 5]
    assert found.layers[1].out_shape == (16, 4, 5)
    assert found.layers[1].path == "3"
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.params == sum(layer.params for layer in found.layers) + 16


def test_a_linear_layer_over_tokens_counts_every_token() -> None:
    assert cost(nn.Linear(4, 3), torch.zeros(2, 7, 4)).macs == 7 * 4 * 3


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))  # type: ignore[no-any-return]


def test_a_layer_used_twice_counts_its_macs_twice_and_its_parameters_once() -> None:
    found = cost(Twice(), torch.zeros(1, 2, 4, 4))
    assert found.macs == 2 * 4 * 16
    assert found.params == 6


def test_the_network_is_left_as_it_was() -> None:
    conv, norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval()
    net = nn.Sequential(conv, norm, nn.Dropout())
    cost(net, torch.ones(2, 3, 4, 4))
    assert net.training
    assert not norm.training
    assert not conv._forward_hooks
    assert float(norm.get_buffer("running_mean").abs().sum()) == 0.0


def test_an_input_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"does not accept an input of shape \[1, 1, 4, 4\]") as caught:
        cost(nn.Conv2d(3, 4, 1), torch.zeros(1, 1, 4, 4))
    assert "\n" not in str(caught.value)


def test_class_count() -> None:
    assert class_count(nn.Sequential(nn.Flatten(), nn.Linear(12, 9)), torch.zeros(3, 3, 2, 2)) == 9
    with pytest.raises(ModelError, match=r"not a classifier.*\[1, 4, 2, 2\]"):
        class_count(nn.Conv2d(3, 4, 1), torch.zeros(3, 3, 2, 2))
