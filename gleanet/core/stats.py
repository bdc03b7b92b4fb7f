"""The statistics behind every number we print. numpy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from gleanet.core.records import Accuracy, Change

Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


def wilson(correct: int, n: int) -> Accuracy:
    """Accuracy with its Wilson score interval (E. B. Wilson, JASA 22, 1927), right also near 0 and 1 and for small ``n``.

    Args:
        correct: number of hits, 0 <= correct <= n.
        n: number of images, > 0.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"need 0 <= correct <= n and n > 0, got correct={correct}, n={n}")
    p, z2 = correct / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Accuracy(correct=correct, n=n, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)))


def paired_change(hits: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Change:
    """Difference of two accuracies on the same images, with a 95 % interval that uses the pairing.

    Newcombe's method 10 for paired proportions (R. G. Newcombe, Statistics in Medicine 17, 1998): Wilson intervals of the two
    accuracies, combined with their correlation. Unlike the plain normal interval it does not collapse when few answers differ.

    Args:
        hits: [N] bool, where the network was right.
        baseline: [N] bool, where the baseline was right, same images in the same order.
    """
    if hits.shape != baseline.shape or hits.ndim != 1 or hits.size == 0:
        raise ValueError(f"need two equal-length vectors, got shapes {hits.shape} and {baseline.shape}")
    n = hits.size
    both, only_new = int(np.sum(hits & baseline)), int(np.sum(hits & ~baseline))
    only_old = int(np.sum(~hits & baseline))
    neither = n - both - only_new - only_old
    new, old = wilson(both + only_new, n), wilson(both + only_old, n)
    delta = new.value - old.value
    margins = (both + only_new) * (only_old + neither) * (both + only_old) * (only_new + neither)
    cross = float(both * neither - only_new * only_old)
    if cross > 0:  # continuity correction of the method
        cross = max(cross - n / 2, 0.0)
    phi = cross / math.sqrt(margins) if margins else 0.0
    down_new, up_new = new.value - new.low, new.high - new.value
    down_old, up_old = old.value - old.low, old.high - old.value
    low = delta - math.sqrt(max(0.0, down_new**2 - 2 * phi * down_new * up_old + up_old**2))
    high = delta + math.sqrt(max(0.0, up_new**2 - 2 * phi * up_new * down_old + down_old**2))
    return Change(delta=delta, low=max(-1.0, low), high=min(1.0, high), n=n)


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` numbers with its 95 % interval; None where one number has none."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of numbers that vary from seed to seed, with Student's 95 % interval; for paired differences pass the differences.

    Args:
        values: at least one.
    """
    if len(values) < 2:
        return Interval(values[0], None, None, len(values))
    middle, half = mean(values), student_t95(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(middle, middle - half, middle + half, len(values))


@cache
def student_t95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t distribution: 12.706 for one degree of freedom, 1.96 for very many.

    With t = sqrt(freedom) tan(a) the density becomes cos(a)^(freedom - 1), a smooth function on a finite range: Simpson's rule, bisection.
    """

    def area(upper: float) -> float:
        a = np.linspace(0.0, upper, 2001)
        weights = np.full(a.size, 2.0)
        weights[1::2] = 4.0
        weights[0] = weights[-1] = 1.0
        return float((weights * np.cos(a) ** (freedom - 1)).sum() * upper / (a.size - 1) / 3)

    whole = area(math.pi / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) < 0.95 * whole else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def sqnr_db(reference: NDArray[np.floating], approximation: NDArray[np.floating]) -> float:
    """Signal to quantization-noise ratio in decibels: 10 log10(sum r^2 / sum (r - a)^2). Infinite when equal."""
    reference64, noise = reference.astype(np.float64), reference.astype(np.float64) - approximation.astype(np.float64)
    power = float(np.sum(noise**2))
    if power == 0.0:
        return math.inf
    signal = float(np.sum(reference64**2))
    return -math.inf if signal == 0.0 else 10 * math.log10(signal / power)
