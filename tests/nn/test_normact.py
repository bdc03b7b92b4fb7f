"""Batch-norms that also activate are taken apart: same logits, weights by their original names, prunable, and back from a file."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gleanet as gn
from gleanet.nn import split_norm_acts

HERE = f"{__name__}:net"


class NormAct(nn.BatchNorm2d):
    """As other libraries write it: the norm by hand, then what follows."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels, eps=1e-3)
        self.drop = nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum or 0.0, self.eps)
        result: Tensor = self.act(self.drop(y))
        return result


class Net(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = NormAct(32, nn.ReLU())
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = NormAct(32, nn.Identity())
        self.head = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.bn2(self.conv2(self.bn1(self.conv1(x)))).mean((2, 3)))
        return logits


def net(num_classes: int = 4) -> nn.Module:
    return Net(num_classes)


def lively(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = net()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            module.running_mean.normal_()
    return made.eval()


def test_the_parts_give_the_same_logits_and_share_the_tensors() -> None:
    whole, x = lively(), torch.randn(2, 3, 8, 8)
    before = whole(x)
    weight = whole.get_parameter("bn1.weight")
    parts = split_norm_acts(whole)
    assert torch.equal(parts(x), before)
    assert parts.get_parameter("bn1.0.weight") is weight
    assert [type(part) for part in parts.get_submodule("bn1").children()] == [nn.BatchNorm2d, nn.ReLU]
    assert [type(part) for part in parts.get_submodule("bn2").children()] == [nn.BatchNorm2d]
    assert not parts.get_submodule("bn1").training


def test_build_reads_weights_by_their_original_names_and_the_file_comes_back(tmp_path: Path) -> None:
    whole, x = lively(1), torch.randn(2, 3, 8, 8)
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    built = gn.build(HERE, weights=tmp_path / "weights.pt", num_classes=4)
    assert torch.equal(built(x), whole(x))
    small = gn.prune(built, x, flops=0.5, recycle="none")
    assert gn.cost(small, x[:1]).macs <= 0.5 * gn.cost(whole, x[:1]).macs
    gn.save(small, tmp_path / "small.gleanet")
    again = gn.load(tmp_path / "small.gleanet", factory=HERE)
    assert torch.equal(again(x), small.eval()(x))


def test_removing_what_is_zeroed_changes_nothing() -> None:
    parts, x = split_norm_acts(lively(2)).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    plan = gn.plan(parts, x, flops=0.5)
    assert torch.allclose(gn.zero(parts, plan)(x), gn.apply(parts, plan)(x), atol=1e-12)


def test_a_plain_batch_norm_is_left_alone() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    norm = plain[1]
    assert split_norm_acts(plain)[1] is norm  # type: ignore[index]
