"""Tensors, data frames, series and lists as one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHANNELS = (1, 3, 4)
"""Numbers of channels of images."""
_IMAGE_DIMENSIONS = 4
_SCALARS = (str, bytes, bool, int, float, np.generic)


class UnreadableError(Exception):
    """Data in a form that cannot be read; the message ends a sentence."""


def is_array(value: object) -> bool:
    """Return whether `array_of` takes a value."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], _SCALARS)
    return not isinstance(value, Mapping) and hasattr(value, "shape") and hasattr(value, "__array__")


def array_of(value: Any) -> Array:
    """Return rows as one array of numbers or of fixed-width strings.

    Raises:
        UnreadableError: they are neither.
    """
    library = library_of(value)
    if library == "torch":
        return channels_last(value.detach().cpu().numpy())
    if library in ("pandas", "polars"):
        value = _of_frame(value)
    masked = np.ma.getmaskarray(value).ravel() if np.ma.is_masked(value) else None
    if masked is not None:
        row = int(masked.argmax()) // max(1, masked.size // len(value))
        raise UnreadableError(f"has a masked value in row {row}: remove the row, or fill in the value")
    array = np.asarray(value)
    if array.ndim == 0:
        raise UnreadableError("is a single value, not one for each row")
    return _without_objects(array) if array.dtype.hasobject else array


def channels_last(images: Array) -> Array:
    """Return images (n, height, width, channels); PyTorch has the channels first."""
    first = images.ndim == _IMAGE_DIMENSIONS and images.shape[1] in _CHANNELS
    return np.moveaxis(images, 1, -1) if first and images.shape[-1] not in _CHANNELS else images


def library_of(value: object) -> str:
    """Return the name of the package that a value's class comes from."""
    return type(value).__module__.partition(".")[0]


def _of_frame(frame: Any) -> Any:
    names = getattr(frame, "columns", None)
    array = frame.to_numpy()
    if names is not None and array.dtype.hasobject:
        texts = [str(name) for name in names if np.asarray(frame[name].to_numpy()).dtype.hasobject]
        raise UnreadableError(
            f"is a table with columns that are no numbers ({', '.join(texts[:5])}): encode them as numbers, or leave"
            " them out"
        )
    return array


def _without_objects(array: Array) -> Array:
    """Return objects as an array of strings or numbers."""
    kinds = {type(item) for item in array.flat}
    if kinds <= {str, np.str_} or kinds <= {bytes, np.bytes_}:
        return array.astype("U" if kinds <= {str, np.str_} else "S")
    if all(issubclass(kind, bool | int | float | np.number | np.bool_) for kind in kinds):
        return np.array(array.tolist())
    shapes = {np.shape(item) for item in array.flat if isinstance(item, np.ndarray)}
    if len(shapes) > 1:
        raise UnreadableError(f"holds arrays of several shapes ({', '.join(map(str, sorted(shapes)[:3]))})")
    names = ", ".join(sorted(kind.__name__ for kind in kinds)[:5])
    raise UnreadableError(f"holds Python objects ({names}), not numbers or strings alone")
