"""`--param NAME=…`: narrows or fixes one parameter of a search space."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import InvalidParameterError, UnknownParameterError
from hpo.search import choice_text
from hpo.search.space import params_problem
from hpo.suggestions import did_you_mean
from objectives.spaces.choices import categorical, identity, position
from objectives.spaces.space import Space, activity, conditions_of, conditions_text
from objectives.values import is_number

Numeric = FloatDistribution | IntDistribution

_LONGEST = 40
"""Characters of user input that a message repeats."""


@dataclass(frozen=True)
class Narrowing:
    """The overrides as a function of a space, which is equal to another one with the same overrides."""

    overrides: tuple[str, ...]

    def __call__(self, space: Mapping[str, BaseDistribution]) -> Space:
        """Return the narrowed space; raises as `narrow_space`."""
        return narrow_space(space, self.overrides)


def narrow_space(space: Mapping[str, BaseDistribution], overrides: Sequence[str]) -> Space:
    """Return the space with each override applied: `NAME=VALUE`, `NAME=A,B,…` or `NAME=LOW..HIGH`.

    Raises:
        UnknownParameterError: the space has no such parameter.
        InvalidParameterError: a value lies outside the space.
    """
    narrowed = Space(space, conditions_of(space))
    given: dict[str, str] = {}
    for text in overrides:
        name, equals, value = parts(space, text)
        override = shortened(text)
        if not equals or not value:
            raise malformed(override)
        if name not in space:
            known = ", ".join(space)
            raise UnknownParameterError(
                f"--param {override}: unknown parameter {shortened(name)!r}"
                f"{did_you_mean(shortened(name), space)}; the space has {known}"
            )
        if name in given:
            raise InvalidParameterError(
                f"--param {override}: {name} is given twice; write NAME=A,B for several values"
            )
        given[name] = override
        narrowed[name] = narrow(override, space[name], value)
    for name, override in given.items():
        if activity(narrowed, name, {}) is False:
            raise InvalidParameterError(
                f"--param {override}: {name} is active only if {conditions_text(space, name)}, which the other --param"
                " rule out: leave one of them out"
            )
    return narrowed


def malformed(override: str) -> InvalidParameterError:
    """Return the error of a `--param` without a name or a value."""
    return InvalidParameterError(
        f"--param {override}: write NAME=VALUE, NAME=A,B or NAME=LOW..HIGH, e.g. --param batch_size=64,128"
    )


def one_configuration(space: Mapping[str, BaseDistribution], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the value that each override gives to its parameter; the others are left out.

    Raises:
        UnknownParameterError: the space has no such parameter.
        InvalidParameterError: a value lies outside the space, or there are several for one parameter.
    """
    found = {}
    for text in overrides:
        narrowed = narrow_space(space, [text])
        name = parts(space, text)[0]
        if name in found:
            raise InvalidParameterError(f"--param {shortened(text)}: {name} is given twice: give it once")
        values = _values(narrowed[name])
        if len(values) > 1:
            raise InvalidParameterError(
                f"--param {shortened(text)}: a trial has one value of {name}: give one, and enqueue another trial"
                " for each other value"
            )
        found[name] = values[0]
    problem = params_problem(found, space, partial=True)
    if problem is not None:
        raise InvalidParameterError(f"--param: {problem}")
    return found


def _values(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the choices, or the ends of a range, equal ones once."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return tuple(dict.fromkeys((distribution.low, distribution.high)))


def parts(names: Collection[str], text: str) -> tuple[str, str, str]:
    """Return name, `=` and value; names may hold `=` themselves."""
    places = [place for place, character in enumerate(text) if character == "="]
    known = [place for place in places if text[:place].strip() in names]
    place = (known or places or [len(text)])[-1 if known else 0]
    return text[:place].strip(), text[place : place + 1], text[place + 1 :].strip()


def override_text(name: str, original: BaseDistribution | None, distribution: BaseDistribution) -> str:
    """Return the `NAME=…` that narrows an original distribution to another one."""
    if isinstance(distribution, CategoricalDistribution):
        texts = [repr(choice) for choice in distribution.choices]
        if isinstance(original, CategoricalDistribution):
            every = choice_text.written(original)
            found = [position(original, choice) for choice in distribution.choices]
            texts = [every[place] for place in found if place is not None]
            if choice_text.read_several(original, ",".join(texts)) != [tuple(found)]:
                texts = [json.dumps(choice, ensure_ascii=False) for choice in distribution.choices]
        return f"{name}={','.join(texts)}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    return f"{name}={low}" if low == high else f"{name}={low}..{high}"


def narrow(override: str, distribution: BaseDistribution, value: str) -> BaseDistribution:
    """Return the part of a distribution that a value of `--param` names; `override` is the whole text for messages.

    Raises:
        InvalidParameterError: it names none.
    """
    if isinstance(distribution, CategoricalDistribution):
        return categorical(_distinct(override, _choices(override, distribution, value)))
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise InvalidParameterError(f"--param {override}: {type(distribution).__name__} cannot be narrowed")
    if "," in value:
        numbers = [_number(override, distribution, part) for part in value.split(",")]
        return categorical(_distinct(override, numbers))
    low, dots, high = value.partition("..")
    ends = (_number(override, distribution, low), _number(override, distribution, high if dots else low))
    if ends[0] > ends[1]:
        raise InvalidParameterError(f"--param {override}: {shortened(low)} is larger than {shortened(high)}")
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(ends[0]), int(ends[1]), log=distribution.log, step=distribution.step)
    return FloatDistribution(ends[0], ends[1], log=distribution.log, step=distribution.step)


def _choices(override: str, distribution: CategoricalDistribution, value: str) -> list[Any]:
    ways = choice_text.read_several(distribution, value)
    if len(ways) == 1:
        return [distribution.choices[place] for place in ways[0]]
    if ways:
        quoted = [
            ",".join(json.dumps(distribution.choices[place], ensure_ascii=False) for place in way)
            for way in ways
        ]
        raise InvalidParameterError(
            f"--param {override}: {shortened(value)!r} can be read in two ways: write {' or '.join(quoted)}, with the"
            " quotes"
        )
    within = _within(distribution, value)
    if within:
        return within
    texts = choice_text.written(distribution)
    part = choice_text.unread(distribution, value)
    raise InvalidParameterError(
        f"--param {override}: {shortened(part)!r} is not one of {', '.join(texts)}"
        f"{did_you_mean(shortened(part), texts)}"
    )


def _within(distribution: CategoricalDistribution, value: str) -> list[Any]:
    """Return the choices between two numbers, `LOW..HIGH`, where all choices are numbers."""
    try:
        low, high = map(float, value.split(".."))
    except ValueError:
        return []
    if not all(is_number(choice) for choice in distribution.choices):
        return []
    return [choice for choice in distribution.choices if low <= choice <= high]  # type: ignore[operator]


def _number(override: str, distribution: Numeric, part: str) -> float | int:
    integral = isinstance(distribution, IntDistribution)
    try:
        number = _whole(part) if integral else float(part)
    except (ValueError, OverflowError):
        kind = "a whole number" if integral else "a number"
        raise InvalidParameterError(
            f"--param {override}: {shortened(part.strip())!r} is not {kind}"
        ) from None
    # This form also refuses NaN, for which every comparison is false.
    if not distribution.low <= number <= distribution.high:
        raise InvalidParameterError(
            f"--param {override}: {shortened(part.strip())} lies outside {distribution.low:g}..{distribution.high:g}"
        )
    if distribution.step is not None and not distribution._contains(number):
        raise InvalidParameterError(
            f"--param {override}: {shortened(part.strip())} is not one of {distribution.low:g}, "
            f"{distribution.low + distribution.step:g}, … {distribution.high:g}"
        )
    return number


def _whole(text: str) -> int:
    """Return a whole number, which may be written as 1e3 or 64.0.

    Raises:
        ValueError, OverflowError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if number != int(number):
            raise
        return int(number)


def _distinct(override: str, values: list[Any]) -> list[Any]:
    """Return the values, or raise if one is given twice."""
    for index, value in enumerate(values):
        if any(identity(value) == identity(other) for other in values[:index]):
            raise InvalidParameterError(f"--param {override}: {shortened(str(value))} is given twice")
    return values


def shortened(text: str) -> str:
    """Shorten user input for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
