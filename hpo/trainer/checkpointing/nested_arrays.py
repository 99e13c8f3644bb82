"""Arrays in lists, tuples and dicts of a state: JSON holds their places, and a `.npz` the arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

_ARRAY, _TUPLE, _DICT = "__array__", "__tuple__", "__dict__"
_MARKS = {_ARRAY, _TUPLE, _DICT}


def packed(value: Any, arrays: list[Any]) -> Any:
    """Return a value as JSON can hold it; its arrays and NumPy scalars are appended to `arrays`."""
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, tuple):
        return {_TUPLE: [packed(item, arrays) for item in value]}
    if isinstance(value, list):
        return [packed(item, arrays) for item in value]
    if isinstance(value, dict):
        items = {key: packed(item, arrays) for key, item in value.items()}
        # A dict of the objective's own may have a mark as its only key.
        return {_DICT: items} if items.keys() & _MARKS else items
    return value


def unpacked(value: Any, arrays: list[Any]) -> Any:
    """Return the value that `packed` was given."""
    if isinstance(value, list):
        return [unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ARRAY}:
        return arrays[value[_ARRAY]]
    if value.keys() == {_TUPLE}:
        return tuple(unpacked(item, arrays) for item in value[_TUPLE])
    if value.keys() == {_DICT}:
        return {key: unpacked(item, arrays) for key, item in value[_DICT].items()}
    return {key: unpacked(item, arrays) for key, item in value.items()}
