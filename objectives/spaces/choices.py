"""Values of parameters: as an objective declares them, and as they are stored, sent and compared.

A study stores its space and its trials as JSON. Each value that an objective declares therefore has a stored form, from
which the declared value is found again before `Objective.train` gets it: a tuple is stored as a list, a NumPy number as
a Python number, a class or function by its name. A value without a stored form, such as a lambda or NaN, is refused
when the objective is loaded.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from objectives.spaces import references
from objectives.spaces.conditions import When, unwrapped

EXACT = 2**53
"""Largest whole number up to which all are exact in a double, in which Optuna stores the values of a range."""

# Optuna warns of choices that are lists or dicts whenever it reads one; stored forms are safe to read.
warnings.filterwarnings(
    "ignore", message="Choices for a categorical distribution should be", category=UserWarning
)

_LONGEST = 13_000
"""Most bits of a whole number: Python refuses to read or write a little more than 4,000 digits."""

ALLOWED = (
    "None, True or False, a finite number, a string, a class, function or enum member of a module, or a list, tuple or"
    " dict of them"
)


def stored(value: Any) -> Any:
    """Return the stored form of a value: None, bool, int, float, str, list or dict; objects are dicts of their names.

    Raises:
        ValueError: it has none; the message is a noun phrase that describes it.
    """
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        # A scalar; `item` returns the nearest Python type, which may be one that has no stored form.
        value = value.item()
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if value.bit_length() > _LONGEST:
            raise ValueError("a whole number of more than 4000 digits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError("not a finite number")
        return value
    if kind is str:
        return _checked_text(value)
    if kind in (list, tuple):
        return [stored(item) for item in value]
    if kind is dict:
        return _stored_dict(value)
    return references.reference(value)


def _checked_text(value: str) -> str:
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("text with a character that cannot be stored (NUL or a lone surrogate)")
    return value


def _stored_dict(value: dict[Any, Any]) -> dict[str, Any]:
    found = {}
    for key, item in value.items():
        if type(key) not in (str, int):
            raise ValueError(f"a dict with a key of type {type(key).__qualname__}")
        found[_checked_text(str(key))] = stored(item)
    if len(found) < len(value):
        raise ValueError("a dict with a number and a string as keys that are written the same")
    return found


_encode = json.JSONEncoder(sort_keys=True).encode


def identity(value: Any) -> str:
    """Return a text that two values share only if they are stored the same: 1, 1.0 and True differ.

    Raises:
        ValueError: the value has no stored form.
    """
    return _encode(stored(value))


def value_problem(value: Any) -> str | None:
    """Return the reason why a value has no stored form; None if it has one."""
    try:
        stored(value)
    except ValueError as exc:
        return str(exc)
    except RecursionError:
        return "nested too deeply"
    # Classes of the user's own may raise anything.
    except Exception as exc:  # noqa: BLE001
        return f"an object that cannot be read ({type(exc).__name__})"
    return None


def number_problem(distribution: FloatDistribution | IntDistribution) -> str | None:
    """Return the reason why a range cannot be searched, to follow `space[…] `; None if it can."""
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        if max(abs(low), abs(high)) > EXACT:
            return f"must lie within ±2**53, beyond which whole numbers are rounded, not {low} to {high}"
    elif not math.isfinite(high - low):
        return f"must have finite ends less than {1.7e308:g} apart, not {low} to {high}"
    return None


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a value lies in a distribution, with its type: True is not 1, and '1' is not a number."""
    return find(distribution, value) is not None


def find(distribution: BaseDistribution, value: Any) -> tuple[Any] | None:
    """Return the value as the distribution has it, in a tuple because it may be None; None if it lies outside.

    A choice is found by its stored form; a number may be an int where floats are searched.
    """
    if value_problem(value) is not None:
        return None
    if isinstance(distribution, CategoricalDistribution):
        place = position(distribution, value)
        return None if place is None else (distribution.choices[place],)
    plain = stored(value)
    if isinstance(distribution, IntDistribution):
        inside = type(plain) is int and distribution.low <= plain <= distribution.high
        return (plain,) if inside and distribution._contains(float(plain)) else None
    if isinstance(distribution, FloatDistribution):
        inside = type(plain) in (int, float) and distribution.low <= plain <= distribution.high
        return (float(plain),) if inside and distribution._contains(float(plain)) else None
    return None


def position(distribution: CategoricalDistribution, value: Any) -> int | None:
    """Return the index of a value among the choices, None if it is none of them."""
    return _position(distribution.choices, value)


def _position(choices: Sequence[Any], value: Any) -> int | None:
    kind = type(value)
    if kind in (str, int, bool):
        # The same as below, only faster.
        for place, choice in enumerate(choices):
            if type(choice) is kind and choice == value:
                return place
    if value_problem(value) is not None:
        return None
    wanted = identity(value)
    for place, choice in enumerate(choices):
        if identity(choice) == wanted:
            return place
    # A file may hold 1 for 1.0.
    plain = stored(value)
    near = [place for place, choice in enumerate(choices) if _equal(stored(choice), plain)]
    return near[0] if len(near) == 1 else None


def _equal(one: Any, other: Any) -> bool:
    """Return whether two stored values are equal as numbers: 1 is 1.0, but not True."""
    numbers = {int, float}
    if type(one) is not type(other) and not {type(one), type(other)} <= numbers:
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(item, other[key]) for key, item in one.items())
    return bool(one == other)


def same_params(
    one: Mapping[str, Any], other: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> bool:
    """Return whether two configurations have the same values, as a space stores them."""
    return one.keys() == other.keys() and all(
        _same(value, other[name], space.get(name)) for name, value in one.items()
    )


def _same(one: Any, other: Any, distribution: BaseDistribution | None) -> bool:
    if value_problem(one) is not None or value_problem(other) is not None:
        return False
    return identity(_found(distribution, one)) == identity(_found(distribution, other))


def same_distribution(one: BaseDistribution | None, other: BaseDistribution | None) -> bool:
    """Return whether two distributions have the same values; that of an absent parameter is None."""
    if one is None or other is None:
        return one is other
    return _form(one) == _form(other)


def _form(distribution: BaseDistribution) -> str:
    return identity(json.loads(distribution_to_json(stored_distribution(distribution))))


def stored_distribution(distribution: BaseDistribution) -> BaseDistribution:
    """Return the distribution with the stored forms of its choices and ends."""
    if isinstance(distribution, CategoricalDistribution):
        return categorical([stored(choice) for choice in distribution.choices])
    if isinstance(distribution, IntDistribution):
        return IntDistribution(
            distribution.low, distribution.high, log=bool(distribution.log), step=distribution.step
        )
    if isinstance(distribution, FloatDistribution):
        return FloatDistribution(
            distribution.low, distribution.high, log=bool(distribution.log), step=distribution.step
        )
    return distribution


def stored_params(params: Mapping[str, Any], space: Mapping[str, BaseDistribution | When]) -> dict[str, Any]:
    """Return a configuration inside the space in the form in which a trial of it is stored."""
    return {name: stored(_found(space.get(name), value)) for name, value in params.items()}


def declared(params: Mapping[str, Any], space: Mapping[str, BaseDistribution | When]) -> dict[str, Any]:
    """Return a stored configuration with the choices that an objective's space declares.

    A value that is no longer in the space stays as it is.
    """
    return {name: copy.deepcopy(_found(space.get(name), value)) for name, value in params.items()}


def _found(declaration: BaseDistribution | When | None, value: Any) -> Any:
    distribution = unwrapped(declaration)
    found = None if distribution is None else find(distribution, value)
    return value if found is None else found[0]


class _Choices(tuple[Any, ...]):
    """Choices of which some compare equal, such as 1 and True, found by their stored forms."""

    __slots__ = ()

    def index(self, value: Any, *_: Any) -> int:
        place = _position(self, value)
        if place is None:
            raise ValueError(f"{value!r} is not among the choices")
        return place


def categorical(choices: list[Any]) -> CategoricalDistribution:
    """Return a distribution that distinguishes choices by type, without Optuna's warning of lists and dicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distribution = CategoricalDistribution(choices)
    if any(one == other for place, one in enumerate(choices) for other in choices[:place]):
        distribution.choices = _Choices(distribution.choices)
    return distribution
