"""What can be said of a figure measured over a few seeds: its interval, and whether two of them differ."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure over seeds."""

    mean: float
    standard_deviation: float | None
    """With n - 1; None for one seed."""
    interval95: tuple[float, float] | None
    """Student's t interval of the mean; None for one seed, and where all are equal, as few seeds on few images may
    come out: that says nothing of how they spread."""
    n: int

    @property
    def all_equal(self) -> bool:
        """Whether several seeds came to the very same figure."""
        return self.n > 1 and self.standard_deviation == 0.0

    def to_json(self) -> dict[str, Any]:
        """As metrics.json holds it."""
        return {
            "mean": self.mean,
            "standard_deviation": self.standard_deviation,
            "interval95": list(self.interval95) if self.interval95 else None,
            "n": self.n,
        }


@dataclass(frozen=True)
class Difference:
    """One figure's mean minus another's, each measured over seeds of its own."""

    mean: float
    interval95: tuple[float, float] | None
    """Welch's t interval; None where a side has fewer than two values."""
    p_value: float | None
    """Of Welch's test, two-sided; None as above."""

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the interval excludes zero; None where there is none."""
        if self.interval95 is None:
            return None
        return self.interval95[0] > 0 or self.interval95[1] < 0


def summarize(values: Sequence[float]) -> Interval:
    """Mean, standard deviation and 95 % interval (Student's t, n - 1 degrees of freedom).

    Of values that are not all finite only the mean, which is not finite either.
    """
    mean, n = statistics.fmean(values), len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return Interval(mean, None, None, n)
    deviation = statistics.stdev(values)
    # Equal figures may have a mean that rounding puts beside them, and so a deviation that is not quite zero.
    if len(set(values)) == 1:
        return Interval(values[0], 0.0, None, n)
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean, deviation, (mean - half, mean + half), n)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """`first` minus `second` by Welch's t test, which lets the two spread differently (Welch, 1947)."""
    mean = statistics.fmean(first) - statistics.fmean(second)
    if len(first) < 2 or len(second) < 2:
        return Difference(mean, None, None)
    if len(set(first)) == len(set(second)) == 1:
        # Equal figures on few images say nothing of how seeds spread.
        return Difference(mean, None, None)
    from scipy.stats import ttest_ind

    test = ttest_ind(first, second, equal_var=False)
    bounds = test.confidence_interval(CONFIDENCE)
    return Difference(mean, (float(bounds.low), float(bounds.high)), float(test.pvalue))


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` images (Wilson, 1927), which holds up where all or none of them count."""
    z2 = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down procedure."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected
