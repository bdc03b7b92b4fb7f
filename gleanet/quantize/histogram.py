"""Histograms of a stream of values, in one pass and constant memory.

The range of the values is not known beforehand, so bins are laid on the grid ``k * width`` with a width that is a power of two. Whenever a
value falls outside, the width doubles and neighbouring bins merge, which is exact. The final width depends on the smallest and the largest
value alone: the result is that of a histogram of all stored values, whatever the order and the sizes of the batches.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import QuantizationError

CAPACITY = 4096  # bins of a tensor; at least half of them lie between its smallest and its largest value
CHANNEL_CAPACITY = 1024  # of one channel: there may be thousands
_NARROWEST = -120  # log2 of the least width; a tensor that fits into such bins is zero to any quantizer
_EXACT = 0  # log2 of the greatest width by which float32 can be divided without underflow of its smallest numbers
_BLOCK = 1 << 15  # values at a time, so that the scratch memory stays in the cache


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of one tensor or channel.

    Attributes:
        low, high: smallest and largest value, exact.
        width: of a bin, a power of two.
        first: bin ``i`` of ``counts`` holds the values in [(first + i) * width, (first + i + 1) * width). Zero lies always inside.
        counts: [bins] int64.
        zeros: how many values are exactly zero; they are counted in their bin as well.
    """

    low: float
    high: float
    width: float
    first: int
    counts: NDArray[np.int64]
    zeros: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """Ends of the bins, [bins + 1] float64."""
        return np.asarray(np.arange(self.first, self.first + len(self.counts) + 1) * self.width, dtype=np.float64)


class HistogramStream:
    """Histograms of one or more channels, fed piece by piece."""

    def __init__(self, what: str, channels: int = 1, capacity: int = CAPACITY) -> None:
        """``what`` names the values in errors; ``capacity`` is the number of bins, at least 2."""
        self.what = what
        self._capacity = capacity
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._exponent = np.full(channels, _NARROWEST)  # log2 of the widths
        self._first = np.zeros(channels, dtype=np.int64)
        self._counts = np.zeros((channels, capacity), dtype=np.int64)
        self._zeros = np.zeros(channels, dtype=np.int64)
        self._slots = np.arange(channels)[:, None] * capacity

    def add(self, values: NDArray[np.float32]) -> None:
        """Count ``values``, float32 [n, channels, m].

        Raises:
            QuantizationError: a value is not finite.
        """
        if not values.size:
            return
        low, high = values.min(axis=(0, 2)), values.max(axis=(0, 2))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise QuantizationError(f"{self.what} is not finite on the calibration images: check weights and preprocessing")
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)
        self._fit()
        wide = bool((self._exponent > _EXACT).any())
        kind: type[np.floating[Any]] = np.float64 if wide else np.float32
        scale, first = np.ldexp(1.0, -self._exponent).astype(kind)[:, None], self._first.astype(kind)[:, None]
        size = max(1, _BLOCK // values.shape[1])
        for image in values:
            for start in range(0, image.shape[1], size):
                self._count(image[:, start : start + size], scale, first)

    def histograms(self) -> tuple[Histogram, ...]:
        """One for each channel, of the values so far (at least one)."""
        widths = np.ldexp(1.0, self._exponent)
        bins = np.floor(np.maximum(self._high, 0.0) / widths).astype(np.int64) - self._first + 1
        return tuple(
            Histogram(
                low=float(self._low[c]),
                high=float(self._high[c]),
                width=float(widths[c]),
                first=int(self._first[c]),
                counts=self._counts[c, : bins[c]].copy(),
                zeros=int(self._zeros[c]),
            )
            for c in range(len(bins))
        )

    def _count(self, block: NDArray[np.float32], scale: NDArray[np.floating[Any]], first: NDArray[np.floating[Any]]) -> None:
        """Everything here is exact: scaling by a power of two, and integers far below 2^24."""
        self._zeros += block.shape[1] - np.count_nonzero(block, axis=1)
        bins = block * scale
        np.floor(bins, out=bins)
        bins -= first
        slots = bins.astype(np.int64)
        if len(self._slots) > 1:
            slots += self._slots
        np.add.at(self._counts.reshape(-1), slots.reshape(-1), 1)

    def _fit(self) -> None:
        """Widen and move the bins until all values so far, and zero, lie inside."""
        low, high = np.minimum(self._low, 0.0), np.maximum(self._high, 0.0)
        needed = np.where(high > low, np.frexp((high - low) / self._capacity)[1] - 1, _NARROWEST)
        exponent = np.maximum(self._exponent, needed)
        while (outside := _bin(high, exponent) - _bin(low, exponent) >= self._capacity).any():
            exponent = exponent + outside
        first = _bin(low, exponent).astype(np.int64)
        (moved,) = np.nonzero((exponent != self._exponent) | (first != self._first))
        if len(moved):
            old = self._counts[moved]
            rows, slots = np.nonzero(old)
            channels = moved[rows]
            merged = (self._first[channels] + slots) >> (exponent - self._exponent)[channels]
            new = np.zeros_like(old)
            np.add.at(new.reshape(-1), rows * self._capacity + merged - first[channels], old[rows, slots])
            self._counts[moved] = new
        self._exponent, self._first = exponent, first


def _bin(value: NDArray[np.float64], exponent: NDArray[np.int_]) -> NDArray[np.float64]:
    return np.floor(np.ldexp(value, -exponent))
