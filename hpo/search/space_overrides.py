"""`--param NAME=…`: narrows or fixes one parameter of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import InvalidParameterError, UnknownParameterError
from hpo.suggestions import did_you_mean

Numeric = FloatDistribution | IntDistribution

_LONGEST = 40
"""Characters of user input that a message repeats."""


def narrow_space(
    space: Mapping[str, BaseDistribution], overrides: Sequence[str]
) -> dict[str, BaseDistribution]:
    """Return the space with each override applied: `NAME=VALUE`, `NAME=A,B,…` or `NAME=LOW..HIGH`.

    Raises:
        UnknownParameterError: the space has no such parameter.
        InvalidParameterError: a value lies outside the space.
    """
    narrowed = dict(space)
    given: set[str] = set()
    for text in overrides:
        name, equals, value = (part.strip() for part in text.partition("="))
        override = _shortened(text)
        if not equals or not value:
            raise InvalidParameterError(
                f"--param {override}: write NAME=VALUE, NAME=A,B or NAME=LOW..HIGH, e.g. --param batch_size=64,128"
            )
        if name not in space:
            known = ", ".join(space)
            raise UnknownParameterError(
                f"--param {override}: unknown parameter {_shortened(name)!r}"
                f"{did_you_mean(_shortened(name), space)}; the space has {known}"
            )
        if name in given:
            raise InvalidParameterError(
                f"--param {override}: {name} is given twice; write NAME=A,B for several values"
            )
        given.add(name)
        narrowed[name] = _narrow(override, space[name], value)
    return narrowed


def _narrow(override: str, distribution: BaseDistribution, value: str) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        chosen = [_choice(override, distribution, part) for part in value.split(",")]
        return CategoricalDistribution(_distinct(override, chosen))
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise InvalidParameterError(f"--param {override}: {type(distribution).__name__} cannot be narrowed")
    if "," in value:
        numbers = [_number(override, distribution, part) for part in value.split(",")]
        return CategoricalDistribution(_distinct(override, numbers))
    low, dots, high = value.partition("..")
    ends = (_number(override, distribution, low), _number(override, distribution, high if dots else low))
    if ends[0] > ends[1]:
        raise InvalidParameterError(
            f"--param {override}: {_shortened(low)} is larger than {_shortened(high)}"
        )
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(ends[0]), int(ends[1]), log=distribution.log, step=distribution.step)
    return FloatDistribution(ends[0], ends[1], log=distribution.log, step=distribution.step)


def _choice(override: str, distribution: CategoricalDistribution, part: str) -> Any:
    wanted = part.strip()
    for choice in distribution.choices:
        if str(choice) == wanted:
            return choice
    choices = [str(choice) for choice in distribution.choices]
    raise InvalidParameterError(
        f"--param {override}: {_shortened(wanted)!r} is not one of {', '.join(choices)}"
        f"{did_you_mean(_shortened(wanted), choices)}"
    )


def _number(override: str, distribution: Numeric, part: str) -> float | int:
    integral = isinstance(distribution, IntDistribution)
    try:
        number = int(part) if integral else float(part)
    except ValueError:
        kind = "a whole number" if integral else "a number"
        raise InvalidParameterError(
            f"--param {override}: {_shortened(part.strip())!r} is not {kind}"
        ) from None
    # This form also refuses NaN, for which every comparison is false.
    if not distribution.low <= number <= distribution.high:
        raise InvalidParameterError(
            f"--param {override}: {_shortened(part.strip())} lies outside {distribution.low:g}..{distribution.high:g}"
        )
    if distribution.step is not None and not distribution._contains(number):
        raise InvalidParameterError(
            f"--param {override}: {_shortened(part.strip())} is not one of {distribution.low:g}, "
            f"{distribution.low + distribution.step:g}, … {distribution.high:g}"
        )
    return number


def _distinct(override: str, values: list[Any]) -> list[Any]:
    """Return the values, or raise if one is given twice."""
    for index, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:index]):
            raise InvalidParameterError(f"--param {override}: {_shortened(str(value))} is given twice")
    return values


def _shortened(text: str) -> str:
    """Shorten user input for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
