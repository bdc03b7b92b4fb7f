"""Wrapped networks, networks that keep outputs, and networks without values, at the doors of pruning and export."""

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.prune import apply, plan, prune
from tests.tiny import chain, images


class Keeps(nn.Module):
    """Holds what its network gave last."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.last = chain(), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.net(x)
        return self.last


def test_wrappers_are_taken_off() -> None:
    small = prune(nn.DataParallel(chain()), images(1), flops=0.5)
    assert isinstance(small, nn.Sequential)
    chosen = plan(chain(), images(1), flops=0.5)
    assert isinstance(apply(nn.DataParallel(chain()), chosen), nn.Sequential)


def test_kept_outputs_do_not_hinder_a_copy() -> None:
    net = Keeps()
    net(images(2)).sum().backward()
    assert prune(net, images(1), flops=0.5)(images(2)).shape == (2, 4)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(4)), "0 is a LazyConv2d that was never run"),
        (nn.Sequential(nn.Conv2d(3, 8, 3, device="meta"), nn.Flatten(), nn.Linear(288, 4)), "0.weight is on the meta device"),
    ],
)
def test_networks_without_values_are_refused_in_one_line(net: nn.Module, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        prune(net, images(1), flops=0.5)
    assert "\n" not in str(caught.value)
