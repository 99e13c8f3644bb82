"""Verdicts of an experiment on each parameter: worth tuning, safe to leave, harmful beyond a value, not resolved.

A value is *worse* or *better* than the base where its simultaneous interval excludes zero and its effect is larger
than the margin, *equal* where the interval lies within the margin, and *open* otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.analysis.ablation.contrasts import Contrast, critical_value
from hpo.analysis.ablation.measurements import Measurements
from hpo.analysis.ablation.noise import Noise
from hpo.analysis.figures import is_share

MARGIN = 0.002
"""Smallest margin of a metric that is a share: 0.2 points."""
MOST_SEEDS = 100
"""Number of seeds beyond which none is recommended."""
FIRST_SEEDS = 3
"""Seeds that are recommended while the noise is not known."""


class Class(StrEnum):
    """Finding on one value."""

    BASE = "base"
    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    OPEN = "open"
    FAILED = "failed"
    """A run ended without a value."""
    UNSTABLE = "unstable"
    """Its runs scatter more than the others', and their mean is worse than the base by more than the margin."""
    SAME = "same"
    """Its runs are those of the base to the last digit."""
    MISSING = "missing"
    """No run of it has ended."""

    @property
    def is_harmful(self) -> bool:
        return self in (Class.WORSE, Class.FAILED, Class.UNSTABLE)


class Verdict(StrEnum):
    """Finding on one parameter or pair."""

    WORTH_TUNING = "worth tuning"
    HARMFUL = "harmful"
    SAFE = "safe to leave"
    NOT_RESOLVED = "not resolved"
    TUNE_TOGETHER = "tune together"
    TUNE_APART = "tune apart"


@dataclass(frozen=True, kw_only=True)
class ValueEffect:
    """One value of a parameter, the base's own included."""

    value: Any
    contrast: Contrast | None
    """Comparison with the base; None for the base."""
    kind: Class
    failed: int = 0
    """Runs that ended without a value."""


@dataclass(frozen=True, kw_only=True)
class ParameterEffect:
    """One parameter, varied alone."""

    parameter: str
    values: Sequence[ValueEffect]
    """In order of the range, or of the choices."""
    verdict: Verdict
    below: Any = None
    """Smallest value that is not harmful, where all tried below it are; None: no such value."""
    above: Any = None
    """Largest value that is not harmful, where all tried above it are; None: no such value."""
    seeds_needed: int | None = None
    """Seeds that would resolve it if effects and noise stay as they are; None: it is resolved, or over `MOST_SEEDS`."""

    @property
    def base(self) -> ValueEffect:
        return next(one for one in self.values if one.kind is Class.BASE)

    @property
    def others(self) -> list[ValueEffect]:
        return [one for one in self.values if one.kind is not Class.BASE]


def margin_of(measurements: Measurements, noise: Noise | None) -> float:
    """Return the smallest difference that matters: that of the settings, else the noise, and 0.2 points of a share."""
    given = measurements.design.settings.margin
    if given is not None:
        return given
    found = 0.0 if noise is None else noise.deviation
    finite = measurements.values[np.isfinite(measurements.values)]
    return max(found, MARGIN) if is_share(measurements.metric, map(float, finite)) else found


def class_of(measurements: Measurements, contrast: Contrast, noise: Noise | None, margin: float) -> Class:
    """Return the class of a point from its comparison with the base."""
    point = contrast.point
    if measurements.failed[point].any():
        return Class.FAILED
    if not contrast.n:
        return Class.MISSING
    if measurements.is_same_as_base(point):
        return Class.SAME
    if noise is not None and point in noise.unstable:
        return Class.UNSTABLE if contrast.effect < -margin else Class.OPEN
    if contrast.interval is None:
        return Class.OPEN
    low, high = contrast.interval
    if contrast.is_worse and contrast.effect < -margin:
        return Class.WORSE
    if contrast.is_better and contrast.effect > margin:
        return Class.BETTER
    return Class.EQUAL if -margin <= low and high <= margin else Class.OPEN


def judged(
    parameter: str,
    values: Sequence[ValueEffect],
    distribution: BaseDistribution | None,
    *,
    seeds_needed: int | None,
) -> ParameterEffect:
    """Return a parameter with its verdict; `distribution` is None for a switch."""
    is_ordered = distribution is not None and not isinstance(distribution, CategoricalDistribution)
    kinds = [one.kind for one in values]
    others = [kind for kind in kinds if kind is not Class.BASE]
    low, high = _tails(kinds) if is_ordered else (0, 0)
    inside = kinds[low : len(kinds) - high]
    irregular = any(kind.is_harmful for kind in inside)
    verdict = Verdict.NOT_RESOLVED
    if Class.BETTER in others or irregular or (low and high):
        verdict = Verdict.WORTH_TUNING
    elif low or high:
        verdict = Verdict.HARMFUL
    elif others and all(kind in (Class.EQUAL, Class.SAME) for kind in others):
        verdict = Verdict.SAFE
    is_open = any(kind in (Class.OPEN, Class.MISSING) for kind in others)
    return ParameterEffect(
        parameter=parameter,
        values=values,
        verdict=verdict,
        below=values[low].value if low else None,
        above=values[-1 - high].value if high else None,
        seeds_needed=seeds_needed if is_open else None,
    )


def _tails(kinds: Sequence[Class]) -> tuple[int, int]:
    """Return how many values at the low and at the high end are harmful."""
    harmful = [kind.is_harmful for kind in kinds]
    base = kinds.index(Class.BASE)
    low = next((place for place in range(base) if not harmful[place]), base)
    high = next(
        (place for place in range(len(kinds) - 1 - base) if not harmful[-1 - place]), len(kinds) - 1 - base
    )
    return low, high


def seeds_to_resolve(
    contrasts: Sequence[Contrast], pairs: Sequence[tuple[int, int]], noise: Noise | None, margin: float
) -> int | None:
    """Return the seeds after which all comparisons would be decided if their effects stayed; None: over `MOST_SEEDS`.

    One is decided if its interval excludes zero and its effect exceeds the margin, or the interval lies within it.
    """
    if noise is None:
        return FIRST_SEEDS
    most = 0.0
    for contrast in contrasts:
        if not contrast.n:
            return None
        effect, spread = abs(contrast.effect), noise.spread(contrast.point, contrast.against)
        distance = effect if effect > margin else margin - effect
        half = critical_value(tuple(pairs), spread.freedom) * spread.deviation
        most = max(most, math.inf if distance <= 0 else (half / distance) ** 2)
    return math.ceil(most) if most <= MOST_SEEDS else None
