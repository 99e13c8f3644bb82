"""95 % intervals of test metrics over test examples: the figures of another test set of the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.tasks.metrics import MeanOfParts, Rows

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

    Wilson's for a share of examples; else the percentiles of a bootstrap over examples, the same ones for all names,
    but fewer for tables of many classes.
    """
    shares = {name: rows[0] for name, (rows, _) in found.items() if _is_share(rows)}
    known = {name: wilson(float(right.mean()), len(right)) for name, right in shares.items()}
    others = {
        name: (rows, value.of_resamples(*rows) if isinstance(value, MeanOfParts) else value)
        for name, (rows, value) in found.items()
        if name not in shares
    }
    drawn: dict[str, list[float]] = {name: [] for name in others}
    affordable = {
        name: WORK // max(1, sum(array.size for array in rows)) for name, (rows, _) in others.items()
    }
    rng = np.random.default_rng(SEED)
    for number in range(resamples if others else 0):
        count = len(next(iter(others.values()))[0][0])
        chosen = rng.integers(0, count, count)
        for name, (rows, value) in others.items():
            if number >= max(FEWEST, affordable[name]):
                continue
            drawn[name].append(value(*(array[chosen] for array in rows)))
    for name, values in drawn.items():
        finite = np.array(values)[np.isfinite(values)]
        if len(finite):
            low, high = np.percentile(finite, (2.5, 97.5))
            known[name] = float(low), float(high)
    return {name: known[name] for name in found if name in known}


def _is_share(rows: tuple[NDArray[Any], ...]) -> bool:
    return len(rows) == 1 and rows[0].ndim == 1 and rows[0].dtype == np.bool_
