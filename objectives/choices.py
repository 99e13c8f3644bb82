"""Values of parameters: as an objective declares them, and as they are stored, sent and compared.

A study stores its space and its trials as JSON. Each value that an objective declares therefore has a stored form, from
which the declared value is found again before `Objective.train` gets it: a tuple is stored as a list, a NumPy number as
a Python number. A value without a stored form, such as a function or NaN, is refused when the objective is loaded.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

EXACT = 2**53
"""Largest whole number up to which all are exact in a double, in which Optuna stores the values of a range."""

# Optuna warns of choices that are lists or dicts whenever it reads one; stored forms are safe to read.
warnings.filterwarnings(
    "ignore", message="Choices for a categorical distribution should be", category=UserWarning
)

_LONGEST = 13_000
"""Most bits of a whole number: Python refuses to read or write a little more than 4,000 digits."""

ALLOWED = "None, True or False, a finite number, a string, or a list, tuple or dict of them"


def stored(value: Any) -> Any:
    """Return the stored form of a value: None, bool, int, float, str, list or dict.

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
    raise ValueError(f"an object of type {kind.__qualname__}")


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


def identity(value: Any) -> str:
    """Return a text that two values share only if they are stored the same: 1, 1.0 and True differ.

    Raises:
        ValueError: the value has no stored form.
    """
    return json.dumps(stored(value), sort_keys=True)


def value_problem(value: Any) -> str | None:
    """Return the reason why a value has no stored form; None if it has one."""
    try:
        stored(value)
    except ValueError as exc:
        return str(exc)
    except RecursionError:
        return "nested too deeply"
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
    plain = stored(value)
    if isinstance(distribution, CategoricalDistribution):
        return _find_choice(distribution, plain)
    if isinstance(distribution, IntDistribution):
        inside = type(plain) is int and distribution.low <= plain <= distribution.high
        return (plain,) if inside and distribution._contains(float(plain)) else None
    if isinstance(distribution, FloatDistribution):
        inside = type(plain) in (int, float) and distribution.low <= plain <= distribution.high
        return (float(plain),) if inside and distribution._contains(float(plain)) else None
    return None


def _find_choice(distribution: CategoricalDistribution, plain: Any) -> tuple[Any] | None:
    wanted = identity(plain)
    same = [choice for choice in distribution.choices if identity(choice) == wanted]
    if not same and type(plain) in (int, float):
        # A file may hold 1 for 1.0.
        same = [choice for choice in distribution.choices if type(choice) in (int, float) and choice == plain]
    return (same[0],) if same else None


def stored_space(space: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """Return the space with the stored forms of its choices and ends."""
    return {name: _stored_distribution(distribution) for name, distribution in space.items()}


def _stored_distribution(distribution: BaseDistribution) -> BaseDistribution:
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


def stored_params(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return a configuration inside the space in the form in which a trial of it is stored."""
    return {name: stored(_found(space.get(name), value)) for name, value in params.items()}


def declared(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return a stored configuration with the choices that an objective's space declares.

    A value that is no longer in the space stays as it is.
    """
    return {name: copy.deepcopy(_found(space.get(name), value)) for name, value in params.items()}


def _found(distribution: BaseDistribution | None, value: Any) -> Any:
    found = None if distribution is None else find(distribution, value)
    return value if found is None else found[0]


class _Choices(tuple[Any, ...]):
    """Choices of which some compare equal, such as 1 and True, found by their stored form."""

    __slots__ = ()

    def index(self, value: Any, *_: Any) -> int:
        wanted = identity(value)
        for place, choice in enumerate(self):
            if identity(choice) == wanted:
                return place
        raise ValueError(f"{value!r} is not among the choices")


def categorical(choices: list[Any]) -> CategoricalDistribution:
    """Return a distribution that tells choices apart by type, without Optuna's warning of lists and dicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distribution = CategoricalDistribution(choices)
    if any(one == other for place, one in enumerate(choices) for other in choices[:place]):
        distribution.choices = _Choices(distribution.choices)
    return distribution
