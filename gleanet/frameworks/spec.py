"""The one network of the comparison, its weights, and what is exactly right: a float64 reference in numpy, written by hand.

3x32x32 -> conv 3x3, 32, same -> ReLU -> max-pool 2 -> conv 3x3, 64, same -> ReLU -> max-pool 2 -> dense 256 -> ReLU -> dense 10; mean
softmax cross-entropy; stochastic gradient descent. 1,070,794 parameters.

Where a derivative is not unique, frameworks differ and none is wrong. A :class:`Convention` says what is meant:

- ties of a max-pool window: the whole gradient to the *first* of the equal cells, the whole of it to *all*, or an *even* share to each;
- ReLU at exactly 0: a slope of 0, 0.5 or 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

BATCH = 64
BATCHES = 50
LR = 0.05
MARGIN = 1e-5
TIE = 1e-11  # cells closer than this are equal: float64 rounds at 1e-15, float32 at 1e-7
SHAPES = {
    "conv1.w": (32, 3, 3, 3),
    "conv1.b": (32,),
    "conv2.w": (64, 32, 3, 3),
    "conv2.b": (64,),
    "fc1.w": (256, 4096),
    "fc1.b": (256,),
    "fc2.w": (10, 256),
    "fc2.b": (10,),
}
_DRAWS = 100

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Convention:
    """What is meant by a derivative where it is not unique. ``ties`` is first, all or even; ``relu_at_zero`` is 0, 0.5 or 1."""

    ties: str = "first"
    relu_at_zero: float = 0.0


CONVENTIONS = tuple(Convention(ties, slope) for ties, slope in product(("first", "all", "even"), (0.0, 0.5, 1.0)))


@dataclass(frozen=True)
class Pass:
    """One forward pass: what the backward pass needs, and ``logits`` [N, 10]."""

    columns: tuple[Array, Array]
    before: tuple[Array, Array]
    pooled: tuple[Array, Array]
    hidden: Array
    logits: Array


def initial_weights(x: Array, seed: int = 0) -> dict[str, Array]:
    """Initial weights, float32 values in float64 arrays.

    He's normal distribution (K. He et al., ICCV 2015), the last layer a tenth of it (so that the first losses fall instead of jumping),
    biases normal with deviation 0.01. A filter is drawn again while a decision about it on the batch ``x`` [N, 3, 32, 32] hangs by less
    than MARGIN: a gradient jumps where another cell of a pool window becomes the largest, or a ReLU opens, and two correct frameworks that
    round differently would then differ by far more than rounding. Exact ties stay; they are what conventions are about.
    """
    rng = np.random.RandomState(seed)
    weights: dict[str, Array] = {
        "fc2.w": _normal(rng, SHAPES["fc2.w"], 0.1 * np.sqrt(2 / 256)),
        "fc2.b": _normal(rng, SHAPES["fc2.b"], 0.01),
    }
    for layer in ("conv1", "conv2"):
        columns, maps = _columns(x), partial(_maps, shape=x.shape)
        weights |= _decided(rng, layer, columns, lambda rows, maps=maps: _gap(maps(rows)))  # type: ignore[misc]
        x = _windows(np.maximum(maps(_affine(columns, weights, layer)), 0.0)).max(axis=-1)
    weights |= _decided(rng, "fc1", x.reshape(len(x), -1), lambda rows: np.abs(rows).min(axis=0))
    return {name: weights[name] for name in SHAPES}


def probe_weights() -> dict[str, Array]:
    """Weights that put every convolution output of layer 1 on a tie and half of the first dense layer at exactly 0.

    Small multiples of 1/64, so that float32 computes the forward pass without rounding, and a tie stays a tie.
    """
    rng = np.random.RandomState(7)
    weights: dict[str, Array] = {name: rng.randint(-2, 3, shape) / 64.0 for name, shape in SHAPES.items()}
    weights["conv1.w"] = np.zeros(SHAPES["conv1.w"])
    weights["conv1.b"] = rng.randint(1, 5, 32) / 4.0
    weights["conv2.b"] = np.full(64, 0.5)
    weights["fc1.w"][::2] = 0.0
    weights["fc1.b"] = np.where(np.arange(256) % 2 == 0, 0.0, 0.25)
    return weights


def forward(weights: Weights, x: Array) -> Pass:
    """Logits of ``x`` [N, 3, 32, 32] and all that is needed to go back."""
    columns1 = _columns(x)
    before1 = _maps(_affine(columns1, weights, "conv1"), x.shape)
    pooled1 = _windows(np.maximum(before1, 0.0)).max(axis=-1)
    columns2 = _columns(pooled1)
    before2 = _maps(_affine(columns2, weights, "conv2"), pooled1.shape)
    pooled2 = _windows(np.maximum(before2, 0.0)).max(axis=-1)
    hidden = _affine(pooled2.reshape(len(x), -1), weights, "fc1")
    logits = _affine(np.maximum(hidden, 0.0), weights, "fc2")
    return Pass((columns1, columns2), (before1, before2), (pooled1, pooled2), hidden, logits)


def margin(done: Pass) -> float:
    """How far the pass is from another decision: the smallest gap between the largest and the next cell of a pool window that is open, and
    the smallest distance of a deciding pre-activation from 0. Exact ties (within TIE) do not count."""
    return min(float(np.abs(done.hidden).min()), *(float(_gap(before).min()) for before in done.before))


def loss_and_gradients(weights: Weights, x: Array, y: NDArray[np.integer], convention: Convention) -> tuple[float, dict[str, Array]]:
    """Mean cross-entropy of ``x`` [N, 3, 32, 32], ``y`` [N], and its gradient for every weight, by hand and in float64."""
    done, n = forward(weights, x), len(x)
    shifted = done.logits - done.logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -float(log_p[np.arange(n), y].mean())
    d_logits = np.exp(log_p)
    d_logits[np.arange(n), y] -= 1
    d_logits /= n
    gradients = {"fc2.w": d_logits.T @ np.maximum(done.hidden, 0.0), "fc2.b": d_logits.sum(axis=0)}
    d_hidden = (d_logits @ weights["fc2.w"]) * _slope(done.hidden, convention)
    gradients |= {"fc1.w": d_hidden.T @ done.pooled[1].reshape(n, -1), "fc1.b": d_hidden.sum(axis=0)}
    d_pooled = (d_hidden @ weights["fc1.w"]).reshape(done.pooled[1].shape)
    for layer in (2, 1):
        before, columns = done.before[layer - 1], done.columns[layer - 1]
        d_before = _unpooled(before, d_pooled, convention) * _slope(before, convention)
        rows = d_before.transpose(0, 2, 3, 1).reshape(-1, before.shape[1])
        name = f"conv{layer}"
        gradients |= {f"{name}.w": (rows.T @ columns).reshape(SHAPES[f"{name}.w"]), f"{name}.b": rows.sum(axis=0)}
        if layer == 2:
            d_pooled = _uncolumned(rows @ weights["conv2.w"].reshape(64, -1), done.pooled[0].shape)
    return loss, gradients


def losses(weights: Weights, x: Array, y: NDArray[np.integer], convention: Convention, lr: float = LR) -> list[float]:
    """Loss before each step of gradient descent, one step for each batch of ``x`` [B, N, 3, 32, 32], ``y`` [B, N]."""
    now, found = dict(weights), []
    for images, labels in zip(x, y, strict=True):
        loss, gradients = loss_and_gradients(now, images, labels, convention)
        now = {name: value - lr * gradients[name] for name, value in now.items()}
        found.append(loss)
    return found


def normalised(pixels: NDArray[np.uint8]) -> Array:
    """uint8 pixels -> (x / 255 - 0.5) / 0.25."""
    return (pixels.astype(np.float64) / 255 - 0.5) / 0.25


def _columns(x: Array) -> Array:
    """[N, C, H, W] -> [N*H*W, C*9]: the 3x3 neighbourhood of every pixel, zeros outside."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(patches).reshape(len(x) * x.shape[2] * x.shape[3], -1)


def _uncolumned(rows: Array, shape: tuple[int, ...]) -> Array:
    """Adjoint of :func:`_columns`."""
    n, channels, height, width = shape
    patches = rows.reshape(n, height, width, channels, 3, 3)
    padded = np.zeros((n, channels, height + 2, width + 2))
    for i, j in product(range(3), range(3)):
        padded[:, :, i : i + height, j : j + width] += patches[..., i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


def _affine(rows: Array, weights: Weights, layer: str) -> Array:
    """[M, K] -> [M, out]."""
    weight = weights[f"{layer}.w"]
    out: Array = rows @ weight.reshape(len(weight), -1).T + weights[f"{layer}.b"]
    return out


def _maps(rows: Array, shape: tuple[int, ...]) -> Array:
    """[N*H*W, C] -> [N, C, H, W], N, H and W as in ``shape``."""
    return np.ascontiguousarray(rows.reshape(shape[0], shape[2], shape[3], -1).transpose(0, 3, 1, 2))


def _windows(x: Array) -> Array:
    """[N, C, H, W] -> [N, C, H/2, W/2, 4]: pool windows, cells in the order row, column."""
    n, channels, height, width = x.shape
    cells = x.reshape(n, channels, height // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    return cells.reshape(n, channels, height // 2, width // 2, 4)


def _unpooled(before: Array, d_pooled: Array, convention: Convention) -> Array:
    """The gradient of pooling after ReLU, for each cell of ``before``."""
    cells = _windows(np.maximum(before, 0.0))
    share: Array = (cells >= cells.max(axis=-1, keepdims=True) - TIE).astype(np.float64)
    if convention.ties == "first":
        share *= np.cumsum(share, axis=-1) == 1
    elif convention.ties == "even":
        share /= share.sum(axis=-1, keepdims=True)
    n, channels, height, width = before.shape
    spread: Array = (share * d_pooled[..., None]).reshape(n, channels, height // 2, width // 2, 2, 2)
    return spread.transpose(0, 1, 2, 4, 3, 5).reshape(before.shape)


def _slope(x: Array, convention: Convention) -> Array:
    """Derivative of ReLU."""
    return np.where(x > 0, 1.0, np.where(x == 0, convention.relu_at_zero, 0.0))


def _normal(rng: np.random.RandomState, shape: tuple[int, ...], deviation: float | None = None) -> Array:
    """Normal numbers that float32 can hold."""
    scale = np.sqrt(2 / np.prod(shape[1:])) if deviation is None else deviation
    return np.asarray(rng.standard_normal(shape) * scale, np.float32).astype(np.float64)


def _gap(before: Array) -> Array:
    """[N, C, H, W] -> [C]: see :func:`margin`."""
    cells = np.sort(_windows(before), axis=-1).transpose(1, 0, 2, 3, 4)
    top = cells[..., -1]
    gaps = np.where((top[..., None] > 0) & (top[..., None] - cells[..., :-1] > TIE), top[..., None] - cells[..., :-1], np.inf)
    opening = np.where(np.abs(top) > TIE, np.abs(top), np.inf)
    smallest: Array = np.minimum(gaps.min(axis=(1, 2, 3, 4)), opening.min(axis=(1, 2, 3)))
    return smallest


def _decided(rng: np.random.RandomState, layer: str, rows: Array, gap: Callable[[Array], Array]) -> dict[str, Array]:
    """Weight and bias of a layer, each filter drawn until ``gap`` of its outputs reaches MARGIN."""
    shape = SHAPES[f"{layer}.w"]
    weight, bias = _normal(rng, shape), _normal(rng, shape[:1], 0.01)
    open_ = np.arange(shape[0])
    for _ in range(_DRAWS):
        found = gap(_affine(rows, {f"{layer}.w": weight[open_], f"{layer}.b": bias[open_]}, layer))
        open_ = open_[found < MARGIN]
        if not open_.size:
            break
        weight[open_] = _normal(rng, (open_.size, *shape[1:]))
        bias[open_] = _normal(rng, (open_.size,), 0.01)
    return {f"{layer}.w": weight, f"{layer}.b": bias}
