"""Folding changes where numbers are kept, not what the network computes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.export.fold import fold_batch_norm, foldable
from tests.tiny import chain, images, residual


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules())


def assert_folds(net: nn.Module, x: Tensor, left: int = 0) -> nn.Module:
    net = net.double().eval()
    before = copy.deepcopy(net.state_dict())
    folded = fold_batch_norm(net)
    with torch.no_grad():
        assert (folded(x.double()) - net(x.double())).abs().max() <= 1e-10
    assert norms(folded) == left
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the original must stay as it was"
    return folded


@pytest.mark.parametrize("make", [chain, residual])
def test_folded_equals_unfolded_in_float64(make: object) -> None:
    assert callable(make)
    assert_folds(make(seed=3), images(5))


def test_module_paths_stay() -> None:
    net = residual()
    assert isinstance(fold_batch_norm(net).get_submodule("conv2"), nn.Conv2d)
    assert [name for name, _ in fold_batch_norm(net).named_children()] == [name for name, _ in net.named_children()]


def lively(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.manual_seed(0)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
        (nn.ConvTranspose2d(3, 6, 3, stride=2), nn.BatchNorm2d(6)),
        (nn.ConvTranspose2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6, affine=False)),
    ],
)
def test_grouped_and_transposed_layers_fold(layer: nn.Module, norm: nn.BatchNorm2d) -> None:
    assert_folds(nn.Sequential(layer, lively(norm)), images(2))


def test_linear_layer_folds() -> None:
    assert_folds(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), lively(nn.BatchNorm1d(5))), images(4))


class Shared(nn.Module):
    """The convolution's output is read twice, once without the batch-norm: folding would change the other reader."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        lively(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        result: Tensor = self.bn(y) + y
        return result


class Twice(nn.Module):
    """One convolution runs before two different batch-norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        lively(self.bn1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.bn2(self.conv(self.bn1(self.conv(x))))
        return result


def test_what_cannot_be_folded_is_left_alone() -> None:
    assert foldable(Shared().eval()) == ()
    assert_folds(Shared(), images(2), left=1)
    assert_folds(Twice(), images(2), left=2)
    assert_folds(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), lively(nn.BatchNorm2d(3))), images(2), left=1)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_untraceable_network_is_refused_with_one_line() -> None:
    with pytest.raises(ModelError, match="cannot be traced") as caught:
        fold_batch_norm(Branching())
    assert "\n" not in str(caught.value)
