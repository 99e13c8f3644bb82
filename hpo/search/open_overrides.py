"""`--param NAME=…` of an open space: kept as written, and applied whenever the objective asks for the parameter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution

from hpo.errors import InvalidParameterError
from hpo.search.space_overrides import malformed, narrow, one_configuration, parts, shortened
from hpo.suggestions import did_you_mean
from objectives.literals import literals, read_literal
from objectives.spaces.choices import identity, value_problem


def checked(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides, of which nothing but the form can be checked before the objective runs.

    Raises:
        InvalidParameterError: one has no name or no value, or a parameter is named twice.
    """
    given: set[str] = set()
    for text in overrides:
        name, equals, value = parts((), text)
        if not name or not equals or not value:
            raise malformed(shortened(text))
        if name in given:
            raise InvalidParameterError(
                f"--param {shortened(text)}: {name} is given twice; write NAME=A,B for several values"
            )
        given.add(name)
    return tuple(overrides)


def narrowed(name: str, distribution: BaseDistribution, overrides: Sequence[str]) -> BaseDistribution:
    """Return the distribution of a parameter as the overrides narrow it.

    Raises:
        InvalidParameterError: a value lies outside the distribution.
    """
    for text in overrides:
        named, _, value = parts((name,), text)
        if named == name:
            distribution = narrow(shortened(text), distribution, value)
    return distribution


def meaning(names: Collection[str], text: str) -> tuple[str, ...]:
    """Return the name and the values of an override, the same for all spellings of its literals.

    `names` are parameters whose names may hold `=`.
    """
    name, _, value = parts(names, text)
    if literals(value):
        return name, _spelt(value)
    return name, *(".." if part == ".." else _spelt(part) for part in re.split(r",|(\.\.)", value) if part)


def _spelt(text: str) -> str:
    value = read_literal(text.strip())
    return repr(value) if value_problem(value) is not None else identity(value)


def without_parameter(overrides: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a sentence for each override that names none of the parameters for which an objective has asked."""
    found = []
    for text in overrides:
        name = parts(names, text)[0]
        if name not in names:
            asked = ", ".join(names) or "no parameter"
            found.append(
                f"--param {shortened(text)} has no effect so far, because the objective has not asked for"
                f" {shortened(name)!r}, but for {asked}{did_you_mean(name, names)}"
            )
    return found


def open_configuration(
    observed: Mapping[str, BaseDistribution], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of parameters of an open space, and the names of those that no trial has had.

    A text after a new name is read as a literal of JSON or Python, else as a string.

    Raises:
        InvalidParameterError: a value lies outside all ranges and choices of its parameter so far, or cannot be stored.
    """
    new: dict[str, Any] = {}
    known = []
    for text in overrides:
        name, equals, value = parts(observed, text)
        if name in observed or not name or not equals or not value:
            known.append(text)
            continue
        if name in new:
            raise InvalidParameterError(f"--param {shortened(text)}: {name} is given twice: give it once")
        new[name] = read_literal(value)
        problem = value_problem([name, new[name]])
        if problem is not None:
            raise InvalidParameterError(f"--param {shortened(text)}: the value is {problem}: give another")
    return one_configuration(observed, known) | new, list(new)
