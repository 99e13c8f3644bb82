"""States that a run saves: values that a checkpoint keeps as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from objectives import names, values
from objectives.base import State

_PLAIN = (type(None), bool, int, float, str)
_DEEPEST = 100
"""Deepest level of lists and dicts in a state: JSON is written and read recursively."""
_LONGEST = 13_000
"""Most bits of a whole number: Python refuses to read or write a little more than 4,000 digits."""


def copy_state(state: State) -> dict[str, Any]:
    """Return a copy of a state, which the objective may change from now on.

    Raises:
        ValueRefusedError: a value cannot be kept as it is.
    """
    given: dict[Any, Any] = values.guarded(
        "the state in run.save()", state, "give a dict with names of strings", lambda: dict(state)
    )
    return {_checked_name(name, "a name"): _copy(value, name) for name, value in given.items()}


def _checked_name(name: object, place: str) -> str:
    if type(name) is not str:
        raise values.ValueRefusedError(
            f"run.save() was given {place} that is {values.shown(name)}: names are strings"
        )
    return name


def _copy(value: Any, name: str, depth: int = 0) -> Any:
    kind = type(value)
    if issubclass(kind, np.generic) and _is_kept(value.dtype):
        return value
    if kind in (np.ndarray, np.memmap) and _is_kept(value.dtype):
        return np.array(value)
    if kind is int and value.bit_length() > _LONGEST:
        raise values.ValueRefusedError(
            f"run.save() was given {_short(name)} with a whole number of more than 4000 digits: save it as a string"
        )
    if kind in _PLAIN:
        return value
    if depth > _DEEPEST:
        raise values.ValueRefusedError(
            f"run.save() was given {_short(name)}, which is nested more than {_DEEPEST} levels deep or holds itself:"
            " save it as flat lists or arrays"
        )
    if kind in (list, tuple):
        return kind(_copy(item, name, depth + 1) for item in value)
    if kind is dict:
        place = f"{_short(name)} with a key"
        return {_checked_name(key, place): _copy(item, name, depth + 1) for key, item in value.items()}
    raise _refusal(value, name)


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether a type is bfloat16 or another of the package ml_dtypes: a file of NumPy keeps the bytes alone."""
    return dtype.type.__module__ == "ml_dtypes"


def _is_kept(dtype: np.dtype[Any]) -> bool:
    """Whether a checkpoint keeps values of this type as they are."""
    if dtype.kind != "V" or dtype.hasobject:
        return not dtype.hasobject
    # Fields, for which NumPy keeps the types that it knows.
    return is_extension(dtype) or np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype


def _refusal(value: object, name: str) -> values.ValueRefusedError:
    return values.ValueRefusedError(
        f"run.save() was given {_short(name)} with a value {values.shown(value)}: save NumPy arrays,"
        " numbers and strings, or lists, tuples and dicts of these"
    )


def _short(name: str) -> str:
    return ascii(values.shortened(name, names.MOST_NAME))
