"""`--param NAME=…`: narrows or fixes one parameter of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import InvalidParameterError, UnknownParameterError
from hpo.names import did_you_mean

Numeric = FloatDistribution | IntDistribution


def narrow_space(space: Mapping[str, BaseDistribution], wishes: Sequence[str]) -> dict[str, BaseDistribution]:
    """The space with each wish applied: `NAME=VALUE`, `NAME=A,B,…` or `NAME=LOW..HIGH`.

    Raises:
        UnknownParameterError: the space has no parameter of that name.
        InvalidParameterError: a value is not one that the space holds.
    """
    narrowed = dict(space)
    for wish in wishes:
        name, equals, value = (part.strip() for part in wish.partition("="))
        if not equals or not value:
            raise InvalidParameterError(
                f"--param {wish}: write NAME=VALUE, NAME=A,B or NAME=LOW..HIGH, as in --param batch_size=64,128"
            )
        if name not in space:
            known = ", ".join(space)
            raise UnknownParameterError(
                f"--param {wish}: there is no parameter {name!r}{did_you_mean(name, space)}; the space has {known}"
            )
        narrowed[name] = _narrow(wish, space[name], value)
    return narrowed


def _narrow(wish: str, distribution: BaseDistribution, value: str) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution([_choice(wish, distribution, part) for part in value.split(",")])
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise InvalidParameterError(f"--param {wish}: {type(distribution).__name__} cannot be narrowed")
    if "," in value:
        return CategoricalDistribution([_number(wish, distribution, part) for part in value.split(",")])
    low, dots, high = value.partition("..")
    ends = (_number(wish, distribution, low), _number(wish, distribution, high if dots else low))
    if ends[0] > ends[1]:
        raise InvalidParameterError(f"--param {wish}: {low} is larger than {high}")
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
        f"--param {wish}: {wanted!r} is not one of {', '.join(choices)}{did_you_mean(wanted, choices)}"
    )


def _number(wish: str, distribution: Numeric, part: str) -> float | int:
    integral = isinstance(distribution, IntDistribution)
    try:
        number = int(part) if integral else float(part)
    except ValueError:
        kind = "a whole number" if integral else "a number"
        raise InvalidParameterError(f"--param {wish}: {part.strip()!r} is not {kind}") from None
    # Written so that NaN, which compares with nothing, is refused too.
    if not distribution.low <= number <= distribution.high:
        raise InvalidParameterError(
            f"--param {wish}: {part.strip()} lies outside {distribution.low:g}..{distribution.high:g}"
        )
    return number
