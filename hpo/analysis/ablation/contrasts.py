"""Differences between points of an experiment with simultaneous intervals.

Each difference is the mean over the seeds that both points have, so that the effect of a seed on both cancels. All
intervals together contain the true differences with 95 % probability: each is the difference plus or minus c standard
errors, with c the 95 % quantile of the largest of all t statistics, whose correlations are known because the points
share runs (Hothorn, Bretz and Westfall, "Simultaneous inference in general parametric models", 2008; for comparisons
with one base alone, this is Dunnett's test). Holm's procedure would find a little more, but gives no intervals, and
Bonferroni's correction wider ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.analysis.ablation.measurements import Floats
from hpo.analysis.ablation.noise import Noise
from hpo.analysis.statistics import CONFIDENCE

DRAWS = 20_000
"""Draws of the largest t statistic: its quantile is then known to about 0.5 %."""

Pair = tuple[int, int]
"""A point and the one that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One point compared with another one."""

    point: int
    against: int
    n: int
    """Seeds that both have."""
    effect: float
    """Mean difference, above zero where the point is better; NaN without a seed that both have."""
    interval: tuple[float, float] | None
    """Simultaneous interval; None where the noise is not known, or the point has its own."""

    @property
    def is_better(self) -> bool:
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_worse(self) -> bool:
        return self.interval is not None and self.interval[1] < 0


def contrasts_of(values: Floats, pairs: Sequence[Pair], noise: Noise | None) -> list[Contrast]:
    """Return the comparisons of values (points, seeds), oriented so that larger is better."""
    family = tuple(pairs)
    return [_contrast(values, pair, noise, family) for pair in pairs]


def _contrast(values: Floats, pair: Pair, noise: Noise | None, family: tuple[Pair, ...]) -> Contrast:
    differences = values[pair[0]] - values[pair[1]]
    shared = differences[np.isfinite(differences)]
    n, interval = len(shared), None
    effect = float(shared.mean()) if n else math.nan
    if noise is not None and n and not noise.unstable & {*pair}:
        spread = noise.spread(*pair)
        half = critical_value(family, spread.freedom) * spread.deviation / math.sqrt(n)
        interval = effect - half, effect + half
    return Contrast(point=pair[0], against=pair[1], n=n, effect=effect, interval=interval)


@functools.lru_cache(maxsize=64)
def critical_value(pairs: tuple[Pair, ...], freedom: float) -> float:
    """Return the quantile of the largest absolute t statistic of comparisons of points with equally many runs."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((DRAWS, 1 + max(max(pair) for pair in pairs)))
    ones, others = (np.array(side) for side in zip(*pairs, strict=True))
    largest = np.abs(draws[:, ones] - draws[:, others]).max(axis=1) / math.sqrt(2)
    spread = np.sqrt(rng.chisquare(freedom, DRAWS) / freedom)
    return float(np.quantile(largest / spread, CONFIDENCE))
