"""Groups of networks whose structure is known by heart."""

import torch
from torch import nn

from gleanet.nn import build
from gleanet.prune import Group, apply, find_groups, zero
from tests.prune.nets import (
    Chain,
    Dense,
    Grouped,
    Head,
    MobileNetV2,
    Normed,
    OptionB,
    Parts,
    conv_bn,
    images,
    lively,
    logits,
    random_plan,
)


def members(group: Group) -> dict[tuple[str, str], tuple[tuple[int, ...], ...]]:
    return {(member.path, member.role): member.index for member in group.members}


def single(count: int, start: int = 0) -> tuple[tuple[int, ...], ...]:
    return tuple((start + c,) for c in range(count))


def test_resnet20_has_one_group_for_each_block() -> None:
    grouping = find_groups(build("resnet20"), torch.zeros(1, 3, 32, 32))
    assert [(g.name, g.channels) for g in grouping.groups] == [
        (f"layer{stage}.{block}.conv1", width) for stage, width in ((1, 16), (2, 32), (3, 64)) for block in range(3)
    ]
    block = grouping.named()["layer2.1.conv1"]
    assert members(block) == {
        ("layer2.1.conv1", "out"): single(32), ("layer2.1.bn1", "norm"): single(32), ("layer2.1.conv2", "in"): single(32),
    }  # fmt: skip
    assert not block.residual
    left = {item.path: item.reason for item in grouping.left}
    assert set(left) == {"conv1", "linear"} | {f"layer{s}.{b}.conv2" for s in (1, 2, 3) for b in range(3)}
    assert left["conv1"] == "its width passes through a residual add (ask for residual=True)"
    assert grouping.input_shape() == (3, 32, 32)


def test_option_a_shortcuts_tie_the_middle_channels_of_all_stages() -> None:
    grouping = find_groups(build("resnet20"), torch.zeros(1, 3, 32, 32), residual=True)
    group = grouping.named()["conv1"]
    assert group.residual
    assert group.channels == 16
    assert members(group)["layer2.2.conv2", "out"] == single(16, 8)  # padded with 8 zeros on each side
    assert members(group)["linear", "in"] == single(16, 24)
    assert {item.path: item.reason[:20] for item in grouping.left}["layer3.0.conv2"] == "48 of 64 channels: i"


def test_option_b_widths_are_one_group_for_each_stage() -> None:
    named = find_groups(OptionB(), images(1, dtype=torch.float32), residual=True).named()
    assert {path for path, role in members(named["stem.0"]) if role == "out"} == {"stem.0", "stages.0.body.1", "stages.1.body.1"}
    assert {path for path, role in members(named["stages.2.body.1"]) if role == "out"} == {
        "stages.2.body.1", "stages.2.downsample.0", "stages.3.body.1",
    }  # fmt: skip


def test_flatten_spreads_a_channel_over_many_features() -> None:
    named = find_groups(Chain("torch"), images(1, dtype=torch.float32)).named()
    assert members(named["conv2"])["fc1", "in"][2] == tuple(range(18, 27))
    permuted = find_groups(Chain("permute"), images(1, dtype=torch.float32)).named()
    assert members(permuted["conv2"])["fc1", "in"][2] == tuple(range(2, 108, 12))
    assert permuted["fc1"].channels == 16


def test_concat_gives_each_branch_its_place() -> None:
    named = find_groups(Dense(), images(1, dtype=torch.float32)).named()
    assert members(named["layers.1.2"])["transition.0", "norm"] == single(6, 14)
    assert [path for path, role in members(named["stem"]) if role == "in"] == ["layers.0.2", "layers.1.2", "layers.2.2", "transition.2"]


def test_depthwise_passes_channels_on() -> None:
    group = find_groups(MobileNetV2(), images(1, dtype=torch.float32)).named()["features.1.body.0"]
    assert [(member.path, member.role) for member in group.members if member.role != "norm"] == [
        ("features.1.body.0", "out"), ("features.1.body.3", "out"), ("features.1.body.6", "in"),
    ]  # fmt: skip


def test_grouped_convolutions_shrink_in_all_their_groups() -> None:
    named = find_groups(Grouped(), images(1, dtype=torch.float32)).named()
    assert named["stem.0"].channels == 4
    assert members(named["stem.0"])["grouped.0", "in"][1] == (1, 5, 9, 13)
    assert members(named["grouped.0"])["mixed.0", "in"][0] == (0, 6, 12, 18)
    assert members(named["mixed.0"])["fanned.0", "out"][3] == (6, 7)  # two filters for each channel


def test_chunks_lose_the_same_channels() -> None:
    named = find_groups(Parts(), images(1, dtype=torch.float32)).named()
    assert members(named["stem.0"])["stem.0", "out"][2] == (2, 10)
    assert members(named["spread"])["spread", "out"][1] == (4, 5, 6, 7)  # a pixel shuffle by 2 makes 4 channels into one


def test_group_norm_loses_whole_groups() -> None:
    named = find_groups(lively(Normed("group")), images(1)).named()
    assert members(named["conv1"])["norm1", "norm"] == tuple(tuple(range(start, start + 4)) for start in range(0, 16, 4))


class Flipped(nn.Module):
    """A shortcut whose channels run backwards: channel c of one layer is tied to channel 7 - c of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other, self.head = conv_bn(3, 8), conv_bn(8, 8), Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.other(x) + x.flip(1))  # type: ignore[no-any-return]


def test_ties_need_not_be_in_order() -> None:
    net = lively(Flipped())
    grouping = find_groups(net, images(1), residual=True)
    assert members(grouping.groups[0])["stem.0", "out"] == single(8)
    assert members(grouping.groups[0])["other.0", "out"] == tuple((7 - c,) for c in range(8))
    plan = random_plan(grouping, 0)
    small, zeroed = apply(net, plan, grouping=grouping), zero(net, plan, grouping=grouping)
    assert float((logits(small, images(3)) - logits(zeroed, images(3))).abs().max()) <= 1e-12


def test_channels_come_in_the_order_of_their_first_producer() -> None:
    for net in (Chain(), Dense(), Grouped(), Parts(), OptionB(), Flipped()):
        for group in find_groups(net, images(1, dtype=torch.float32), residual=True).groups:
            first = [positions[0] for positions in group.producers()[0].index]
            assert first == sorted(first)


def test_finding_them_again_gives_the_same() -> None:
    one, other = (find_groups(Parts(), images(1, dtype=torch.float32), residual=True) for _ in range(2))
    assert (one.groups, one.left) == (other.groups, other.left)
