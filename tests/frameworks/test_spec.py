"""The hand-written float64 reference against torch's automatic differentiation, under every convention."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gleanet.frameworks import spec
from gleanet.frameworks.spec import CONVENTIONS, Array, Convention

Batch = tuple[Array, NDArray[np.integer]]


class _AllTies(torch.autograd.Function):
    """Max over the last axis; the whole gradient goes to every cell that is the largest."""

    @staticmethod
    def forward(context: Any, cells: torch.Tensor) -> torch.Tensor:
        best = cells.amax(-1)
        context.save_for_backward(cells == best[..., None])
        return best

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:
        (largest,) = context.saved_tensors
        return largest * gradient[..., None]


def pool(x: torch.Tensor, ties: str) -> torch.Tensor:
    if ties == "first":
        return torch.nn.functional.max_pool2d(x, 2)
    cells = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    if ties == "even":
        return cells.amax(-1)
    best: torch.Tensor = _AllTies.apply(cells)  # type: ignore[no-untyped-call]
    return best


def relu(x: torch.Tensor, at_zero: float) -> torch.Tensor:
    return {0.0: torch.relu(x), 0.5: (x + x.abs()) / 2, 1.0: torch.where(x >= 0, x, 0.0)}[at_zero]


def by_torch(weights: dict[str, Array], x: Array, y: NDArray[np.integer], convention: Convention) -> tuple[float, dict[str, Array]]:
    p = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    h = torch.tensor(x)
    for layer in ("conv1", "conv2"):
        h = torch.nn.functional.conv2d(h, p[f"{layer}.w"], p[f"{layer}.b"], padding=1)
        h = pool(relu(h, convention.relu_at_zero), convention.ties)
    h = relu(h.flatten(1) @ p["fc1.w"].T + p["fc1.b"], convention.relu_at_zero)
    loss = torch.nn.functional.cross_entropy(h @ p["fc2.w"].T + p["fc2.b"], torch.tensor(y).long())
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {name: value.grad.numpy() for name, value in p.items() if value.grad is not None}


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = np.random.RandomState(3)
    return spec.normalised(rng.randint(0, 256, (8, 3, 32, 32)).astype(np.uint8)), rng.randint(0, 10, 8)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_gradients_where_ties_and_zeros_abound(batch: Batch, convention: Convention) -> None:
    weights = spec.probe_weights()
    loss, gradients = spec.loss_and_gradients(weights, *batch, convention)
    expected_loss, expected = by_torch(weights, *batch, convention)
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    for name in spec.SHAPES:
        np.testing.assert_allclose(gradients[name], expected[name], rtol=0, atol=1e-12 * np.abs(expected[name]).max(), err_msg=name)


def test_gradients_and_trajectory_with_ordinary_weights(batch: Batch) -> None:
    x, y = batch
    weights = spec.initial_weights(x)
    expected = []
    now = dict(weights)
    for _ in range(3):
        loss, gradients = by_torch(now, x, y, Convention())
        now = {name: value - spec.LR * gradients[name] for name, value in now.items()}
        expected.append(loss)
    found = spec.losses(weights, np.stack([x] * 3), np.stack([y] * 3), Convention())
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[2] < found[0]


def test_the_initial_weights_leave_no_decision_to_rounding() -> None:
    rng = np.random.RandomState(4)
    smooth = rng.randint(20, 236, (24, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3) + rng.randint(-2, 3, (24, 3, 32, 32))
    x = spec.normalised(smooth.astype(np.uint8))  # like photographs: neighbours are nearly equal, and so are cells of a window
    weights = spec.initial_weights(x)
    assert all(np.array_equal(value, value.astype(np.float32)) for value in weights.values())
    assert {name: value.shape for name, value in weights.items()} == spec.SHAPES
    done = spec.forward(weights, x)
    gaps = [np.abs(done.hidden).min()]
    for maps in done.before:  # window by window, as the definition reads
        n, channels, height, width = maps.shape
        for i in range(0, height, 2):
            for j in range(0, width, 2):
                cells = np.sort(maps[:, :, i : i + 2, j : j + 2].reshape(n * channels, 4))
                gaps += [abs(top) for top in cells[:, 3]]
                gaps += [top - other for *others, top in cells for other in others if top > 0 and top != other]
    assert min(gaps) == pytest.approx(spec.margin(done), rel=1e-9)
    assert min(gaps) >= spec.MARGIN


def test_the_same_images_give_the_same_weights(batch: Batch) -> None:
    one, other = spec.initial_weights(batch[0]), spec.initial_weights(batch[0])
    assert all(np.array_equal(one[name], other[name]) for name in one)
