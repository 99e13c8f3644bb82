"""Validation of an objective's declarations before it is searched over."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping

from optuna.distributions import BaseDistribution

from objectives.base import Objective
from objectives.keras_objective import KerasObjective


def problem(objective: type[Objective]) -> str | None:
    """Return the declaration's first mistake as the end of a sentence; None if it is valid."""
    if inspect.isabstract(objective):
        missing = ", ".join(sorted(objective.__abstractmethods__))
        return f"does not define {missing}"
    if not isinstance(objective.metric, str) or not objective.metric:
        return "metric must be the name of a reported number"
    if objective.direction not in ("minimize", "maximize"):
        return f"direction must be 'minimize' or 'maximize', not {objective.direction!r}"
    if isinstance(objective.epochs, bool) or not isinstance(objective.epochs, int) or objective.epochs < 1:
        return f"epochs must be a whole number of at least 1, not {objective.epochs!r}"
    if issubclass(objective, KerasObjective) and not (
        isinstance(objective.dataset, str) or callable(objective.dataset)
    ):
        return "dataset must be a data set's name or a function that returns arrays"
    return _space_problem(objective.space) or _first_problem(objective)


def _space_problem(space: object) -> str | None:
    if not isinstance(space, Mapping) or not space:
        return "space must be a dict of at least one parameter name to an Optuna distribution"
    for name, distribution in space.items():
        if not isinstance(name, str) or not name:
            return f"space has {name!r} where the name of a parameter belongs"
        if not isinstance(distribution, BaseDistribution):
            return f"space[{name!r}] must be an Optuna distribution, not {distribution!r}"
    return None


def _first_problem(objective: type[Objective]) -> str | None:
    space = objective.space
    for index, params in enumerate(objective.first):
        where = f"first[{index}]"
        if not isinstance(params, Mapping):
            return f"{where} must be a dict of a value for each parameter, not {params!r}"
        missing, unknown = sorted(space.keys() - params.keys()), sorted(params.keys() - space.keys())
        if missing:
            return f"{where} has no value for {', '.join(missing)}"
        if unknown:
            return f"{where} names {', '.join(unknown)}, not in space"
        for name, value in params.items():
            if not _contains(space[name], value):
                return f"{where}[{name!r}] = {value!r} is not in {space[name]}"
    return None


def _contains(distribution: BaseDistribution, value: object) -> bool:
    """Return whether Optuna would accept `value`; its warning about unusual types is suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return distribution._contains(distribution.to_internal_repr(value))
        except (ValueError, TypeError):
            return False
