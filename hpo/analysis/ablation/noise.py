"""The noise of an experiment: the standard deviation of runs that differ in their seed alone.

A run is modelled as the mean of its point, plus an effect of its seed that all points share, plus noise. The noise is
pooled over points, because the few seeds of one point say little. Two kinds of points are left out: those whose runs
scatter significantly more than the others', which are called unstable, and those that are far worse than the base,
because a configuration that learns nothing has little noise, or much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo.analysis.ablation.measurements import Floats

UNSTABLE = 0.01
"""Chance that any point of an experiment is called unstable although all have the same noise."""
FAR = 10.0
"""Distance from the base, in standard deviations of the noise, beyond which a point does not measure it."""
LEAST_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise that the points of an experiment share."""

    deviation: float
    """Standard deviation of one run around the mean of its point."""
    freedom: int
    """Degrees of freedom of its estimate."""
    unstable: frozenset[int]
    """Points whose runs scatter more."""


def noise_of(values: Floats) -> Noise | None:
    """Return the noise of values (points, seeds), of which the first row is the base; None if no seed repeats.

    Points with a missing value are left out, or the last seeds, whichever leaves more to estimate from.
    """
    best: tuple[int, Floats, NDArray[np.intp]] | None = None
    usable = values[:, np.isfinite(values[0])]
    for seeds in range(2, usable.shape[1] + 1):
        rows = np.flatnonzero(np.isfinite(usable[:, :seeds]).all(axis=1))
        freedom = (len(rows) - 1) * (seeds - 1)
        if freedom > 0 and (best is None or freedom >= best[0]):
            best = freedom, usable[rows, :seeds], rows
    if best is None:
        return None
    _, complete, rows = best
    # The median is not moved by unstable points.
    squares = _squares(complete, np.median(_centred(complete), axis=0))
    is_unstable = _unstable(squares, complete.shape[1] - 1)
    used = ~is_unstable & _near(complete, squares)
    if used.sum() < min(LEAST_POINTS, len(rows)):
        used = np.ones(len(rows), dtype=bool)
    freedom = (int(used.sum()) - 1) * (complete.shape[1] - 1)
    shared = _centred(complete)[used].mean(axis=0)
    total = float(_squares(complete, shared)[used].sum())
    return Noise(
        deviation=float(np.sqrt(total / freedom)),
        freedom=freedom,
        unstable=frozenset(int(rows[place]) for place in np.flatnonzero(is_unstable)),
    )


def _centred(values: Floats) -> Floats:
    found: Floats = values - values.mean(axis=1, keepdims=True)
    return found


def _squares(values: Floats, shared: Floats) -> Floats:
    """Return the sum of squares of each point around its mean, without the effects of the seeds."""
    found: Floats = ((_centred(values) - shared) ** 2).sum(axis=1)
    return found


def _typical(squares: Floats, freedom: int) -> float:
    """Return the variance of which so many squares have this median."""
    from scipy.special import chdtri

    return float(np.median(squares)) / float(chdtri(freedom, 0.5))


def _unstable(squares: Floats, freedom: int) -> NDArray[np.bool_]:
    from scipy.special import fdtri

    typical = _typical(squares, freedom)
    if typical <= 0:
        return np.zeros(len(squares), dtype=bool)
    # A median knows about 0.6 times as much as a mean.
    others = max(1.0, 0.6 * freedom * (len(squares) - 1))
    limit = float(fdtri(freedom, others, 1 - UNSTABLE / len(squares)))
    found: NDArray[np.bool_] = squares / freedom > limit * typical
    return found


def _near(values: Floats, squares: Floats) -> NDArray[np.bool_]:
    typical = _typical(squares, values.shape[1] - 1)
    if typical <= 0:
        return np.ones(len(squares), dtype=bool)
    means = values.mean(axis=1)
    found: NDArray[np.bool_] = np.abs(means - means[0]) <= FAR * np.sqrt(typical)
    return found
