"""The noise of an experiment: the standard deviation of runs that differ in their seed alone.

A run is modelled as the mean of its point, plus an effect of its seed that all points share, plus noise. The noise is
pooled over points, because the seeds of one point are too few to estimate it. Two kinds of points are left out: those
whose runs scatter significantly more than the others', which are called unstable, and those that are far from the base,
because a configuration that learns nothing has little noise, or much.

Where a parameter hardly changes how a model trains, a run and the base's run from the same seed differ much less than
two seeds do. A parameter whose differences scatter significantly less than the noise allows has a noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo.analysis.ablation.measurements import Floats

UNSTABLE = 0.01
"""Chance that any point of an experiment is called unstable although all have the same noise."""
FAR = 5.0
"""Distance from the base, in standard deviations of the noise, beyond which a point does not measure it."""
LEAST_POINTS = 3
CALM = 0.01
"""Chance that any parameter gets a noise of its own although all have the same."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation of the difference between two runs of one seed."""

    deviation: float
    freedom: float
    """Degrees of freedom of its estimate."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise that the points of an experiment share."""

    deviation: float
    """Standard deviation of one run around the mean of its point."""
    freedom: int
    """Degrees of freedom of its estimate."""
    unstable: frozenset[int]
    """Points whose runs scatter more."""
    calm: Mapping[int, Spread] = field(default_factory=dict)
    """Spread around the base of points whose parameter has a noise of its own."""

    def spread(self, point: int, against: int) -> Spread:
        """Return the spread of the difference between two points."""
        shared = Spread(deviation=math.sqrt(2) * self.deviation, freedom=self.freedom)
        return self.calm.get(point, shared) if against == 0 else shared


def noise_of(values: Floats, parameters: Sequence[Sequence[int]] = ()) -> Noise | None:
    """Return the noise of values (points, seeds), of which the first row is the base; None if no seed repeats.

    `parameters` holds the points in which one parameter alone differs from the base, for each parameter.
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
    deviation = float(np.sqrt(_squares(complete, shared)[used].sum() / freedom))
    found = [_calm(values, points, deviation, freedom, CALM / len(parameters)) for points in parameters]
    return Noise(
        deviation=deviation,
        freedom=freedom,
        unstable=frozenset(int(rows[place]) for place in np.flatnonzero(is_unstable)),
        calm={point: spread for spreads in found for point, spread in spreads.items()},
    )


def _calm(
    values: Floats, points: Sequence[int], deviation: float, freedom: int, chance: float
) -> dict[int, Spread]:
    """Return the spread of a parameter's points around the base if it is significantly smaller than the noise's."""
    from scipy.special import fdtri

    differences = values[list(points)] - values[0]
    seeds = differences[:, np.isfinite(differences).all(axis=0)]
    n, count = len(points), seeds.shape[1]
    if count < 2 or not n or deviation <= 0:
        return {}
    variance = float(seeds.var(axis=1, ddof=1).mean())
    # All differences share the base's run: the freedom is that of Satterthwaite (1946) for such a sum of squares.
    own = (count - 1) * (2 * n) ** 2 / ((n + 1) ** 2 + n - 1)
    if variance >= fdtri(own, freedom, chance) * 2 * deviation**2:
        return {}
    # The difference of two rounded values.
    rounding = _step(values) / math.sqrt(6)
    return {point: Spread(deviation=max(math.sqrt(variance), rounding), freedom=own) for point in points}


def _step(values: Floats) -> float:
    """Return the smallest difference between values that are not equal: the resolution of the metric."""
    steps = np.diff(np.unique(values[np.isfinite(values)]))
    # Equal values may differ by the arithmetic.
    large = steps[steps > 1e-9]
    return float(large.min()) if len(large) else 0.0


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
