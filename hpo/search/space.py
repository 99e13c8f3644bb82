"""Parameters of a search space: described in words, scaled to the unit interval, and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo import formatting
from hpo.errors import ConfigFileError
from hpo.search.choice_text import labels
from hpo.suggestions import did_you_mean
from objectives.spaces.choices import contains, position
from objectives.spaces.space import activity, conditions_text


def describe_distribution(distribution: BaseDistribution) -> str:
    """Return e.g. `0.0001 to 0.1, log`, `1 to 8, step 2` or `one of 64, 128`."""
    if isinstance(distribution, CategoricalDistribution):
        choices = labels(distribution)
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


def describe_parameter(space: Mapping[str, BaseDistribution], name: str) -> str:
    """Return the description of a parameter's distribution, with its conditions: `0 to 0.99, if optimizer is sgd`."""
    condition = conditions_text(space, name)
    return describe_distribution(space[name]) + (f", if {condition}" if condition else "")


def is_log(distribution: BaseDistribution) -> bool:
    """Return whether a parameter is searched on a logarithmic scale."""
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def to_unit(value: Any, distribution: BaseDistribution) -> float:
    """Return the position of a value: 0 at the low end, 1 at the high end; choices are equally spaced."""
    if isinstance(distribution, CategoricalDistribution):
        return place_of(value, distribution) / max(1, len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if low == high:
        return 0.5
    if distribution.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def place_of(value: Any, distribution: CategoricalDistribution) -> int:
    """Return the index of a choice.

    Raises:
        ValueError: the value is none of them.
    """
    place = position(distribution, value)
    if place is None:
        raise ValueError(f"{value!r} is not {describe_distribution(distribution)}")
    return place


def from_unit(position: float, distribution: BaseDistribution) -> float | int:
    """Invert `to_unit` for a number; a position between two steps gives the nearer step."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    else:
        value = low + position * (high - low)
        if distribution.step is not None:
            value = low + round((value - low) / distribution.step) * distribution.step
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def check_params(params: Mapping[str, Any], space: Mapping[str, BaseDistribution], source: Path) -> None:
    """Check that the parameters of the file `source` are a configuration of the objective's space.

    Raises:
        ConfigFileError: a parameter is missing, unknown, of the wrong type or out of range.
    """
    problem = params_problem(params, space)
    if problem is not None:
        raise ConfigFileError(f"{source}: {problem}")


def params_problem(
    params: Mapping[str, Any], space: Mapping[str, BaseDistribution], *, partial: bool = False
) -> str | None:
    """Return the reason why the parameters are no configuration of the space; `partial`: some may be missing."""
    for name in params:
        if name not in space:
            known = ", ".join(space) or "no parameter"
            return (
                f"the objective has no parameter {name!r}{did_you_mean(name, space)}; its space has {known}"
            )
    for name, distribution in space.items():
        if name in params and not contains(distribution, params[name]):
            return (
                f"parameter {name!r} is {params[name]!r}, but must be {describe_distribution(distribution)}"
            )
    for name, distribution in space.items():
        active = activity(space, name, params, complete=not partial)
        if name not in params:
            if active and not partial:
                return f"it lacks parameter {name!r} ({describe_distribution(distribution)})"
        elif active is False:
            return f"parameter {name!r} is active only if {conditions_text(space, name)}: leave it out"
        elif active is None:
            return f"parameter {name!r} is active only if {conditions_text(space, name)}: give that value too"
    return None
