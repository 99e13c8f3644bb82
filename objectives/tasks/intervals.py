"""95 % intervals of test metrics over test examples: the figures of another test set of the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.tasks.metrics import Floats, MeanOfParts, Rows

RESAMPLES = 1_000
FEWEST = 100
"""Number of resamples of rows that are too large for all."""
WORK = 400_000_000
"""Largest number of values that all resamples of a metric are to have: some seconds of one core."""
SEED = 0
Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""

Interval = tuple[float, float]


def wilson(share: float, count: int) -> Interval:
    """Return the score interval of a share of `count` examples (Wilson, 1927); it stays within 0 and 1."""
    centre = share + Z**2 / (2 * count)
    half = Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    scale = 1 + Z**2 / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def intervals(
    found: Mapping[str, tuple[Rows, Callable[..., float]]], resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Return an interval for each name, given the rows of all examples and the function that combines rows.

    Wilson's for a share of examples; else the percentiles of a bootstrap over examples. A bootstrap that is degenerate
    has none, see `_percentiles`.
    """
    shares = {name: rows[0] for name, (rows, _) in found.items() if _is_share(rows)}
    known = {name: wilson(float(right.mean()), len(right)) for name, right in shares.items()}
    others = {name: pair for name, pair in found.items() if name not in shares}
    for name, values in resampled(others, resamples).items():
        pair = _percentiles(values)
        if pair is not None:
            known[name] = pair
    return {name: known[name] for name in found if name in known}


def resampled(
    found: Mapping[str, tuple[Rows, Callable[..., float]]], resamples: int = RESAMPLES
) -> dict[str, Floats]:
    """Return the finite values of each name in resamples of the examples.

    The resamples are the same ones for all names, but fewer for tables of many classes.
    """
    functions = {
        name: value.of_resamples(*rows) if isinstance(value, MeanOfParts) else value
        for name, (rows, value) in found.items()
    }
    drawn: dict[str, list[float]] = {name: [] for name in found}
    affordable = {
        name: WORK // max(1, sum(array.size for array in rows)) for name, (rows, _) in found.items()
    }
    rng = np.random.default_rng(SEED)
    for number in range(resamples if found else 0):
        count = len(next(iter(found.values()))[0][0])
        chosen = rng.integers(0, count, count)
        for name, (rows, _) in found.items():
            if number >= max(FEWEST, affordable[name]):
                continue
            drawn[name].append(functions[name](*(array[chosen] for array in rows)))
    return {name: np.array(values)[np.isfinite(values)] for name, values in drawn.items()}


def _percentiles(values: Floats) -> Interval | None:
    """Return the middle 95 % of resampled values; None if an end is the least or the largest of them all.

    Then more than 2.5 % of the resamples are equal: they hold no mistake, as where a test has fewer than four, or
    nothing else. Resamples make no other mistakes than the test did, so the percentiles would be too narrow, or a point
    for a perfect test (Obuchowski and Lieber, 2002, on areas of 1; Andrews, 2000, on any bound).
    """
    if not len(values):
        return None
    low, high = map(float, np.percentile(values, (2.5, 97.5)))
    return None if low <= values.min() or high >= values.max() else (low, high)


def _is_share(rows: tuple[NDArray[Any], ...]) -> bool:
    return len(rows) == 1 and rows[0].ndim == 1 and rows[0].dtype == np.bool_
