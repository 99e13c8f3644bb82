"""`--param NAME=…`: narrows or fixes one parameter of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import InvalidParameterError, UnknownParameterError
from hpo.suggestions import did_you_mean

Numeric = FloatDistribution | IntDistribution

_LONGEST = 40
"""Characters of a value that a message repeats."""


def narrow_space(space: Mapping[str, BaseDistribution], wishes: Sequence[str]) -> dict[str, BaseDistribution]:
    """The space with each wish applied: `NAME=VALUE`, `NAME=A,B,…` or `NAME=LOW..HIGH`.

    Raises:
        UnknownParameterError: the space has no parameter of that name.
        InvalidParameterError: a value is not one that the space holds.
    """
    narrowed = dict(space)
    given: set[str] = set()
    for typed in wishes:
        name, equals, value = (part.strip() for part in typed.partition("="))
        wish = _cut(typed)
        if not equals or not value:
            raise InvalidParameterError(
                f"--param {wish}: write NAME=VALUE, NAME=A,B or NAME=LOW..HIGH, as in --param batch_size=64,128"
            )
        if name not in space:
            known = ", ".join(space)
            raise UnknownParameterError(
                f"--param {wish}: there is no parameter {_cut(name)!r}"
                f"{did_you_mean(_cut(name), space)}; the space has {known}"
            )
        if name in given:
            raise InvalidParameterError(
                f"--param {wish}: {name} is given twice; write NAME=A,B for several values"
            )
        given.add(name)
        narrowed[name] = _narrow(wish, space[name], value)
    return narrowed


def _narrow(wish: str, distribution: BaseDistribution, value: str) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        chosen = [_choice(wish, distribution, part) for part in value.split(",")]
        return CategoricalDistribution(_distinct(wish, chosen))
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise InvalidParameterError(f"--param {wish}: {type(distribution).__name__} cannot be narrowed")
    if "," in value:
        numbers = [_number(wish, distribution, part) for part in value.split(",")]
        return CategoricalDistribution(_distinct(wish, numbers))
    low, dots, high = value.partition("..")
    ends = (_number(wish, distribution, low), _number(wish, distribution, high if dots else low))
    if ends[0] > ends[1]:
        raise InvalidParameterError(f"--param {wish}: {_cut(low)} is larger than {_cut(high)}")
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(ends[0]), int(ends[1]), log=distribution.log, step=distribution.step)
    return FloatDistribution(ends[0], ends[1], log=distribution.log, step=distribution.step)


def _choice(wish: str, distribution: CategoricalDistribution, part: str) -> Any:
    wanted = part.strip()
    for choice in distribution.choices:
        if str(choice) == wanted:
            return choice
    choices = [str(choice) for choice in distribution.choices]
    raise InvalidParameterError(
        f"--param {wish}: {_cut(wanted)!r} is not one of {', '.join(choices)}"
        f"{did_you_mean(_cut(wanted), choices)}"
    )


def _number(wish: str, distribution: Numeric, part: str) -> float | int:
    integral = isinstance(distribution, IntDistribution)
    try:
        number = int(part) if integral else float(part)
    except ValueError:
        kind = "a whole number" if integral else "a number"
        raise InvalidParameterError(f"--param {wish}: {_cut(part.strip())!r} is not {kind}") from None
    # Written so that NaN, which compares with nothing, is refused too.
    if not distribution.low <= number <= distribution.high:
        raise InvalidParameterError(
            f"--param {wish}: {_cut(part.strip())} lies outside {distribution.low:g}..{distribution.high:g}"
        )
    if distribution.step is not None and not distribution._contains(number):
        raise InvalidParameterError(
            f"--param {wish}: {_cut(part.strip())} is none of {distribution.low:g}, "
            f"{distribution.low + distribution.step:g}, … {distribution.high:g}"
        )
    return number


def _distinct(wish: str, values: list[Any]) -> list[Any]:
    """The values themselves, refused where one is given twice."""
    for index, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:index]):
            raise InvalidParameterError(f"--param {wish}: {_cut(str(value))} is given twice")
    return values


def _cut(text: str) -> str:
    """What was typed, short enough for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
