"""Values of a parameter in an experiment: its best one, the ends of its range and others between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.search.space import from_unit, to_unit
from objectives.spaces.choices import contains, identity

DIGITS = 2
"""Significant digits of values between the ends, unless they would leave the range or fall together."""


def values_around(distribution: BaseDistribution, best: Any, count: int) -> list[Any]:
    """Return `count` values of a number in order, fewer if it has fewer, or all choices.

    Each further value halves the widest gap on the scale of the search, so that those for a smaller `count` are among
    them; of equally wide gaps, the one next to the best value is halved first.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    found = {identity(value): value for value in (best, distribution.low, distribution.high)}
    chosen = sorted(found.values())
    while len(chosen) < count:
        value = _between(distribution, best, chosen)
        if value is None:
            break
        chosen = sorted([*chosen, value])
    return chosen


def _between(
    distribution: FloatDistribution | IntDistribution, best: float, chosen: Sequence[float]
) -> float | None:
    """Return a new value inside the widest gap that has one."""
    place = to_unit(best, distribution)

    def order(gap: tuple[float, float]) -> tuple[float, float]:
        low, high = (to_unit(end, distribution) for end in gap)
        # Rounded, because equally wide gaps may differ by the arithmetic.
        return -round(high - low, 6), min(abs(low - place), abs(high - place))

    for low, high in sorted(pairwise(chosen), key=order):
        middle = (to_unit(low, distribution) + to_unit(high, distribution)) / 2
        value = from_unit(middle, distribution)
        for candidate in (_rounded(value), value):
            if low < candidate < high and contains(distribution, candidate):
                return candidate
    return None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
