"""Where channels go: what is tied by counting operations, and what is left alone with which reason."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.prune import apply, find_groups, zero
from tests.prune.nets import Head, conv, conv_bn, images, lively, logits, random_plan


class Between(nn.Module):
    """conv_bn -> some operation on 8 channels -> flatten -> linear, sized by a dry run; ``operation`` is traced with the rest."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.operation = conv_bn(3, 8), operation
        self.table = nn.Parameter(torch.ones(8, 1, 1))
        self.fc = nn.Linear(operation(torch.zeros(1, 8, 12, 12)).flatten(1).shape[1], 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.operation(self.stem(x)).flatten(1))  # type: ignore[no-any-return]


def computed_slice(x: Tensor) -> Tensor:
    return x[:, : x.size(1) // 2]


def mean_by_hand(x: Tensor) -> Tensor:
    return x.sum((2, 3)) / x.size(1)


def cat_of_zeros(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return torch.cat([x, x.new_zeros(n, c, h, w)], 1)


HELD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "view": (lambda x: x.view(-1, 8, 144), "the code gives it a fixed size (8); write -1 there"),
    "two-sizes": (lambda x: x.view(x.size(0), 2, 4, 144), "the code gives it a fixed size (2 x 4); write -1 there"),
    "split": (lambda x: torch.split(x, 4, dim=1)[0], "split cuts it at fixed positions"),
    "split-list": (lambda x: torch.split(x, [3, 5], dim=1)[1], "split cuts it at fixed positions"),
    "unbind": (lambda x: x.unbind(1)[0], "unbind cuts it at fixed positions"),
    "uneven-chunk": (lambda x: x.chunk(3, dim=1)[0], "chunk cuts it at fixed positions"),
    "computed-slice": (computed_slice, "it is indexed by a tensor or a computed position"),
    "index": (lambda x: x[:, torch.tensor([1, 2])], "it is indexed by a tensor or a computed position"),
    "list": (lambda x: x[:, [1, 2]], "it is indexed by a tensor or a computed position"),
    "last": (lambda x: x[:, -1], "the code takes channels by their position"),
    "stride": (lambda x: x[:, ::2], "the code takes channels by their position"),
    "number": (mean_by_hand, "the code computes with its number of channels"),
    "cut-shape": (lambda x: x.sum((2, 3)) / x.shape[1:][0], "the code computes with its number of channels"),
    "zeros": (cat_of_zeros, "the code computes with its number of channels"),
    "mean": (lambda x: x.mean(1), "mean is taken over channels"),
    "sum": (lambda x: x.sum(dim=1), "sum is taken over channels"),
    "amax": (lambda x: x.amax(dim=(1, 2)), "amax is taken over channels"),
    "softmax": (lambda x: torch.softmax(x, 1), "softmax is not known to keep channels apart"),
    "matmul": (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), "matmul is not known to keep channels apart"),
    "sort": (lambda x: x.sort(1)[0], "sort is not known to keep channels apart"),
    "divide": (lambda x: x / (x + 1), "truediv by its channels is not defined where they are zero"),
    "spread-sum": (lambda x: x + x.mean((1, 2, 3), keepdim=True), "mean is taken over channels"),
    "map-sum": (lambda x: x[:, :, :1, :1].flip(1) + x[:, :1], "the code takes channels by their position"),
    "padded": (lambda x: F.pad(x, (1, 1), value=1.0), "it is padded with a value that is not zero"),
    "layer-norm": (lambda x: F.layer_norm(x, x.shape[2:]), "layer_norm is not known to keep channels apart"),
    "attribute": (lambda x: x.mT, ".mT is not known to keep channels apart"),
    "clamp": (lambda x: torch.clamp(x, min=x.detach()), "clamp of several tensors is not known"),
}  # fmt: skip


def law(net: nn.Module, seed: int = 0) -> float:
    plan = random_plan(find_groups(net, images(1)), seed)
    return float((logits(zero(net, plan), images(3)) - logits(apply(net, plan), images(3))).abs().max())


@pytest.mark.parametrize("name", HELD)
def test_what_counts_or_mixes_channels_holds_them_and_says_why(name: str) -> None:
    operation, reason = HELD[name]
    with pytest.raises(ModelError) as caught:
        find_groups(lively(Between(operation)), images(1))
    assert f"stem.0: {reason}" in str(caught.value)


FREE: dict[str, Callable[[Tensor], Tensor]] = {
    "slice": lambda x: x[:, :, 2:, ::2],
    "ellipsis": lambda x: x[..., 1:],
    "new": lambda x: torch.cat([x, x.new_zeros(x.size(0), 3, 12, 12)], 1),
    "new-axis": lambda x: x[:, None].squeeze(1),
    "tail": lambda x: x[:, 3:],
    "shuffle": lambda x: x.view(x.size(0), 2, x.size(1) // 2, 12, 12).transpose(1, 2).reshape(x.size(0), -1, 12, 12),
    "blocks": lambda x: x.view(x.size(0), -1, 4, 12, 12),
    "unflatten": lambda x: torch.unflatten(x, 1, (2, -1)),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 2, 2),
    "expand-as": lambda x: x.amax(dim=3, keepdim=True).expand_as(x) * x,
    "like": lambda x: torch.cat([x, torch.zeros_like(x)], 1),
    "ones": lambda x: x + torch.ones_like(x),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "flip": lambda x: x.flip(1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "same-size": lambda x: x.flatten(2).view(x.size()),
    "cut-shape": lambda x: x.reshape(x.shape[0], x.shape[1:][0], -1) / x.shape[1:][1],
    "shape": lambda x: x.reshape(x.shape[0], x.shape[1], -1),
    "tail-of-shape": lambda x: F.interpolate(x[:, :, ::2, ::2], size=x.shape[-2:]),
    "own-split": lambda x: torch.cat(torch.split(x, [x.size(1) // 2, x.size(1) // 2], 1)[::-1], 1),
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "number": lambda x: 1 - x * 2 / 3,
    "power": lambda x: (x**2 + 1e-3).sqrt(),
    "mask": lambda x: x * (x.shape[2] / 12),
    "reflect": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "variance": lambda x: x.var((2, 3)),
    "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "pad-channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 2)),
}


@pytest.mark.parametrize("name", FREE)
def test_what_only_moves_channels_is_followed(name: str) -> None:
    net = lively(Between(FREE[name]))
    assert law(net) <= 1e-12
    assert law(net, 1) <= 1e-12


def test_a_slice_from_a_position_holds_what_comes_before_it() -> None:
    grouping = find_groups(lively(Between(lambda x: x[:, 3:])), images(1))
    assert grouping.groups[0].channels == 5
    assert (grouping.left[0].path, grouping.left[0].reason) == ("stem.0", "3 of 8 channels: the code takes channels by their position")


class Masked(nn.Module):
    """Spatial attention: one channel multiplies all, and that channel must stay; the others may go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mask, self.head = conv_bn(3, 8), conv(8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x * torch.sigmoid(self.mask(x)))  # type: ignore[no-any-return]


def test_one_channel_that_multiplies_all_is_held() -> None:
    grouping = find_groups(lively(Masked()), images(1))
    assert [(group.name, group.channels) for group in grouping.groups] == [("stem.0", 8)]
    assert {item.path: item.reason for item in grouping.left}["mask"] == "all channels are multiplied by it"
    assert law(lively(Masked())) <= 1e-12


class Scaled(nn.Module):
    """LayerScale: a parameter of the network's own meets the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gamma, self.last, self.head = conv_bn(3, 8), nn.Parameter(torch.ones(8, 1, 1)), conv_bn(8, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.stem(x) * self.gamma))  # type: ignore[no-any-return]


def test_a_tensor_that_is_no_layer_holds_the_channels_it_meets() -> None:
    grouping = find_groups(lively(Scaled()), images(1))
    assert [group.name for group in grouping.groups] == ["last.0"]
    assert "a tensor that is no layer" in {item.path: item.reason for item in grouping.left}["stem.0"]


def left_of(*layers: nn.Module, residual: bool = False) -> dict[str, str]:
    grouping = find_groups(nn.Sequential(*layers), images(1, dtype=torch.float32), residual=residual)
    return {item.path: item.reason for item in grouping.left}


def test_layers_that_cannot_be_narrowed_say_so() -> None:
    rest = (conv_bn(8, 8), Head(8))
    assert left_of(conv_bn(3, 8), nn.LocalResponseNorm(3), *rest)["0.0"] == "1 (LocalResponseNorm) is not known to keep channels apart"
    assert left_of(conv(3, 8), nn.GroupNorm(1, 8), *rest)["0"] == "1 (GroupNorm) mixes all its channels"
    grouped = left_of(conv_bn(3, 8), nn.ConvTranspose2d(8, 8, 2, groups=2), *rest)
    assert grouped["0.0"] == grouped["1"] == "1 is a grouped transposed convolution"
    computed = left_of(conv_bn(3, 8), nn.utils.parametrizations.weight_norm(conv(8, 8)), *rest)
    assert computed["0.0"] == computed["1"] == "the weight of 1 is computed from others"
    twin, other = conv(8, 8), conv(8, 8)
    other.weight = twin.weight
    tied = left_of(conv_bn(3, 8), twin, nn.ReLU(), other, *rest)
    assert tied["1"] == "1 shares its weight with another layer"
    assert tied["3"] == "3 shares its weight with another layer"
    assert left_of(conv_bn(3, 8), *rest)["2.fc"] == "it is the network's output"
    assert left_of(nn.Conv2d(3, 3, 3, groups=3), conv(3, 8), *rest)["0"] == "its channels are those of the network's input"
    assert left_of(conv(3, 8), nn.Conv2d(8, 1, 1), nn.Conv2d(1, 8, 1), *rest)["1"] == "its channels are one, or all tied to each other"


class Unread(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.extra, self.head = conv_bn(3, 8), conv(8, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        self.extra(x)
        return self.head(x)  # type: ignore[no-any-return]


def test_a_layer_that_nothing_reads() -> None:
    assert {item.path: item.reason for item in find_groups(Unread(), images(1, dtype=torch.float32)).left}["extra"] == "no layer reads it"
    assert law(lively(Unread())) <= 1e-12


class Untied(nn.Module):
    def __init__(self, bad: nn.Module) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, x: Tensor) -> Tensor:
        return self.bad(x)  # type: ignore[no-any-return]


def test_nothing_to_prune_is_an_error_with_the_reasons() -> None:
    with pytest.raises(ModelError, match=r"nothing in Untied can be pruned \(bad.fc: it is the network's output\)"):
        find_groups(Untied(Head(3)), images(1, dtype=torch.float32))
    with pytest.raises(ModelError, match="it has no convolution followed by another layer"):
        find_groups(Untied(nn.ReLU()), images(1, dtype=torch.float32))
