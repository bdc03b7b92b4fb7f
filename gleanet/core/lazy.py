"""Rows that are computed when they are asked for: of an array what the stages need of images, without the memory that all of them take."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
BLOCK = 256
MOST_NUMBERS = 2**23


def rows_at_once(row_shape: Sequence[int], most: int = 250) -> int:
    """How many images of this shape go through a network in one call: ``most``, fewer where they are large (55 of 224 x 224 pixels), since
    what the layers make of them lies in memory."""
    return max(1, min(most, MOST_NUMBERS // max(1, math.prod(row_shape))))


@dataclass(frozen=True, eq=False)
class Lazy:
    """An array [N, ...] that is never whole in memory. A slice or an array of indices gives an ordinary array of those rows.

    Args:
        make: computes rows: their numbers int64 [n] -> [n, *row_shape] of ``dtype``; the same numbers give the same rows.
        numbers: for each row, what ``make`` calls it, int64 [N].
        row_shape: the shape of one row.
        dtype: of the rows.
    """

    make: Callable[[Rows], NDArray[Any]]
    numbers: Rows
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Lazy":
        """An array that is there, for what is then made of its rows with :meth:`map`."""
        return Lazy(array.__getitem__, np.arange(len(array)), array.shape[1:], array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), *self.row_shape)

    @property
    def ndim(self) -> int:
        return 1 + len(self.row_shape)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: int | slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        chosen = self.numbers[rows]
        if isinstance(rows, int | np.integer):
            found: NDArray[Any] = self.make(np.array([chosen]))[0]
            return found
        return self.make(chosen)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(f"an array {list(self.shape)} that is computed row by row is never whole in memory: take slices of it")

    def digest(self) -> bytes:
        """Of the rows: SHA-256 of what they hold, or of what stands for it."""
        found = hashlib.sha256()
        for start in range(0, len(self), BLOCK):
            found.update(np.ascontiguousarray(self[start : start + BLOCK]).data)
        return found.digest()

    def take(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Self:
        """Some of the rows, in that order; nothing is computed."""
        return replace(self, numbers=self.numbers[np.asarray(rows)])

    def map(self, function: Callable[[NDArray[Any]], NDArray[Any]], dtype: type[np.generic]) -> "Lazy":
        """What ``function`` makes of the rows, [n, ...] -> [n, ...] of the same shape and of type ``dtype``."""
        return Lazy(lambda numbers: function(self.make(numbers)), self.numbers, self.row_shape, np.dtype(dtype))


Array = NDArray[Any] | Lazy
