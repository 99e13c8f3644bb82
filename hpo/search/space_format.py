"""Descriptions of a search space: each of Optuna's distributions as a short text."""

from __future__ import annotations

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo import formatting


def describe_distribution(distribution: BaseDistribution) -> str:
    """Return e.g. `0.0001 to 0.1, log`, `1 to 8, step 2` or `one of 64, 128`."""
    if isinstance(distribution, CategoricalDistribution):
        choices = [formatting.parameter(choice) for choice in distribution.choices]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else f"fixed at {choices[0]}"
    if isinstance(distribution, FloatDistribution | IntDistribution):
        low, high = formatting.parameter(distribution.low), formatting.parameter(distribution.high)
        if low == high:
            return f"fixed at {low}"
        whole = isinstance(distribution, IntDistribution)
        step = distribution.step if distribution.step not in (None, 1 if whole else None) else None
        return (
            f"{low} to {high}"
            + (", whole numbers" if whole else "")
            + (f", step {formatting.parameter(step)}" if step else "")
            + (", log" if distribution.log else "")
        )
    return repr(distribution)
