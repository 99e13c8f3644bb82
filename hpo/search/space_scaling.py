"""Positions of values in the range of their parameter, on the scale of the search."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


def is_log(distribution: BaseDistribution) -> bool:
    """Return whether a parameter is searched on a logarithmic scale."""
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def to_unit(value: Any, distribution: BaseDistribution) -> float:
    """Return the position of a value: 0 at the low end, 1 at the high end; choices are equally spaced."""
    if isinstance(distribution, CategoricalDistribution):
        last = max(1, len(distribution.choices) - 1)
        return distribution.choices.index(value) / last
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if low == high:
        return 0.5
    if distribution.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def from_unit(position: float, distribution: BaseDistribution) -> float | int:
    """Invert `to_unit` for a number."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    value = low * (high / low) ** position if distribution.log else low + position * (high - low)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)
