"""Confidence intervals and tests for figures measured over a few seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpo import formatting

CONFIDENCE = 0.95

Bounds = tuple[float, float]
"""Lowest and highest possible value of a metric."""

LARGEST = 1e150
"""Largest value that is compared and drawn: squares and differences of larger ones exceed the largest float."""


def is_comparable(value: float) -> bool:
    """Whether a value is finite and small enough for statistics and charts."""
    return abs(value) <= LARGEST


def mean(values: Sequence[float]) -> float:
    """Return the mean, also of values whose sum exceeds the largest float."""
    if all(map(is_comparable, values)) or not all(map(math.isfinite, values)):
        return statistics.fmean(values)
    return math.fsum(value / len(values) for value in values)


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1) of finite values; infinity beyond the largest float."""
    if all(map(is_comparable, values)):
        return statistics.stdev(values)
    return LARGEST * statistics.stdev([value / LARGEST for value in values])


def shown_deviation(value: float, mean: float) -> str:
    """Return a standard deviation with as many decimals as its mean has, and no fewer than 2 digits of a small one."""
    if abs(mean) >= 1e4 and value < 1e4:
        return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.2g}"
    # The mean has 4 digits and more than 4 decimals.
    is_small = 0 < abs(mean) < 1e-3
    return formatting.metric(value) if is_small or value >= 1e4 else f"{value:.4f}"


@dataclass(frozen=True)
class Interval:
    """Mean of a figure over seeds and its confidence interval."""

    mean: float
    standard_deviation: float | None
    """Sample standard deviation (n - 1); None for one seed."""
    interval95: tuple[float, float] | None
    """Student's t interval of the mean; None for one seed, and for equal values, which few test images may give
    and which do not allow an estimate of the spread."""
    n: int

    @property
    def shown_mean(self) -> str:
        """Mean and deviation: `0.9731 ± 0.0064`."""
        spread = self.standard_deviation
        return formatting.metric(self.mean) + (
            "" if spread is None else f" ± {shown_deviation(spread, self.mean)}"
        )

    @property
    def shown_interval(self) -> str:
        """Interval: `0.9571 to 0.9891`, or `-` without one."""
        return "-" if self.interval95 is None else " to ".join(map(formatting.metric, self.interval95))

    def describe(self) -> str:
        """Return `0.9731 ± 0.0064 (95 % interval 0.9571 to 0.9891, n = 3 seeds)`."""
        interval = "" if self.interval95 is None else f"95 % interval {self.shown_interval}, "
        equal = ", all equal" if self.standard_deviation == 0.0 else ""
        return f"{self.shown_mean} ({interval}n = {formatting.counted(self.n, 'seed')}{equal})"

    def within(self, bounds: Bounds | None) -> Interval:
        """Return the interval cut at the bounds of its metric, unless the mean lies outside of them."""
        if bounds is None or self.interval95 is None or not bounds[0] <= self.mean <= bounds[1]:
            return self
        (low, high), (lowest, highest) = self.interval95, bounds
        return replace(self, interval95=(max(low, lowest), min(high, highest)))

    @classmethod
    def from_json(cls, figure: Mapping[str, Any]) -> Interval:
        """Invert `to_json`, also for numbers that are not finite."""
        mean, spread, bounds = float(figure["mean"]), figure["standard_deviation"], figure["interval95"]
        interval = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        return cls(mean, formatting.json_number(spread), interval, figure["n"])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form in metrics.json."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Difference of two means, each over its own seeds."""

    mean: float
    interval95: tuple[float, float] | None
    """Welch's t interval; None if either sample has fewer than two values, both are constant, or a value is
    not finite or beyond `LARGEST`."""
    p_value: float | None
    """P-value of Welch's two-sided test; None as above."""

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the interval excludes zero; None without an interval."""
        if self.interval95 is None:
            return None
        return self.interval95[0] > 0 or self.interval95[1] < 0


def summarize(values: Sequence[float], bounds: Bounds | None = None) -> Interval:
    """Return mean, standard deviation and 95 % interval (Student's t, n - 1 degrees of freedom), within `bounds`.

    If a value is not finite, only the mean is set, which is not finite either.
    """
    centre, n = mean(values), len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return Interval(centre, None, None, n)
    spread = deviation(values)
    # Equal values may differ by rounding, as may their mean, which would give a deviation slightly above zero.
    if all(math.isclose(value, values[0], rel_tol=1e-9) for value in values):
        return Interval(values[0], 0.0, None, n)
    # `t.ppf` of scipy.stats is the same, but takes 0.25 s longer to import.
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) / math.sqrt(n) * spread
    return Interval(centre, spread, (centre - half, centre + half), n).within(bounds)


def welch(first: Sequence[float], second: Sequence[float], bounds: Bounds | None = None) -> Difference:
    """Return `first` minus `second` by Welch's t test, which allows unequal variances (Welch, 1947).

    The interval stays within the differences that values within `bounds` can have.
    """
    difference = mean(first) - mean(second)
    if len(first) < 2 or len(second) < 2 or not all(map(is_comparable, [*first, *second])):
        return Difference(difference, None, None)
    if len(set(first)) == len(set(second)) == 1:
        # Equal values on few images do not allow an estimate of the spread.
        return Difference(difference, None, None)
    # `ttest_ind` of scipy.stats is the same, but warns if the values of one sample are equal.
    from scipy.special import stdtr, stdtrit

    # Squares of the standard errors of both means; the mean of equal values may be rounded.
    one, other = (0.0 if len(set(v)) == 1 else deviation(v) ** 2 / len(v) for v in (first, second))
    if one + other == 0.0:
        # Their squares are too small for a float.
        return Difference(difference, None, None)
    spread = math.sqrt(one + other)
    freedom = 1 / (
        (one / (one + other)) ** 2 / (len(first) - 1) + (other / (one + other)) ** 2 / (len(second) - 1)
    )
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * spread
    low, high = difference - half, difference + half
    if bounds is not None and abs(difference) <= (widest := bounds[1] - bounds[0]):
        low, high = max(low, -widest), min(high, widest)
    return Difference(difference, (low, high), float(2 * stdtr(freedom, -abs(difference) / spread)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down procedure (1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected
