"""Wide layers take the sizes of narrow ones' tensors; the reference is the narrow layer that torch's own constructor makes."""

import copy

import pytest
import torch
from torch import nn

from gleanet.nn.narrow import narrow

PAIRS: dict[str, tuple[nn.Module, nn.Module]] = {
    "conv1d": (nn.Conv1d(8, 12, 3, stride=2), nn.Conv1d(5, 7, 3, stride=2)),
    "conv3d": (nn.Conv3d(4, 6, 3, dilation=2, bias=False), nn.Conv3d(3, 2, 3, dilation=2, bias=False)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(4, 8, 3, groups=4)),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(3, 3, 3, groups=3)),
    "two filters a channel": (nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(3, 6, 3, groups=3)),
    "transposed": (nn.ConvTranspose2d(8, 12, 3, stride=2), nn.ConvTranspose2d(5, 7, 3, stride=2)),
    "depthwise transposed": (nn.ConvTranspose2d(8, 8, 2, groups=8), nn.ConvTranspose2d(1, 1, 2, groups=1)),
    "depthwise transposed 3d": (nn.ConvTranspose3d(8, 8, 2, groups=8), nn.ConvTranspose3d(3, 3, 2, groups=3)),
    "grouped transposed": (nn.ConvTranspose2d(8, 12, 2, groups=4), nn.ConvTranspose2d(4, 8, 2, groups=4)),
    "linear": (nn.Linear(8, 12), nn.Linear(5, 7)),
    "batch-norm": (nn.BatchNorm1d(8), nn.BatchNorm1d(5)),
    "batch-norm without scale": (nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(5, affine=False)),
    "batch-norm without statistics": (nn.BatchNorm3d(8, track_running_stats=False), nn.BatchNorm3d(5, track_running_stats=False)),
    "instance-norm": (nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(5, affine=True)),
    "instance-norm without tensors": (nn.InstanceNorm2d(8), nn.InstanceNorm2d(5)),
    "group-norm": (nn.GroupNorm(4, 12), nn.GroupNorm(2, 6)),
    "group-norm without tensors": (nn.GroupNorm(4, 12, affine=False), nn.GroupNorm(2, 6, affine=False)),
    "prelu": (nn.PReLU(8), nn.PReLU(5)),
    "a bias that was not there": (nn.Conv2d(8, 12, 3, bias=False), nn.Conv2d(5, 7, 3)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_wide_layer_becomes_the_narrow_one(name: str) -> None:
    wide, small = (nn.Sequential(copy.deepcopy(layer)) for layer in PAIRS[name])
    count = getattr(small[0], "num_features", getattr(small[0], "num_channels", 0))
    narrow(wide, small.state_dict(), {"0": count} if "without tensors" in name else {})
    assert wide[0].extra_repr() == small[0].extra_repr()
    wide.load_state_dict(small.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(wide.state_dict().values(), small.state_dict().values(), strict=True))


def test_what_fits_is_left_as_it_is() -> None:
    for layer, _ in PAIRS.values():
        net = nn.Sequential(copy.deepcopy(layer))
        before = dict(net.named_parameters())
        narrow(net, net.state_dict(), {})
        assert all(before[name] is parameter for name, parameter in net.named_parameters())
