"""From a histogram to the range that 8 bits cover: how much of the rare large values to clip, so that the many small ones are finer.

Every range includes zero, which must be exact (padding, ReLU), as ONNX Runtime's inserter would make it anyway, and lies within what was
seen. Exact zeros cost nothing in any range, so ``entropy`` and ``mse`` leave them out.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import SettingsError
from gleanet.quantize.histogram import Histogram

LEVELS = 256
PERCENTAGE = 99.999  # of the values that "percentile" keeps: benchmarks/percentile.py, docs/evidence.md
_COARSE = 1024  # ranges that "mse" tries before it refines
_REFINE = 4  # how much finer each further step of its search is
_TIE = 1e-9

Threshold = Callable[[Histogram], tuple[float, float]]


def min_max(histogram: Histogram) -> tuple[float, float]:
    """All that was seen: nothing is clipped."""
    return min(histogram.low, 0.0), max(histogram.high, 0.0)


def percentile(histogram: Histogram, percentage: float = PERCENTAGE) -> tuple[float, float]:
    """The range that leaves out equally many values at both ends, ``percentage`` stay; to the bin."""
    whole, edges = min_max(histogram), histogram.edges
    counts = histogram.counts
    wanted = (0.5 + percentage / 200) * counts.sum()
    last = int(np.searchsorted(np.cumsum(counts), wanted))
    first = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), wanted))
    return _within(edges[first], edges[min(last, len(counts) - 1) + 1], whole)


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The symmetric threshold of least Kullback-Leibler divergence (S. Migacz, 8-bit Inference with TensorRT, GTC 2017).

    For each threshold, a number of bins from zero, P is the distribution of the absolute values with all that is clipped added to its last
    bin, and Q the same without what is clipped, levelled within each quantization step over the bins that are not empty. As in the source,
    the absolute values of a symmetric range have 128 levels. A range that ends at zero has all 256, and one between has its share of them.
    Clipped values in an otherwise empty last step count as one value of Q, so that they cost much instead of making Q impossible.
    """
    low, high = min_max(histogram)
    counts = _magnitudes(histogram)
    if not counts.any():
        return low, high
    sizes = np.arange(1, len(counts) + 1)  # of the candidates, in bins
    reach = np.minimum(sizes * histogram.width, max(-low, high))
    levels = np.rint(LEVELS * reach / (np.minimum(reach, -low) + np.minimum(reach, high))).astype(np.int64)
    fits = (sizes >= levels) & (np.cumsum(counts) > 0)
    if not fits.any():
        return low, high
    divergence = _divergence(counts, sizes[fits], levels[fits])
    best = np.flatnonzero(divergence <= divergence.min() + _TIE)[-1]  # of equals, what clips least
    limit = float(reach[fits][best])
    return _within(-limit, limit, (low, high))


def mse(histogram: Histogram) -> tuple[float, float]:
    """The range of least expected squared error of 256 evenly spaced levels, zero among them: rounding inside, clipping outside.

    Within a bin, values are taken to be spread evenly. Both ends are searched on the edges of the bins: first on a coarse grid, then ever
    finer about the best so far.
    """
    low, high = min_max(histogram)
    width, bins = histogram.width, len(histogram.counts)
    lows = np.maximum(np.arange(histogram.first, 1), low / width)  # in bins, widest range first
    highs = np.minimum(np.arange(histogram.first + bins, -1, -1), high / width)
    if low == high or not histogram.counts.sum() > histogram.zeros:
        return low, high
    error = _SquaredError(histogram)
    step = 1
    while len(range(0, len(lows), step)) * len(range(0, len(highs), step)) > _COARSE:
        step *= _REFINE
    rows, columns = np.arange(0, len(lows), step), np.arange(0, len(highs), step)
    while True:
        i, j = (axis.reshape(-1) for axis in np.meshgrid(rows, columns, indexing="ij"))
        errors = error(lows[i], highs[j])
        best = int(np.argmin(errors))
        if step == 1:
            return _within(lows[i[best]] * width, highs[j[best]] * width, (low, high))
        rows, columns = _around(i[best], step, len(lows)), _around(j[best], step, len(highs))
        step //= _REFINE


CALIBRATORS: dict[str, Threshold] = {"min-max": min_max, "percentile": percentile, "entropy": entropy, "mse": mse}


def threshold(calibrator: str) -> Threshold:
    """The function from a histogram to (low, high) of that name.

    Raises:
        SettingsError: unknown; the message lists those there are.
    """
    if calibrator not in CALIBRATORS:
        raise SettingsError(f"unknown calibrator {calibrator!r}: use one of {', '.join(CALIBRATORS)}")
    return CALIBRATORS[calibrator]


def _within(low: float, high: float, whole: tuple[float, float]) -> tuple[float, float]:
    return float(min(max(low, whole[0]), 0.0)), float(max(min(high, whole[1]), 0.0))


def _magnitudes(histogram: Histogram) -> NDArray[np.int64]:
    """Counts of the absolute values, without exact zeros, from the bin at zero outwards."""
    zero = -histogram.first
    below, above = histogram.counts[:zero][::-1], histogram.counts[zero:]
    counts = np.zeros(max(len(below), len(above)), dtype=np.int64)
    counts[: len(below)] += below
    counts[: len(above)] += above
    counts[0] -= histogram.zeros
    return counts


def _divergence(counts: NDArray[np.int64], sizes: NDArray[np.int64], levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P || Q) when the first ``sizes`` bins are kept at ``levels`` levels, [candidates]. Sums over the bins of a level are differences
    of running sums, so a candidate costs as much as it has levels, not bins."""
    total = int(counts.sum())
    running = np.concatenate([[0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    logs = np.concatenate([[0.0], np.cumsum(_xlogy(counts, counts))])
    ends = np.minimum(np.arange(LEVELS + 1) * sizes[:, None] // levels[:, None], sizes[:, None])
    kept, bins = np.diff(running[ends]), np.diff(filled[ends])  # of each level
    inside, last = running[sizes], counts[sizes - 1]
    clipped = total - inside
    p_log_p = (logs[sizes - 1] + _xlogy(last + clipped, last + clipped)) / total - np.log(total)
    rows = np.arange(len(sizes))
    bins[rows, levels - 1] += (last == 0) & (clipped > 0)
    weight = kept.copy()
    weight[rows, levels - 1] += clipped
    q = np.maximum(kept, 1) / np.maximum(bins, 1)
    return np.asarray(p_log_p - (weight * np.log(q)).sum(axis=1) / total + np.log(inside))


def _xlogy(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(x * np.log(np.maximum(y, 1)))


def _around(centre: int, step: int, count: int) -> NDArray[np.int64]:
    """Indices about ``centre`` up to its neighbours ``step`` away, a finer step apart."""
    fine = step // _REFINE
    return np.arange(max(0, centre - step), min(count, centre + step + 1), fine)


class _SquaredError:
    """Sum of squared errors of a quantizer over a histogram, in units of the bin width squared.

    With p the density of the values, q the highest level, s the step and e_j the 255 midpoints between levels, summation by parts gives
    ``integral (x - q)^2 p  -  2 s sum_j F(e_j)`` with ``F(e) = integral_{x < e} (e - x) p``, a parabola in each bin.
    """

    def __init__(self, histogram: Histogram) -> None:
        counts = histogram.counts.astype(np.float64)
        counts[-histogram.first] -= histogram.zeros
        centres = np.arange(histogram.first, histogram.first + len(counts)) + 0.5
        self.first = histogram.first
        self.counts = np.append(counts, 0.0)
        self.below = np.concatenate([[0.0], np.cumsum(counts)])
        self.integral = np.concatenate([[0.0], np.cumsum(self.below[:-1] + counts / 2)])
        self.moments = counts.sum(), counts @ centres, counts @ (centres**2 + 1 / 12)

    def __call__(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the quantizers with these ranges, in bins; ``low <= 0 <= high``. An empty range answers every value with zero."""
        step = (high - low) / (LEVELS - 1)
        some = step > 0
        zero = np.rint(-low / np.where(some, step, 1.0))
        top = (LEVELS - 1 - zero) * step
        middles = (np.arange(LEVELS - 1) + 0.5 - zero[:, None]) * step[:, None]
        position = np.maximum(middles - self.first, 0.0)
        index = np.minimum(position.astype(np.int64), len(self.counts) - 1)
        offset = position - index
        area = self.integral[index] + offset * (self.below[index] + offset * self.counts[index] / 2)
        n, sum1, sum2 = self.moments
        return np.asarray(sum2 - 2 * top * sum1 + top**2 * n - 2 * step * area.sum(axis=1))
