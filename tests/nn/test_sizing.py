"""Networks whose code looks at sizes are traced with those of the example; their groups are those of the network without the looks."""

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.prune import find_groups, prune


class Guarded(nn.Module):
    """Two convolutions and a linear layer, with the checks of old tutorials."""

    def __init__(self, inner: int = 0) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.linear, self.inner = nn.Linear(16 * 64, 4), inner

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        assert x.ndim in (3, 4)
        assert len(x.shape) == 4
        if x.shape[1] != 3:
            raise ValueError(f"expected 3 channels, got {x.shape[1]}")
        h, w = x.shape[2:]
        if h != w:
            raise ValueError("expected a square")
        x = torch.relu(self.conv1(x))
        if self.inner and x.shape[1] != self.inner:
            raise ValueError("another width")
        x = torch.relu(self.conv2(x))
        features = 1
        for size in x.size()[1:]:
            features *= size
        return self.linear(x.view(-1, features))  # type: ignore[no-any-return]


def test_guards_and_loops_over_sizes_are_followed() -> None:
    example = torch.zeros(1, 3, 8, 8)
    assert [group.name for group in find_groups(Guarded(), example).groups] == ["conv1", "conv2"]
    assert prune(Guarded(), example, flops=0.5)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_a_width_that_the_code_decides_by_stays() -> None:
    grouping = find_groups(Guarded(inner=16), torch.zeros(1, 3, 8, 8))
    assert [group.name for group in grouping.groups] == ["conv2"]
    assert {item.path: item.reason for item in grouping.left}["conv1"] == "the code decides by its number of channels"


def test_the_networks_own_refusal_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"expected 3 channels, got 1") as caught:
        find_groups(Guarded(), torch.zeros(1, 1, 8, 8))
    assert "\n" not in str(caught.value)
