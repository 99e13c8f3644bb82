"""Arrays of numbers or strings, converted from those of objects, bytes or masked values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.conversion.masked import first_masked_row
from objectives.data.errors import ArrayInvalidError

MOST_TEXT_BYTES = 1 << 33
"""Bytes of text as fixed-width strings, each as wide as the longest."""


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Return an array; text in objects becomes fixed-width strings, numbers in objects a numeric array.

    Raises:
        ArrayInvalidError: it has masked values, or objects that are neither.
    """
    if (row := first_masked_row(values)) is not None:
        raise ArrayInvalidError(
            f"{name} has a masked value in row {row}: remove the row, or fill in the value"
        )
    array = np.asarray(values)
    if array.dtype.kind == "T":
        return _of_objects(array.astype(object), name)
    if array.dtype.kind == "S":
        return _decoded(array, name)
    if array.dtype.kind == "O":
        return _of_objects(array, name)
    return array


def _of_objects(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim == 0:
        raise ArrayInvalidError(f"{name} is one value of type {type(array.item()).__name__} and no array")
    kinds: tuple[type, ...] = (str, bytes)
    if len(array) and not isinstance(array.flat[0], kinds):
        kinds = (bool, int, float, np.number, np.bool_)
    for index, value in enumerate(array.flat):
        if not isinstance(value, kinds):
            row = index // max(1, array.size // len(array))
            raise ArrayInvalidError(
                f"{name} has {str(value)[:40]!a} of type {type(value).__name__} in row {row}: use numbers alone, or"
                " strings alone"
            )
    if kinds[0] is not str:
        return (
            array.astype(np.float64) if any(isinstance(v, float) for v in array.flat) else _whole(array, name)
        )
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in array.flat]
    longest = max(map(len, texts), default=1)
    if 4 * longest * len(texts) > MOST_TEXT_BYTES:
        raise ArrayInvalidError(
            f"{name} would take {4 * longest * len(texts) / 2**30:.0f} GiB, because its longest text has {longest:,}"
            " characters: shorten the texts"
        )
    return np.array(texts, "U").reshape(array.shape)


def _decoded(array: NDArray[Any], name: str) -> NDArray[Any]:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as exc:
        raise ArrayInvalidError(f"{name} has bytes that are not UTF-8 text") from exc


def _whole(array: NDArray[Any], name: str) -> NDArray[Any]:
    found = np.array(array.tolist())
    if found.dtype.kind == "O":
        raise ArrayInvalidError(f"{name} has a whole number of more than 64 bits: use floats")
    return found
