"""The space of a study: distributions by name, each with the conditions under which its parameter is active."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)

from objectives.spaces.choices import (
    categorical,
    contains,
    find,
    identity,
    same_distribution,
    stored_distribution,
    value_problem,
)
from objectives.spaces.clauses import Clause, ConditionError, clause_of, outlook
from objectives.spaces.conditions import When, conditions, unwrapped

_WHEN = "when"
"""Key of a parameter's conditions, next to those of Optuna's JSON form of its distribution."""


class Space(dict[str, BaseDistribution]):
    """Distributions by the parameters' names, with the conditions of those that are not always active."""

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution] | Iterable[tuple[str, BaseDistribution]] = (),
        conditions: Mapping[str, Sequence[Clause]] | None = None,
    ) -> None:
        super().__init__(distributions)
        self.conditions = {name: tuple(clauses) for name, clauses in (conditions or {}).items() if clauses}


def conditions_of(space: Mapping[str, BaseDistribution]) -> Mapping[str, Sequence[Clause]]:
    """Return the conditions of the parameters that are not always active."""
    return space.conditions if isinstance(space, Space) else {}


def stored_space(declared: Mapping[str, BaseDistribution | When]) -> Space:
    """Return a declared space with the stored forms of its choices, ends and conditions.

    Raises:
        ConditionError: a condition cannot be used; the message names the parameter.
    """
    space = {name: stored_distribution(unwrapped(one)) for name, one in declared.items()}
    found: dict[str, list[Clause]] = {}
    for name, one in declared.items():
        try:
            found[name] = [clause_of(name, condition, space) for condition in conditions(one)]
        except ConditionError as exc:
            raise ConditionError(f"space[{name!r}] {exc}") from None
    return _checked(Space(space, found))


def space_of(configurations: Sequence[Mapping[str, Any]]) -> Space:
    """Return a space of the values that stored configurations have."""
    values: dict[str, dict[str, Any]] = {}
    for params in configurations:
        for name, value in params.items():
            values.setdefault(name, {}).setdefault(identity(value), value)
    return Space({name: categorical([*found.values()]) for name, found in values.items()})


def _checked(space: Space) -> Space:
    """Return a space whose parameters can all be active.

    Raises:
        ConditionError: parameters depend on one another, or a condition can never hold.
    """
    circle = _circle(space)
    if circle:
        raise ConditionError(
            f"space[{circle[0]!r}] depends on itself ({' on '.join(circle)}): remove a condition"
        )
    for name in space.conditions:
        if activity(space, name, {}) is False:
            raise ConditionError(
                f"space[{name!r}] is never active, because its conditions cannot hold together: change one of them"
            )
    return space


def _circle(space: Mapping[str, BaseDistribution]) -> list[str]:
    """Return the names of parameters that depend on one another in a circle, the first one twice; else nothing."""
    try:
        parents_first(space)
    except CycleError as exc:
        # Each name stands after one that depends on it.
        return list(reversed(exc.args[1]))
    return []


def parents_first(space: Mapping[str, BaseDistribution]) -> list[str]:
    """Return the names of the parameters, each after those on which it depends, else in their order.

    Raises:
        CycleError: they depend on one another.
    """
    conditional = conditions_of(space)
    parents = {name: [clause.parent for clause in conditional.get(name, ())] for name in space}
    return list(TopologicalSorter(parents).static_order())


def is_active(space: Mapping[str, BaseDistribution], name: str, params: Mapping[str, Any]) -> bool:
    """Return whether a parameter is active, given a configuration that has all parameters before it."""
    return activity(space, name, params, complete=True) is True


def activity(
    space: Mapping[str, BaseDistribution], name: str, params: Mapping[str, Any], *, complete: bool = False
) -> bool | None:
    """Return whether a parameter is active in a configuration; None where parents without a value decide.

    `complete`: parameters without a value are inactive.
    """
    certain = True
    for parent, clauses in _requirements(space, name).items():
        holds: bool | None
        if parent in params:
            value = find(space[parent], params[parent]) or (params[parent],)
            holds = value_problem(value) is None and all(
                clause.holds(value[0], space[parent]) for clause in clauses
            )
        else:
            holds = False if complete else outlook(space[parent], clauses)
        if holds is False:
            return False
        certain = certain and holds is True
    return True if certain else None


def _requirements(space: Mapping[str, BaseDistribution], name: str) -> dict[str, list[Clause]]:
    """Return all that has to hold where a parameter is active, by parent: its conditions, and those of its parents."""
    found: dict[str, list[Clause]] = {}
    waiting, seen = [name], {name}
    while waiting:
        for clause in conditions_of(space).get(waiting.pop(), ()):
            found.setdefault(clause.parent, []).append(clause)
            if clause.parent not in seen:
                seen.add(clause.parent)
                waiting.append(clause.parent)
    return found


def conditions_text(space: Mapping[str, BaseDistribution], name: str) -> str:
    """Return e.g. `optimizer is sgd and layers is at least 3`; empty for a parameter that is always active."""
    return " and ".join(clause.text for clause in conditions_of(space).get(name, ()))


def missing(space: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> list[str]:
    """Return the parameters that a configuration lacks."""
    return [name for name in space if name not in params and is_active(space, name, params)]


def lies_within(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> bool:
    """Return whether the parameters are a configuration of the space: values in it of all its active ones."""
    return all(
        name in space and contains(space[name], value) and is_active(space, name, params)
        for name, value in params.items()
    ) and not missing(space, params)


def in_space(space: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return the distributions of a configuration's parameters."""
    return {name: distribution for name, distribution in space.items() if name in params}


def same_space(one: Mapping[str, BaseDistribution], other: Mapping[str, BaseDistribution]) -> bool:
    """Return whether two spaces have the same parameters with the same values; Optuna takes 1 for True."""
    return one.keys() == other.keys() and all(same_parameter(name, one, other) for name in one)


def same_parameter(
    name: str, one: Mapping[str, BaseDistribution], other: Mapping[str, BaseDistribution]
) -> bool:
    """Return whether a parameter has the same values and conditions in two spaces, or is absent in both."""
    return same_distribution(one.get(name), other.get(name)) and _forms(one, name) == _forms(other, name)


def _forms(space: Mapping[str, BaseDistribution], name: str) -> Collection[str]:
    return {identity(clause.to_json()) for clause in conditions_of(space).get(name, ())}


def space_to_json(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return Optuna's JSON form of each distribution by name, with the conditions of its parameter."""
    found = {name: json.loads(distribution_to_json(dist)) for name, dist in space.items()}
    for name, clauses in conditions_of(space).items():
        found[name][_WHEN] = [clause.to_json() for clause in clauses]
    return found


def space_from_json(values: Mapping[str, Any]) -> Space:
    """Invert `space_to_json`.

    Raises:
        ValueError: conditions name no parameter, or one another.
    """
    with warnings.catch_warnings():
        # Optuna's, of choices that are lists or dicts.
        warnings.simplefilter("ignore")
        space = stored_space({name: json_to_distribution(json.dumps(dist)) for name, dist in values.items()})
    space.conditions = dict(_read_conditions(values, space))
    if circle := _circle(space):
        raise ConditionError(f"the parameter {circle[0]!r} depends on itself")
    return space


def _read_conditions(
    values: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> Iterator[tuple[str, tuple[Clause, ...]]]:
    for name, dist in values.items():
        clauses = tuple(Clause.from_json(one) for one in dist.get(_WHEN, ()))
        if any(clause.parent not in space for clause in clauses):
            raise ConditionError(f"the parameter {name!r} depends on one that is not in its space")
        if clauses:
            yield name, clauses
