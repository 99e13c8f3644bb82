"""The conditions of a space's parameters in their stored form, each on one parent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from objectives.spaces.choices import contains, find, identity, stored, value_problem
from objectives.spaces.conditions import Bounds, When
from objectives.spaces.parameters import shortened
from objectives.spaces.references import shown
from objectives.values import is_number


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

    def holds(self, value: Any, parent: BaseDistribution) -> bool:
        """Return whether a value of the parent fulfils the condition."""
        near = _tolerance(parent)
        if not self.values:
            return is_number(value) and self._low - near <= value <= self._high + near
        if near:
            return is_number(value) and any(abs(value - one) <= near for one in self.values)
        return any(identity(value) == identity(one) for one in self.values)

    @property
    def _low(self) -> float:
        return -math.inf if self.low is None else self.low

    @property
    def _high(self) -> float:
        return math.inf if self.high is None else self.high

    @property
    def text(self) -> str:
        """The condition for messages, such as `layers is at least 3`."""
        if self.values:
            return f"{self.parent} is {' or '.join(map(shown, self.values))}"
        if self.low is None:
            return f"{self.parent} is at most {self.high}"
        return f"{self.parent} is at least {self.low}"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        if self.values:
            return {"parent": self.parent, "values": list(self.values)}
        return {"parent": self.parent, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Clause:
        """Invert `to_json`.

        Raises:
            ValueError: it is not a condition.
        """
        low, high = values.get("low"), values.get("high")
        if not isinstance(values["parent"], str) or any(
            bound is not None and not is_number(bound) for bound in (low, high)
        ):
            raise ValueError("no condition of a parameter")
        return cls(values["parent"], tuple(map(stored, values.get("values", ()))), low, high)


def clause_of(name: str, condition: When, space: Mapping[str, BaseDistribution]) -> Clause:
    """Return the stored form of a condition of the parameter `name`.

    Raises:
        ConditionError: it cannot be used.
    """
    parent, values = condition.parent, condition.values
    if not isinstance(parent, str) or parent not in space or parent == name:
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


def outlook(distribution: BaseDistribution, clauses: Sequence[Clause]) -> bool | None:
    """Return whether clauses hold for all values of a distribution; False: for none, None: for some."""
    listed = next((clause.values for clause in clauses if clause.values), None)
    if isinstance(distribution, CategoricalDistribution):
        held = [
            all(clause.holds(choice, distribution) for clause in clauses) for choice in distribution.choices
        ]
        return None if len(set(held)) > 1 else held[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.single():
        return all(clause.holds(distribution.low, distribution) for clause in clauses)
    if listed is not None:
        inside = [value for value in listed if contains(distribution, value)]
        return (
            None
            if any(all(clause.holds(value, distribution) for clause in clauses) for value in inside)
            else False
        )
    low = max(clause._low for clause in clauses)
    high = min(clause._high for clause in clauses)
    if low <= distribution.low and distribution.high <= high:
        return True
    first = max(low, distribution.low)
    if distribution.step is not None:
        steps = math.ceil((first - distribution.low) / distribution.step - 1e-9)
        first = distribution.low + steps * distribution.step
    return None if first <= min(high, distribution.high) + _tolerance(distribution) else False


def _tolerance(distribution: BaseDistribution) -> float:
    """Return the distance up to which two values are the same: 3 * 0.1, which is sampled, is not 0.3."""
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        # Optuna takes values that are off by 1e-8 of a step.
        return 1e-7 * distribution.step
    return 0.0
