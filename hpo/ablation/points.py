"""The points of an experiment: the base, each parameter varied alone, and pairs that interact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.ablation.values import values_around
from hpo.errors import UnknownParameterError, UsageError
from hpo.search.space import from_unit
from hpo.search.starting.design import PlannedPoint, Settings
from hpo.suggestions import did_you_mean
from objectives.base import Params
from objectives.runs.switches import OFF
from objectives.spaces.choices import identity
from objectives.spaces.space import is_active, parents_first

DEFAULT_PAIRS = (("optimizer", "learning_rate"), ("batch_size", "learning_rate"))
"""Pairs of parameters of which the best value of one is known to depend on the other."""


def points_of(
    space: Mapping[str, BaseDistribution],
    base: Params,
    settings: Settings,
    recipe: Mapping[str, str],
    default: Params | None = None,
) -> list[PlannedPoint]:
    """Return the points of an experiment around `base`, which comes first; each configuration once.

    A value that makes other parameters active gives them those of `default`, or the middle of their range.

    Raises:
        UnknownParameterError: a setting names a parameter that the base does not have.
        UsageError: no parameter varies.
    """
    varied = _varied(space, base, settings)
    found = {identity(base): PlannedPoint(params=dict(base))}

    def add(changes: Mapping[str, Any]) -> None:
        params = completed(space, {**base, **changes}, default or {})
        changed = tuple(name for name in changes if _differs(params, base, name))
        found.setdefault(identity(params), PlannedPoint(params=params, changed=changed))

    values = {name: values_around(space[name], base[name], settings.values) for name in varied}
    for name in settings.parameters or varied:
        for value in values.get(name, ()):
            add({name: value})
    for one, other in pairs_of(settings, values):
        for first, second in product(values[one], values[other]):
            add({one: first, other: second})
    for switch in recipe if settings.recipe else ():
        params = {**base, switch: OFF}
        found.setdefault(identity(params), PlannedPoint(params=params, changed=(switch,)))
    if len(found) == 1:
        raise UsageError(
            "no parameter of the experiment has a second value: widen the space, or name others with --parameter"
        )
    return list(found.values())


def pairs_of(settings: Settings, varied: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the pairs that vary together, of parameters that vary: the given or the default ones."""
    pairs = DEFAULT_PAIRS if settings.pairs is None else settings.pairs
    return [pair for pair in pairs if set(pair) <= set(varied)]


def _varied(space: Mapping[str, BaseDistribution], base: Params, settings: Settings) -> list[str]:
    """Return the parameters that vary, alone or in pairs."""
    asked = dict.fromkeys((*settings.parameters, *(name for pair in settings.pairs or () for name in pair)))
    for name in asked:
        if name not in space:
            raise UnknownParameterError(
                f"unknown parameter {name!r}{did_you_mean(name, space)}; the space has {', '.join(space)}: name one of"
                " these"
            )
        if name not in base:
            raise UnknownParameterError(
                f"the configuration of the experiment has no parameter {name!r}, which is active for other values:"
                " leave it out, or give a --trial that has it"
            )
    names = [name for name in space if name in base and not space[name].single()]
    if not settings.parameters:
        return names
    # The default pairs, too, need both of their parameters.
    return [name for name in names if name in asked]


def completed(space: Mapping[str, BaseDistribution], params: Params, default: Params) -> Params:
    """Return the configuration with a value for each active parameter, and without inactive ones."""
    found: Params = {}
    for name in parents_first(space):
        if is_active(space, name, found):
            found[name] = params.get(name, default.get(name, _middle(space[name])))
    return {name: found[name] for name in space if name in found}


def _middle(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return from_unit(0.5, distribution)


def _differs(params: Params, base: Params, name: str) -> bool:
    return name in params and (name not in base or identity(params[name]) != identity(base[name]))
