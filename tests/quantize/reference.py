"""Calibrators written down naively: stored values, plain loops, no cleverness. What the real ones are compared with."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
SAMPLES = 64  # of a bin, to integrate over it


def width_of(values: Values, capacity: int) -> Fraction:
    """The least power of two, from 2^-120 on, at which the values and zero lie in ``capacity`` neighbouring bins."""
    low, high = (Fraction(float(end)) for end in (min(values.min(), 0), max(values.max(), 0)))
    width = Fraction(1, 2**120)
    while high // width - low // width + 1 > capacity:
        width *= 2
    return width


def bins_of(values: Values, width: Fraction) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values.reshape(-1):
        index = Fraction(float(value)) // width
        counts[index] = counts.get(index, 0) + 1
    return counts


def percentile(values: Values, percentage: float) -> tuple[float, float]:
    """The least value that at least a share q of all do not exceed, and its mirror image; with zero."""
    ordered = np.sort(values.reshape(-1))
    rank = max(1, math.ceil((0.5 + percentage / 200) * len(ordered)))
    return min(0.0, float(ordered[len(ordered) - rank])), max(0.0, float(ordered[rank - 1]))


def entropy(values: Values, width: float) -> tuple[float, float]:
    """Migacz 2017 with 256 levels for the whole range, exact zeros left out; of equals the widest."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    bins = max(math.floor(high / width) + 1, -math.floor(low / width))
    counts = [0] * bins
    for value in values.reshape(-1).astype(float):
        if value > 0:
            counts[math.floor(value / width)] += 1
        elif value < 0:
            counts[-1 - math.floor(value / width)] += 1
    best, chosen = math.inf, max(high, -low)
    for size in range(1, bins + 1):
        reach = min(size * width, max(high, -low))
        levels = round(256 * reach / (min(reach, high) + min(reach, -low)))
        if size < levels or not any(counts[:size]):
            continue
        found = divergence(np.array(counts), size, levels)
        if found <= best + 1e-9:
            best, chosen = min(best, found), reach
    return max(low, -chosen), min(high, chosen)


def divergence(counts: NDArray[np.int_], size: int, levels: int) -> float:
    """KL(P || Q), P and Q written out bin by bin."""
    kept, clipped = counts[:size], counts[size:].sum()
    p = kept.copy()
    p[-1] += clipped
    ends = [level * size // levels for level in range(1, levels + 1)]
    level = np.searchsorted(ends, np.arange(size), side="right")  # of each bin
    mass = np.bincount(level, kept)
    if clipped and not mass[-1]:
        mass[-1] = 1
    q = (mass / np.maximum(np.bincount(level, p > 0), 1))[level]
    there = p > 0
    return float(np.sum(p[there] / p.sum() * np.log(p[there] / p.sum() * kept.sum() / q[there])))


def mse(values: Values, width: float) -> tuple[float, float]:
    """All pairs of bin edges; the error of each is integrated over the bins by sampling them."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    flat = values.reshape(-1).astype(float)
    counts: dict[int, int] = {}
    for value in flat[flat != 0]:
        counts[math.floor(value / width)] = counts.get(math.floor(value / width), 0) + 1
    points = np.array([(k + (i + 0.5) / SAMPLES) * width for k in counts for i in range(SAMPLES)])
    weights = np.array([n / SAMPLES for n in counts.values() for _ in range(SAMPLES)])
    best, chosen = math.inf, (low, high)
    for a in range(math.floor(low / width), 1):
        for b in range(math.floor(high / width) + 2):
            pair = max(low, a * width), min(high, b * width)
            if pair[0] < pair[1]:
                error = float(weights @ (quantized(points, *pair) - points) ** 2)
                if error < best:
                    best, chosen = error, pair
    return chosen


def quantized(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """What 8-bit affine quantization makes of ``values``, as ONNX Runtime defines scale and zero point."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    return np.asarray((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale)


def least_error(values: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    """The least mean squared error of the ranges whose ends are these shares of the ends of the values."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    pairs = [(low * a, high * b) for a in (shares if low else [1]) for b in (shares if high else [1])]
    return min(mean_error(values, *pair) for pair in pairs)


def mean_error(values: NDArray[np.float64], low: float, high: float) -> float:
    return float(np.mean((quantized(values, low, high) - values) ** 2))
