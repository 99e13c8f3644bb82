"""Checks that parameters are a configuration of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ConfigFileError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def check_params(params: Mapping[str, Any], space: Mapping[str, BaseDistribution], source: Path) -> None:
    """Check that the parameters of the file `source` are a configuration of the objective's space.

    Raises:
        ConfigFileError: a parameter is missing, unknown, of the wrong type or out of range.
    """
    from hpo.search.space_format import describe_distribution
    from hpo.suggestions import did_you_mean

    for name in params:
        if name not in space:
            known = ", ".join(space) or "no parameter"
            raise ConfigFileError(
                f"{source}: the objective has no parameter {name!r}{did_you_mean(name, space)};"
                f" its space has {known}"
            )
    for name, distribution in space.items():
        if name not in params:
            raise ConfigFileError(
                f"{source}: its 'params' lack {name!r} ({describe_distribution(distribution)})"
            )
        if not is_within(params[name], distribution):
            raise ConfigFileError(
                f"{source}: parameter {name!r} is {params[name]!r}, but must be {describe_distribution(distribution)}"
            )


def is_within(value: Any, distribution: BaseDistribution) -> bool:
    """Return whether a parameter may have this value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        # Python treats True as 1; an objective may not.
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool)
            for choice in distribution.choices
        )
    if isinstance(distribution, FloatDistribution | IntDistribution):
        kind = int if isinstance(distribution, IntDistribution) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        # Includes the steps of the distribution, if it has any.
        return bool(distribution.low <= value <= distribution.high and distribution._contains(value))
    return True
