"""The space of a study: distributions by name, each with the conditions under which its parameter is active."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from objectives.choices import (
    contains,
    find,
    identity,
    same_distribution,
    shown_choice,
    stored,
    stored_distribution,
    value_problem,
)
from objectives.conditions import Bounds, When, conditions, unwrapped
from objectives.parameters import shortened
from objectives.values import is_number

_WHEN = "when"
"""Key of a parameter's conditions, next to those of Optuna's JSON form of its distribution."""


class ConditionError(ValueError):
    """A condition that cannot be used; the message follows the parameter's name."""


@dataclass(frozen=True)
class Clause:
    """One condition of a parameter: its parent has one of the values, or lies within the bounds."""

    parent: str
    values: tuple[Any, ...] = ()
    """Values in their stored forms; empty: the bounds decide."""
    low: float | None = None
    high: float | None = None

    def holds(self, value: Any) -> bool:
        """Return whether a value of the parent fulfils the condition."""
        if self.values:
            return any(identity(value) == identity(one) for one in self.values)
        return is_number(value) and self._low <= value <= self._high

    @property
    def _low(self) -> float:
        return -math.inf if self.low is None else self.low

    @property
    def _high(self) -> float:
        return math.inf if self.high is None else self.high

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        if self.values:
            return {"parent": self.parent, "values": list(self.values)}
        return {"parent": self.parent, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Clause:
        """Invert `to_json`.

        Raises:
            ValueError: it is no condition.
        """
        low, high = values.get("low"), values.get("high")
        if not isinstance(values["parent"], str) or any(
            bound is not None and not is_number(bound) for bound in (low, high)
        ):
            raise ValueError("no condition of a parameter")
        return cls(values["parent"], tuple(map(stored, values.get("values", ()))), low, high)


class Space(dict[str, BaseDistribution]):
    """Distributions by the parameters' names, with the conditions of those that are not always active."""

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution] | Iterable[tuple[str, BaseDistribution]] = (),
        conditions: Mapping[str, Sequence[Clause]] | None = None,
    ) -> None:
        super().__init__(distributions)
        self.conditions = {name: tuple(clauses) for name, clauses in (conditions or {}).items() if clauses}

    def with_distributions(self, distributions: Mapping[str, BaseDistribution]) -> Space:
        """Return the space with other distributions of some of its parameters."""
        return Space({**self, **distributions}, self.conditions)


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
            found[name] = [_clause(name, condition, space) for condition in conditions(one)]
        except ConditionError as exc:
            raise ConditionError(f"space[{name!r}] {exc}") from None
    return _checked(Space(space, found))


def _clause(name: str, condition: When, space: Mapping[str, BaseDistribution]) -> Clause:
    parent, values = condition.parent, condition.values
    if parent not in space or parent == name:
        others = ", ".join(other for other in space if other != name) or "no other parameter"
        raise ConditionError(
            f"depends on {shortened(parent)}, which is no other parameter of the space: {others}"
        )
    if isinstance(values, Bounds):
        for bound in (values.low, values.high):
            if bound is not None and (value_problem(bound) is not None or not is_number(stored(bound))):
                raise ConditionError(f"depends on {parent} by the bound {shortened(bound)}: give a number")
        return Clause(
            parent, (), *(None if bound is None else stored(bound) for bound in (values.low, values.high))
        )
    return Clause(parent, tuple(_values(parent, values, space[parent])))


def _values(parent: str, values: Any, distribution: BaseDistribution) -> list[Any]:
    """Return the values of a parent in its distribution: the one that is given, or each of a list.

    Raises:
        ConditionError: one is none of its values, or a list may be meant in two ways.
    """
    whole = find(distribution, values)
    listed = list(values) if isinstance(values, list | tuple | set | frozenset | range) else None
    each = [find(distribution, value) for value in listed or []]
    if whole is not None:
        if each and all(each):
            raise ConditionError(
                f"depends on {parent} by {shortened(values)}, which is a choice and a list of choices: write"
                f" [{shortened(values)}] for the choice"
            )
        return [whole[0]]
    found = [one[0] for one in each if one is not None]
    if listed and len(found) == len(listed):
        # A set has no order.
        return _ordered(found, distribution)
    wrong = values if not listed else listed[next(place for place, one in enumerate(each) if one is None)]
    hint = "at_least(…) or at_most(…)" if callable(values) else "its values"
    raise ConditionError(f"depends on {parent} by {shortened(wrong)}, which {parent} never is: use {hint}")


def _ordered(values: list[Any], distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        wanted = {identity(value) for value in values}
        return [choice for choice in distribution.choices if identity(choice) in wanted]
    return sorted(set(values))


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
            holds = value_problem(value) is None and all(clause.holds(value[0]) for clause in clauses)
        else:
            holds = False if complete else _outlook(space[parent], clauses)
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


def _outlook(distribution: BaseDistribution, clauses: Sequence[Clause]) -> bool | None:
    """Return whether clauses hold for all values of a distribution; False: for none, None: for some."""
    listed = next((clause.values for clause in clauses if clause.values), None)
    if isinstance(distribution, CategoricalDistribution):
        held = [all(clause.holds(choice) for clause in clauses) for choice in distribution.choices]
        return None if len(set(held)) > 1 else held[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.single():
        return all(clause.holds(distribution.low) for clause in clauses)
    if listed is not None:
        inside = [value for value in listed if contains(distribution, value)]
        return None if any(all(clause.holds(value) for clause in clauses) for value in inside) else False
    low = max(clause._low for clause in clauses)
    high = min(clause._high for clause in clauses)
    if low <= distribution.low and distribution.high <= high:
        return True
    first = max(low, distribution.low)
    if distribution.step is not None:
        steps = math.ceil((first - distribution.low) / distribution.step - 1e-9)
        first = distribution.low + steps * distribution.step
    return None if first <= min(high, distribution.high) else False


def conditions_text(space: Mapping[str, BaseDistribution], name: str) -> str:
    """Return e.g. `optimizer is sgd and layers is at least 3`; empty for a parameter that is always active."""
    return " and ".join(_text(clause) for clause in conditions_of(space).get(name, ()))


def _text(clause: Clause) -> str:
    if clause.values:
        return f"{clause.parent} is {' or '.join(map(shown_choice, clause.values))}"
    if clause.low is None:
        return f"{clause.parent} is at most {clause.high:g}"
    return f"{clause.parent} is at least {clause.low:g}"


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
