"""Criterion ``local_residual`` against least squares solved by numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gleanet.core.errors import ModelError
from gleanet.prune import find_groups, least_squares, residual
from gleanet.prune.least_squares import Moments, Regression, Variances, cholesky, input_energy, matrix, rows_and_places
from gleanet.prune.residual import output_scales, residual_scores
from tests.prune.nets import Chain, Grouped, UpAndDown, conv_bn, images, lively


@pytest.fixture(autouse=True)
def tiny_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "RIDGE", 1e-10)


def tiny(groups: int = 1) -> nn.Module:
    """Six channels between two convolutions; every patch is used: 15 images of 8 x 8 positions."""
    return lively(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3, bias=False, groups=groups), nn.BatchNorm2d(4), nn.Flatten())
    )


def patches(net: nn.Module, x: Tensor) -> np.ndarray:
    """Centred patches that the second convolution sees, [rows, 54], by torch's own unfold."""
    inner = net.get_submodule("1")(net.get_submodule("0")(x))
    rows = torch.nn.functional.unfold(inner, 3).permute(0, 2, 1).reshape(-1, 54)
    return (rows - rows.mean(0)).detach().numpy()


@pytest.mark.parametrize("groups", [1, 2])
def test_first_removal_costs_the_least_squares_error(groups: int) -> None:
    net, x = tiny(groups), images(15)
    score = residual_scores(net, find_groups(net, images(1)), [x])["0"]
    rows = patches(net, x)
    scale = output_scales(find_groups(net, images(1)).traced)["2"].numpy()
    target = rows @ matrix(net.get_submodule("2")).numpy().T * scale
    errors = []
    for channel in range(6 // groups):
        gone = [channel + 3 * g for g in range(groups)]  # a grouped convolution loses the channel of each of its groups
        error = 0.0
        for group in range(groups):
            span = range(54 // groups * group, 54 // groups * (group + 1))
            left = [c for c in span if c // 9 not in gone]
            own = target[:, 4 // groups * group : 4 // groups * (group + 1)]
            solved = np.linalg.lstsq(rows[:, left], own, rcond=None)[0]
            error += float(((rows[:, left] @ solved - own) ** 2).sum() / len(rows))
        errors.append(error)
    assert int(score.argmin()) == int(np.argmin(errors))
    assert float(score.min()) == pytest.approx(min(errors), rel=1e-6)


def test_the_increments_add_up_to_the_error_of_the_whole_set() -> None:
    """Backward elimination with closed-form updates ends where least squares on the channels left ends."""
    net, x = tiny(), images(15)
    score = residual_scores(net, find_groups(net, images(1)), [x])["0"]
    order, rows = score.argsort().tolist(), patches(net, x)
    target = rows @ matrix(net.get_submodule("2")).numpy().T * output_scales(find_groups(net, images(1)).traced)["2"].numpy()

    def error(removed: list[int]) -> float:
        left = [c for c in range(54) if c // 9 not in removed]
        solved = np.linalg.lstsq(rows[:, left], target, rcond=None)[0]
        return float(((rows[:, left] @ solved - target) ** 2).sum() / len(rows))

    steps = [error(order[: n + 1]) - (error(order[:n]) if n else 0.0) for n in range(5)]
    np.testing.assert_allclose(np.sort(score.numpy())[:5], np.maximum.accumulate(steps), rtol=1e-6)


@pytest.mark.parametrize("steps", [2, 3])
def test_channels_that_go_together_share_their_joint_error(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many go at a time, the errors of all removals so far add up to that of least squares on the channels left."""
    monkeypatch.setattr(residual, "STEPS", steps)
    net, x = tiny(), images(15)
    score = residual_scores(net, find_groups(net, images(1)), [x])["0"]
    rows = patches(net, x)
    target = rows @ matrix(net.get_submodule("2")).numpy().T * output_scales(find_groups(net, images(1)).traced)["2"].numpy()
    together = 6 // steps
    left = [c for c in range(54) if c // 9 not in score.argsort()[:together].tolist()]
    solved = np.linalg.lstsq(rows[:, left], target, rcond=None)[0]
    error = float(((rows[:, left] @ solved - target) ** 2).sum() / len(rows))
    assert float(score.sort().values[:together].sum()) == pytest.approx(error, rel=1e-6)


def test_a_duplicated_filter_goes_first() -> None:
    net = lively(Chain())
    with torch.no_grad():
        for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
            tensor = net.state_dict()[name]
            tensor[5] = tensor[2]
    score = residual_scores(net, find_groups(net, images(1)), [images(64)])["conv1"]
    assert int(score.argmin()) in (2, 5)
    assert float(score.min()) < 1e-6 * float(score.sort().values[1])
    assert float(score[[2, 5]].max()) > 1e3 * float(score.min())  # the twin that stays is needed


def test_scores_of_layers_that_cannot_be_refitted_are_the_variance_they_give() -> None:
    net, x = lively(UpAndDown()), images(32)
    grouping = find_groups(net, images(1))
    group = grouping.named()["down2.0"]  # read by a transposed convolution alone
    found = residual_scores(net, grouping, [x])[group.name].sort().values
    seen: list[Tensor] = []
    handle = net.get_submodule("up.0").register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(x)
    handle.remove()
    scale = output_scales(grouping.traced)["up.0"]
    weight = net.get_submodule("up.0").get_parameter("weight")
    expected = seen[0].var((0, 2, 3), correction=0) * (weight.square().sum((2, 3)) * scale.square()).sum(1)
    torch.testing.assert_close(found, expected.detach().sort().values, rtol=1e-6, atol=1e-9)


def test_a_consumer_that_is_too_wide_counts_with_its_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, "LARGEST", 20)
    net = lively(Chain())
    score = residual_scores(net, find_groups(net, images(1)), [images(16)])
    assert all(bool(torch.isfinite(s).all()) and float(s.min()) > 0 for s in score.values())


def test_every_group_of_a_grouped_network_has_scores() -> None:
    net = lively(Grouped())
    grouping = find_groups(net, images(1))
    score = residual_scores(net, grouping, [images(32), images(7, seed=1)])
    assert {name: len(s) for name, s in score.items()} == {group.name: group.channels for group in grouping.groups}


def test_moments_of_batches_are_those_of_all_rows() -> None:
    rows = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments, variances = Moments.empty(7), Variances.empty(7)
    for part in torch.split(rows, [20, 1, 29]):
        moments.add(part)
        variances.add(part)
    torch.testing.assert_close(moments.mean(), rows.mean(0))
    torch.testing.assert_close(moments.covariance(), torch.cov(rows.T, correction=0))
    torch.testing.assert_close(variances.variance(), rows.var(0, correction=0))


def test_moments_of_a_mean_far_above_the_deviations_stay_those_of_the_rows_in_float32() -> None:
    """Deep layers of a network without a scale of its own give such rows; their covariance was noise, not even positive definite."""
    rows = 1e3 + torch.randn(4096, 6, generator=torch.Generator().manual_seed(0))
    rows[:, 5] = rows[:, 0]  # one that is another, so that the smallest eigenvalue is 0
    moments = Moments.empty(6)
    for part in torch.split(rows, 512):
        moments.add(part)
    exact = torch.cov(rows.double().T, correction=0)
    torch.testing.assert_close(moments.covariance(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(moments.mean(), rows.double().mean(0), rtol=1e-9, atol=0)


def test_a_regression_finds_the_layer_whatever_the_mean_of_what_it_reads() -> None:
    layer = nn.Linear(5, 3)
    rows = 1e3 + torch.randn(2048, 5, generator=torch.Generator().manual_seed(0))
    change, shift = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, -2.0, 3.0])
    regression = Regression(layer, solvable=True)
    for part in torch.split(rows, 256):
        regression.add(part, ((part.double() - 1e3) @ change.double().T + shift).float())
    found, moved = regression.solve()
    assert found is not None
    torch.testing.assert_close(found.float(), change, rtol=0.01, atol=0.01)  # the ridge is a thousandth
    torch.testing.assert_close((moved + found @ torch.full((5,), 1e3, dtype=torch.float64)).float(), shift, rtol=0.02, atol=0.02)


def test_what_is_not_finite_is_one_line() -> None:
    with pytest.raises(ModelError, match="not finite or far too large to be solved for"):
        cholesky(torch.full((3, 3), float("nan"), dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, groups=3),
        nn.Conv2d(3, 4, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
        nn.Conv2d(3, 4, 4, padding="same"), nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(3, 1)), nn.Conv2d(3, 4, 3, padding="valid"),
    ],
)  # fmt: skip
def test_a_layer_is_its_matrix_times_patches(conv: nn.Conv2d) -> None:
    lively(conv)
    x = images(2)
    rows, places = rows_and_places(conv, x, 10_000, torch.Generator().manual_seed(0))
    assert conv.bias is not None
    whole = (rows @ matrix(conv).T + conv.bias).reshape(2, len(places), -1).permute(0, 2, 1)
    torch.testing.assert_close(whole, conv(x).flatten(2)[:, :, places])


def test_a_linear_layer_is_its_matrix_times_rows() -> None:
    layer = lively(nn.Linear(12, 4))
    assert isinstance(layer, nn.Linear)
    x = images(2)
    rows, places = rows_and_places(layer, x, 5, torch.Generator().manual_seed(0))
    assert rows.shape == (10, 12)
    torch.testing.assert_close((rows @ matrix(layer).T + layer.bias).reshape(2, 5, 4), layer(x).reshape(2, 36, 4)[:, places])


def test_input_energy_is_the_squared_weights_of_each_input() -> None:
    for module in (nn.Conv2d(6, 4, 3, groups=2), nn.Linear(6, 4), nn.ConvTranspose2d(6, 4, 2)):
        lively(module)
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
        x = torch.eye(6, dtype=torch.float64)
        x = x if isinstance(module, nn.Linear) else x.reshape(6, 6, 1, 1)
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2)) if isinstance(module, nn.Conv2d) else x
        with torch.no_grad():
            answer = module(padded) - module(torch.zeros_like(padded))  # each input alone, through all kernel positions
        expected = (answer.reshape(6, 4, -1) * scale[:, None]).square().sum((1, 2))
        torch.testing.assert_close(input_energy(module, scale), expected)


def test_scores_do_not_depend_on_the_order_of_groups_or_on_training_mode() -> None:
    net = lively(nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), nn.Flatten(), nn.Linear(8 * 144, 3)))
    grouping = find_groups(net, images(1))
    expected = residual_scores(net, grouping, [images(16)])
    again = residual_scores(net.train(), grouping, [images(16)])
    assert all(torch.equal(expected[name], again[name]) for name in expected)
    assert net.training
