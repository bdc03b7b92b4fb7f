"""Settings: what a command was told, and the command line that says it again."""

from dataclasses import replace

import pytest

from gleanet.core.errors import SettingsError
from gleanet.core.settings import (
    PruneSettings,
    Pruning,
    QuantizeSettings,
    Quantizing,
    ShrinkSettings,
    Training,
    TrainSettings,
    command_line,
    plain,
)


def test_defaults_need_no_option() -> None:
    assert command_line("shrink", plain(ShrinkSettings("resnet20", "cifar10"))) == ["shrink", "resnet20", "--data", "cifar10"]
    assert command_line("train", plain(TrainSettings("resnet8", "digits"))) == ["train", "resnet8", "--data", "digits"]


def test_what_differs_from_the_defaults_is_said() -> None:
    told = ShrinkSettings(
        "resnet20", "cifar10", weights="a b.th", fair_baseline=True, pruning=Pruning(flops=0.3, align=4), training=Training(epochs=3),
        quantizing=Quantizing(max_drop=1.5),
    )  # fmt: skip
    expected = "shrink|resnet20|--data|cifar10|--weights|a b.th|--fair-baseline|--flops|0.3|--align|4|--epochs|3|--max-drop|1.5"
    assert command_line("shrink", plain(told)) == expected.split("|")


def test_there_is_one_budget_and_it_is_said_to_the_byte() -> None:
    assert Pruning().budget == ("flops", 0.5)
    for name, value in (("flops", 0.3), ("params", 0.3), ("bytes", 0.3), ("bytes", 12345678.0), ("latency", 0.3)):
        told = PruneSettings("m", "d", pruning=Pruning(**{name: value}))  # type: ignore[arg-type]
        assert told.pruning.budget == (name, value)
        assert command_line("prune", plain(told)) == ["prune", "m", "--data", "d", f"--{name}", f"{value:.12g}"]
    with pytest.raises(SettingsError, match="params and latency are given together: choose one budget of flops, params, bytes, latency"):
        Pruning(params=0.3, latency=0.5).budget  # noqa: B018


def test_settings_of_another_command_give_no_line() -> None:
    assert command_line("doctor", {}) is None
    assert command_line("shrink", {"model": 3}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ShrinkSettings("m", "d", seed=-1),
        lambda: ShrinkSettings("m", "d", threads=0),
        lambda: ShrinkSettings("m", "d", fair_baseline=True),
        lambda: replace(ShrinkSettings("m", "d"), pruning=Pruning(flops=0)),
        lambda: replace(ShrinkSettings("m", "d"), pruning=Pruning(params=1.5)),
        lambda: replace(ShrinkSettings("m", "d"), pruning=Pruning(bytes=-1)),
        lambda: replace(ShrinkSettings("m", "d"), pruning=Pruning(latency=2)),
        lambda: replace(ShrinkSettings("m", "d"), pruning=Pruning(flops=0.5, latency=0.5)),
        lambda: PruneSettings("m", "d", in_training=True, pruning=Pruning(params=0.5), training=Training(epochs=1)),
        lambda: PruneSettings("m", "d", in_training=True, pruning=Pruning(allocation="latency"), training=Training(epochs=1)),
        lambda: replace(ShrinkSettings("m", "d"), quantizing=Quantizing(max_drop=-1)),
        lambda: TrainSettings("m", "d", training=Training(epochs=0)),
        lambda: TrainSettings("m", "d", training=Training(epochs=float("inf"))),
        lambda: TrainSettings("m", "d", training=Training(epochs=1, lr=float("inf"))),
        lambda: TrainSettings("m", "d", training=Training(epochs=1, lr=float("nan"))),
        lambda: TrainSettings("m", "d", training=Training(epochs=1, batch_size=0)),
        lambda: TrainSettings("m", "d", training=Training(epochs=1, weight_decay=float("inf"))),
        lambda: ShrinkSettings("m", "d", training=Training(epochs=1, label_smoothing=1)),
        lambda: PruneSettings("m", "d", training=Training(epochs=1, distill=2)),
        lambda: PruneSettings("m", "d", in_training=True, pruning=Pruning(recycle="similarity"), training=Training(epochs=1)),
        lambda: PruneSettings("m", "d", in_training=True, training=Training(epochs=0)),
        lambda: PruneSettings("m", "d", in_training=True, plan="plan.json", training=Training(epochs=1)),
        lambda: PruneSettings("m", "d", plan="plan.json", pruning=Pruning(allocation="global")),
        lambda: QuantizeSettings("m", None),
        lambda: QuantizeSettings("m", "d", random_data=True),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(SettingsError):
        wrong()
