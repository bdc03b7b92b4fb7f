"""Plans: made before any weight is touched, printable, savable, the same for the same seed."""

import json
from pathlib import Path

import pytest
import torch

from gleanet.core.errors import SettingsError, StoreError
from gleanet.nn import build
from gleanet.prune import CRITERIA, GroupPlan, GroupTensors, Plan, apply, find_groups, plan
from gleanet.prune.plan import OBSERVING
from tests.prune.nets import Chain, images, lively, logits

EXAMPLE = images(1, dtype=torch.float32)


def test_what_is_saved_comes_back_and_gives_the_same_network(tmp_path: Path) -> None:
    net = lively(build("resnet8", seed=0), dtype=torch.float32)
    made = plan(net, EXAMPLE, flops=0.5)
    made.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == made
    x = images(2, dtype=torch.float32)
    assert torch.equal(logits(apply(net, again), x), logits(apply(net, made), x))
    assert json.loads((tmp_path / "plan.json").read_text())["format_version"] == 1


def test_plans_of_older_versions_still_load(tmp_path: Path) -> None:
    made = plan(build("resnet8", seed=0), EXAMPLE, flops=0.5)
    made.save(tmp_path / "plan.json")
    old = json.loads((tmp_path / "plan.json").read_text())
    for name in ("bound", "bytes_before", "bytes_after", "ms_before", "ms_after", "measured"):
        del old[name]
    (tmp_path / "plan.json").write_text(json.dumps(old))
    again = Plan.load(tmp_path / "plan.json")
    assert (again.groups, again.bound, again.ms_after) == (made.groups, "flops", None)
    assert "bounded: flops at 0.5 of the whole" in str(again)


def test_half_the_macs_when_nothing_is_said() -> None:
    net = build("resnet8", seed=0)
    assert plan(net, EXAMPLE) == plan(net, EXAMPLE, flops=0.5)


def test_files_that_are_no_plan_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the plan .*missing\.json: No such file"):
        Plan.load(tmp_path / "missing.json")
    for text in ("{", "[]", '{"groups": 3}', json.dumps({"format_version": 99})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(StoreError) as caught:
            Plan.load(tmp_path / "bad.json")
        assert "\n" not in str(caught.value)


def test_it_prints_as_a_table_with_what_is_left_alone() -> None:
    text = str(plan(build("resnet8", seed=0), EXAMPLE, flops=0.5))
    assert text.splitlines()[0].split() == ["group", "channels", "keep", "MACs", "of", "its", "layer"]
    assert "layer1.0.conv1" in text
    assert "left alone: linear (it is the network's output)" in text
    assert "l2, uniform, blocks of 8" in text


def test_dropped_and_kept_are_all_channels() -> None:
    part = GroupPlan("a", 5, (0, 3))
    assert part.drop() == (1, 2, 4)


def test_the_best_channels_stay() -> None:
    net = lively(build("resnet8", seed=0), dtype=torch.float32)
    for name in ("l1", "l2", "fpgm", "bn_scale"):
        grouping = find_groups(net, EXAMPLE)
        made = plan(net, EXAMPLE, flops=0.5, criterion=name)
        for group, part in zip(grouping.groups, made.groups, strict=True):
            score = CRITERIA[name](GroupTensors(group, net, torch.Generator()))
            assert float(score[list(part.keep)].min()) >= float(score[list(part.drop())].max())


def own_criterion(group: GroupTensors) -> torch.Tensor:
    return torch.arange(group.channels)


def test_any_callable_is_a_criterion() -> None:
    made = plan(build("resnet8", seed=0), EXAMPLE, flops=0.5, criterion=own_criterion)
    assert made.criterion == "own_criterion"
    assert all(part.keep == tuple(range(part.channels - len(part.keep), part.channels)) for part in made.groups)


def test_the_seed_makes_it() -> None:
    net = build("resnet8", seed=0)
    one, same, other = (plan(net, EXAMPLE, flops=0.5, criterion="random", seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.groups != other.groups
    batches = [images(16, dtype=torch.float32)]
    assert plan(net, EXAMPLE, flops=0.5, calibration=batches) == plan(net, EXAMPLE, flops=0.5, calibration=batches)


def test_defaults_follow_from_the_calibration_images() -> None:
    net = build("resnet8", seed=0)
    assert (plan(net, EXAMPLE, flops=0.5).criterion, plan(net, EXAMPLE, flops=0.5).allocation) == ("l2", "uniform")
    looked = plan(net, EXAMPLE, flops=0.5, calibration=iter([images(8, dtype=torch.float32)]))
    assert (looked.criterion, looked.allocation) == ("residual", "global")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flops": 0.0}, "flops=0.0 is out of range"),
        ({"flops": 1.1}, "flops=1.1 is out of range"),
        ({"flops": None, "bytes": -3.0}, "bytes=-3.0 is out of range"),
        ({"flops": None, "params": 1.1}, "params=1.1 is out of range"),
        ({"latency": 0.5}, "flops and latency are given together: choose one budget"),
        ({"criterion": "l3"}, "unknown criterion 'l3': choose one of l1, l2"),
        ({"criterion": "residual"}, "criterion 'residual' looks at activations: pass calibration"),
        ({"criterion": "taylor"}, "criterion 'taylor' looks at activations: pass calibration"),
        ({"allocation": "even"}, "unknown allocation 'even'"),
        ({"align": 3}, "align=3 is out of range"),
        ({"floor": 1.0}, "floor=1.0 is out of range"),
        ({"criterion": lambda group: torch.ones(2)}, r"gave shape \(2,\) for group layer1.0.conv1: it must give 16 finite numbers"),
        ({"criterion": lambda group: torch.full((group.channels,), torch.nan)}, "gave numbers that are not finite"),
        ({"calibration": []}, "there are no calibration images"),
        ({"calibration": [torch.zeros(3, 12, 12)]}, r"shape \[3, 12, 12\]"),
        ({"calibration": [torch.zeros(2, 1, 12, 12)]}, r"pass batches of float images \['B', 3, 12, 12\]"),
        ({"calibration": [torch.zeros(2, 3, 12, 12, dtype=torch.uint8)]}, "torch.uint8"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        plan(build("resnet8", seed=0), EXAMPLE, **{"flops": 0.5, **settings})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_calibration_may_be_pairs_arrays_or_one_tensor() -> None:
    net, x = lively(Chain(), dtype=torch.float32), images(8, dtype=torch.float32)
    forms: list[object] = [[x], [(x, torch.zeros(8))], [x.numpy()], x, [x.double()]]
    plans = [plan(net, EXAMPLE, flops=0.5, calibration=form) for form in forms]  # type: ignore[arg-type]
    assert all(made == plans[0] for made in plans)


def test_making_it_changes_nothing() -> None:
    net = lively(build("resnet8", seed=0), dtype=torch.float32).train()
    before, draw = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    for criterion in (*CRITERIA, *OBSERVING):
        plan(net, EXAMPLE, flops=0.5, criterion=criterion, calibration=[images(8, dtype=torch.float32)])
    assert net.training
    assert torch.equal(torch.get_rng_state(), draw)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_diff_counts_what_both_keep() -> None:
    net = build("resnet8", seed=0)
    one, other = (plan(net, EXAMPLE, flops=share, criterion=name) for share, name in ((0.5, "l1"), (0.7, "random")))
    found = one.diff(other)
    for part, mine, theirs in zip(found.groups, one.groups, other.groups, strict=True):
        assert (part.name, part.channels) == (mine.name, mine.channels)
        assert part.keep == (len(mine.keep), len(theirs.keep))
        assert part.shared == sum(channel in theirs.keep for channel in mine.keep)
        layers = [next(layer for layer in made.layers if layer.layer == part.name) for made in (one, other)]
        assert part.macs == (layers[0].macs_after, layers[1].macs_after)
    assert found.macs == (one.macs_after, other.macs_after)
    assert not found.same
    assert one.diff(Plan(**vars(one))).same
    back = other.diff(one)
    assert [part.keep for part in back.groups] == [part.keep[::-1] for part in found.groups]
    assert [part.shared for part in back.groups] == [part.shared for part in found.groups]


def test_a_diff_prints_as_a_table() -> None:
    net = build("resnet8", seed=0)
    one, other = (plan(net, EXAMPLE, flops=share) for share in (0.5, 0.7))
    lines = str(one.diff(other)).splitlines()
    assert lines[0] == "A: l2, uniform, blocks of 8"
    assert lines[2].split() == ["group", "channels", "keep", "A", "keep", "B", "shared", "MACs", "A", "MACs", "B"]
    narrow, wide = (len(made.groups[0].keep) for made in (one, other))
    assert lines[3].split()[:5] == ["layer1.0.conv1", "16", str(narrow), str(wide), str(narrow)]  # the best stay in both
    assert "different channels" in lines[-1]
    assert "the same channels" in str(one.diff(one))


def test_plans_of_different_networks_do_not_compare() -> None:
    one = plan(build("resnet8", seed=0), EXAMPLE, flops=0.5)
    with pytest.raises(SettingsError, match=r"group layer1\.1\.conv1 has no such group in one, 16 channels in the other"):
        one.diff(plan(build("resnet20", seed=0), EXAMPLE, flops=0.5))
    with pytest.raises(SettingsError, match=r"inputs \[3, 12, 12\] and \[3, 20, 20\]"):
        one.diff(plan(build("resnet8", seed=0), images(1, shape=(3, 20, 20), dtype=torch.float32), flops=0.5))
