"""What can be followed, what is refused, and that looking changes nothing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.nn.trace import batch_norms_behind, evaluating, trace
from gleanet.prune import find_groups
from tests.prune.nets import Head, Heads, OptionB, conv, conv_bn, images, lively


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.mean() > 0:  # this line is named in the error
            x = -x
        return x


class Gate(nn.Module):
    """A user's module that cannot be followed, but holds no other modules."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Doubled(nn.Module):
    """A user's module without children that can be followed."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


class WithOptions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn(3, 8), Head(8)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, extra: bool = False) -> Tensor:
        x = self.stem(x)
        if mask is not None:
            x = x * mask
        if extra:
            x = x + 1
        return self.head(x * scale)  # type: ignore[no-any-return]


class OwnConv(nn.Conv2d):
    """A subclass that computes what a convolution computes."""


class ScaledConv(nn.Conv2d):
    """A subclass that does not."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias, padding=1)


class HandAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Conv2d(3, 24, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).chunk(3, dim=1)
        weights = torch.softmax(q.transpose(1, 2) @ k / 8**0.5, dim=-1)
        return self.out((weights @ v.transpose(1, 2)).transpose(1, 2).unflatten(2, (12, 12)))  # type: ignore[no-any-return]


class CalledAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2)
        return F.scaled_dot_product_attention(x, x, x)


def test_control_flow_on_values_is_refused_with_the_line() -> None:
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "named in the error" in text and "if x" in text)
    with pytest.raises(
        ModelError, match=rf"cannot trace Branching at .*test_trace\.py:{line}: symbolically traced .*cannot follow"
    ) as caught:
        find_groups(Branching(), images(1))
    assert "\n" not in str(caught.value)


def test_wrong_input_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"cannot run OptionB: .*the example input is \[1, 1, 12, 12\]") as caught:
        trace(OptionB(), torch.zeros(1, 1, 12, 12))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("net", [HandAttention(), CalledAttention(), nn.Sequential(nn.TransformerEncoderLayer(8, 2))])
def test_attention_is_refused_with_a_sentence(net: nn.Module) -> None:
    with pytest.raises(ModelError, match="refuses attention"):
        find_groups(net, images(1, dtype=torch.float32))


def test_a_module_that_cannot_be_followed_inside_is_kept_whole_and_named() -> None:
    net = nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), Gate(), conv_bn(8, 8), Head(8))
    grouping = find_groups(net, images(1, dtype=torch.float32))
    assert [group.name for group in grouping.groups] == ["0.0", "3.0"]
    assert {item.path: item.reason for item in grouping.left}["1.0"] == "2 (Gate) is not known to keep channels apart"


def test_a_users_own_modules_are_followed_inside() -> None:
    grouping = find_groups(nn.Sequential(conv_bn(3, 8), Doubled(), conv_bn(16, 8), Head(8)), images(1, dtype=torch.float32))
    reader = grouping.named()["0.0"].consumers()[0]
    assert reader.path == "2.0"
    assert reader.index[3] == (3, 11)


def test_optional_arguments_have_their_defaults() -> None:
    assert [g.name for g in find_groups(WithOptions(), images(1, dtype=torch.float32)).groups] == ["stem.0"]


def test_subclasses_of_layers() -> None:
    net = nn.Sequential(OwnConv(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), ScaledConv(8, 8, 3), nn.Flatten(), nn.Linear(512, 5))
    grouping = find_groups(net, images(1, dtype=torch.float32))
    assert [group.name for group in grouping.groups] == ["0"]
    assert "conv2d" in {item.path: item.reason for item in grouping.left}["2"]


def test_modes_of_all_modules_are_left_as_they_were() -> None:
    net = OptionB().train()
    net.stem[1].eval()  # a frozen batch-norm inside a training network
    before = [module.training for module in net.modules()]
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    find_groups(net, images(2, dtype=torch.float32))
    assert [module.training for module in net.modules()] == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(ZeroDivisionError), evaluating(net):
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == before


class OneFilterTwoNorms(nn.Module):
    """A convolution that is called twice, each time with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.norm1, self.norm2, self.head = conv_bn(3, 8), conv(8, 8), nn.BatchNorm2d(8), nn.BatchNorm2d(8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm2(self.shared(F.relu(self.norm1(self.shared(self.stem(x))))))))  # type: ignore[no-any-return]


def test_a_layer_that_is_called_twice_has_no_norm_of_its_own() -> None:
    assert batch_norms_behind(trace(lively(OneFilterTwoNorms()), images(1))) == {"stem.0": "stem.1"}


def test_batch_norm_behind_a_layer_needs_to_be_its_only_reader() -> None:
    behind = batch_norms_behind(trace(lively(OptionB()), images(1)))
    assert behind["stem.0"] == "stem.1"
    assert behind["stages.2.downsample.0"] == "stages.2.downsample.1"
    shared = batch_norms_behind(trace(lively(Heads()), images(1)))
    assert "shared.0" not in shared  # called twice: its mean cannot take up what one call lacks
    assert shared["stem.0"] == "stem.1"
