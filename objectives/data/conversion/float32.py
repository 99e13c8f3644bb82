"""Numbers as float32, in which models compute; refused where this loses them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.errors import ArrayInvalidError

_LARGEST_LOSS = 0.05
"""Largest rounding that is accepted, as a share of a column's standard deviation."""
_NOISE = 1e-10
"""Standard deviation, as a share of the largest number, of a column that is constant but for rounding in float64."""
_IMAGES = 4
"""Axes of an array of images, whose pixels have no offset that could lose their differences."""


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Return whether float32 loses digits of a type of floats."""
    return dtype.kind == "f" and dtype.itemsize > np.dtype(np.float32).itemsize


class Float32:
    """Converts the rows of an array, block by block."""

    def __init__(self, name: str, *, keeps_differences: bool) -> None:
        """`name` is that of the array in messages.

        `keeps_differences`: the rows are those to train on, whose differences float32 must keep, as of time stamps.
        """
        self._name = name
        self._columns = _Columns() if keeps_differences else None
        self._rows = 0

    def __call__(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Return the next rows as float32.

        Raises:
            ArrayInvalidError: a number is not finite, or larger than float32 holds.
        """
        check_finite(block, self._name, self._rows)
        with np.errstate(over="ignore"):
            found: NDArray[np.float32] = block.astype(np.float32)
        if not np.isfinite(found).all():
            raise ArrayInvalidError(
                f"{self._name} has numbers above 3.4e38, the largest of float32: scale them"
            )
        if self._columns is not None and block.ndim < _IMAGES and block.size:
            self._columns.add(_by_column(block), _by_column(found))
        self._rows += len(block)
        return found

    def lost(self) -> tuple[int, Any, Any] | None:
        """Return the first column whose differences are lost, with its least and largest number."""
        return None if self._columns is None else self._columns.lost()

    def end(self) -> None:
        """Check all rows together.

        Raises:
            ArrayInvalidError: the numbers of a column differ by less than float32 keeps.
        """
        if (lost := self.lost()) is not None:
            column, low, high = lost
            raise ArrayInvalidError(
                f"{self._name} has numbers from {low} to {high} in column {column}, whose differences are lost in"
                " float32: subtract their mean, and divide them by their deviation"
            )


def check_finite(block: NDArray[Any], name: str, first: int = 0) -> None:
    """Raise ArrayInvalidError, with the row counted from `first`, if a number is not finite."""
    if np.isfinite(block).all():
        return
    rows = block.reshape(len(block), -1)
    wrong = ~np.isfinite(rows)
    row = int(np.flatnonzero(wrong.any(axis=1))[0])
    raise ArrayInvalidError(
        f"{name} is {rows[row][wrong[row]][0]} in row {first + row}, counted from 0: remove the row, or replace the"
        " value"
    )


def _by_column(rows: NDArray[Any]) -> NDArray[Any]:
    """Return numbers (n, columns); the last axis of sequences (n, steps, features) has the columns."""
    return rows.reshape(-1, 1 if rows.ndim == 1 else rows.shape[-1])


class _Columns:
    """Statistics of each column over the blocks so far: Chan, Golub and LeVeque (1979), equation 2.1."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._low: Any = np.inf
        self._high: Any = -np.inf
        self._rounding: Any = 0.0

    def add(self, exact: NDArray[Any], rounded: NDArray[np.float32]) -> None:
        count, mean = len(exact), exact.mean(axis=0, dtype=np.float64)
        total, shift = self._count + count, mean - self._mean
        self._squares = (
            self._squares
            + exact.var(axis=0, dtype=np.float64) * count
            + shift**2 * (self._count * count / total)
        )
        self._mean = self._mean + shift * (count / total)
        self._count = total
        self._low = np.minimum(self._low, exact.min(axis=0))
        self._high = np.maximum(self._high, exact.max(axis=0))
        self._rounding = np.maximum(
            self._rounding, np.abs(rounded - exact.astype(np.float64, copy=False)).max(axis=0)
        )

    def lost(self) -> tuple[int, Any, Any] | None:
        """Return the first column whose differences are lost, with its least and largest number."""
        if not self._count:
            return None
        spread = np.sqrt(self._squares / self._count)
        noise = _NOISE * np.maximum(np.abs(self._low), np.abs(self._high))
        wrong = np.flatnonzero((self._rounding > _LARGEST_LOSS * spread) & (spread > noise))
        if not len(wrong):
            return None
        column = int(wrong[0])
        return column, self._low[column], self._high[column]
