"""Tensors, data frames, series and lists as one array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.conversion.masked import first_masked_row

Array = NDArray[Any]

_CHANNELS = (1, 3, 4)
"""Numbers of channels of images."""
_IMAGE_DIMENSIONS = 4
_SCALARS = (str, bytes, bool, int, float, Decimal, np.generic, type(None))
_NUMBERS = (bool, int, float, Decimal, np.number, np.bool_)
_DEEP = ("I", "F")
"""Beginnings of Pillow's modes of more than 8 bits."""
_MOST_SPLITS = 3
"""Longest list that may be splits, and not rows."""
_NO_NUMPY = ("torch.bfloat16", "torch.float8")
"""Beginnings of the types of PyTorch that NumPy lacks."""
_MISSING = ("NoneType", "NAType", "NaTType")
"""Types of values that are missing; also numbers that are not equal to themselves."""


class UnreadableError(Exception):
    """Data in a form that cannot be read; the message ends a sentence."""


def is_array(value: object) -> bool:
    """Return whether `array_of` takes a value."""
    if _is_column(value):
        return True
    if isinstance(value, list | tuple):
        if not value:
            return False
        rows = isinstance(value, list) and (_is_row(value[0]) or library_of(value[0]) == "PIL")
        scalars = isinstance(value[0], _SCALARS)
        return (len(value) > _MOST_SPLITS and (rows or scalars)) or (isinstance(value, list) and scalars)
    return not isinstance(value, Mapping) and _is_row(value)


def _is_column(value: object) -> bool:
    """Return whether a value is a column of a data set of Hugging Face."""
    return library_of(value) == "datasets" and type(value).__name__ == "Column"


def _is_row(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], (*_SCALARS, list))
    return hasattr(value, "shape") and (hasattr(value, "__array__") or hasattr(value, "toarray"))


def array_of(value: Any) -> Array:
    """Return rows as one array of numbers or of fixed-width strings.

    Raises:
        UnreadableError: they are neither.
    """
    library = library_of(value)
    if isinstance(value, Mapping):
        raise UnreadableError(
            "has a dict in place of an array: return inputs by name, and targets as one array"
        )
    if isinstance(value, list | tuple) or _is_column(value):
        return rows_of(list(value))
    if library == "torch":
        return channels_last(_of_tensor(value))
    if hasattr(value, "toarray"):
        raise UnreadableError("is sparse: return it as .toarray() if it fits into memory")
    if library in ("pandas", "polars"):
        value = _of_frame(value)
    if (row := first_masked_row(value)) is not None:
        raise UnreadableError(f"has a masked value in row {row}: remove the row, or fill in the value")
    return _converted(np.asarray(value))


def _converted(array: Array) -> Array:
    if array.ndim == 0:
        raise UnreadableError("is a single value, not one for each row")
    # Of TensorFlow and JAX.
    if array.dtype.type.__module__ == "ml_dtypes" and "float" in array.dtype.name:
        found: Array = array.astype(np.float32)
        return found
    return _without_objects(array) if array.dtype.hasobject else array


def rows_of(values: Any) -> Array:
    """Return the values of some rows as an array; images of Pillow and tensors are converted.

    Raises:
        UnreadableError: as `array_of`, or the rows have several shapes.
    """
    if isinstance(values, tuple | list) and values:
        if library_of(values[0]) == "PIL":
            return _pictures(values)
        if library_of(values[0]) == "torch":
            values = [_of_tensor(item) for item in values]
            _check_shapes(values)
            return channels_last(np.stack(values))
        if not isinstance(values[0], _SCALARS):
            _check_shapes(values)
        found = np.asarray(values)
        if found.dtype.kind in "US" and isinstance(values[0], (*_SCALARS, list)):
            # NumPy has made a text of each number next to a text.
            found = np.asarray(values, object)
        return _converted(found)
    return array_of(values)


def channels_last(images: Array) -> Array:
    """Return images (n, height, width, channels); PyTorch has the channels first."""
    first = images.ndim == _IMAGE_DIMENSIONS and images.shape[1] in _CHANNELS
    return np.moveaxis(images, 1, -1) if first and images.shape[-1] not in _CHANNELS else images


def library_of(value: object) -> str:
    """Return the name of the package that a value's class comes from."""
    return type(value).__module__.partition(".")[0]


def _of_tensor(tensor: Any) -> Array:
    if getattr(tensor, "layout", None) is not None and "strided" not in str(tensor.layout):
        raise UnreadableError("is sparse: return it as .to_dense() if it fits into memory")
    narrow = str(getattr(tensor, "dtype", "")).startswith(_NO_NUMPY)
    found: Array = (tensor.float() if narrow else tensor).detach().cpu().numpy()
    return found


def _of_frame(frame: Any) -> Any:
    """Return a series, or a table of numbers alone or of texts alone."""
    if getattr(frame, "columns", None) is None:
        return frame.to_numpy()
    names = [str(name) for name in frame.columns]
    positions = range(len(names))
    columns = [frame.iloc[:, i] if hasattr(frame, "iloc") else frame.to_series(i) for i in positions]
    kinds = [np.asarray(column.head(1).to_numpy()).dtype.kind for column in columns]
    if all(kind in "buif" for kind in kinds):
        found = frame.to_numpy()
        if not found.dtype.hasobject:
            return found
    arrays = [_column(column.to_numpy(), name) for column, name in zip(columns, names, strict=True)]
    others = [name for name, array in zip(names, arrays, strict=True) if array.dtype.kind not in "buif"]
    if others and any(array.dtype.kind not in "US" for array in arrays):
        raise UnreadableError(
            f"is a table with columns that are not numbers ({', '.join(others[:5])}): encode them as numbers, or leave"
            " them out"
        )
    return np.stack(arrays, axis=1)


def _column(values: Any, name: str) -> Array:
    array = np.asarray(values)
    try:
        return _without_objects(array) if array.dtype.hasobject else array
    except UnreadableError as exc:
        raise UnreadableError(f"is a table, and its column {name} {exc}") from exc


def _without_objects(array: Array) -> Array:
    """Return objects as an array of strings or numbers."""
    kinds = {type(item) for item in array.flat}
    if kinds <= {str, np.str_} or kinds <= {bytes, np.bytes_}:
        return array.astype("U" if kinds <= {str, np.str_} else "S")
    numbers = {kind for kind in kinds if issubclass(kind, _NUMBERS)}
    if kinds == numbers:
        return array.astype(np.float64) if Decimal in kinds else np.array(array.tolist())
    texts = {str, np.str_, bytes, np.bytes_}
    if kinds - numbers - texts <= {kind for kind in kinds if kind.__name__ in _MISSING}:
        missing = [type(item).__name__ in _MISSING or item != item for item in array.flat]
        if any(missing):
            row = missing.index(True) // max(1, array.size // len(array))
            raise UnreadableError(f"has no value in row {row}: remove the row, or fill in the value")
    if array.ndim == 1 and kinds <= {np.ndarray, list, tuple}:
        return rows_of(list(array))
    names = ", ".join(sorted(kind.__name__ for kind in kinds)[:5])
    raise UnreadableError(f"holds Python objects ({names}), not numbers or strings alone")


def _pictures(pictures: Sequence[Any]) -> Array:
    modes = {picture.mode for picture in pictures}
    # Pillow would cut numbers of more than 8 bits off at 255.
    if any(mode.startswith(_DEEP) for mode in modes):
        if len(modes) > 1:
            raise UnreadableError(
                f"holds images of several modes ({', '.join(sorted(modes))}): convert them to one in the data function"
            )
        plain = pictures
    elif modes <= {"L"}:
        plain = pictures
    else:
        plain = [picture.convert("RGB") for picture in pictures]
    arrays = [np.asarray(picture) for picture in plain]
    _check_shapes([array[..., 0] if array.ndim > 2 else array for array in arrays])
    found = np.stack(arrays)
    return found[..., np.newaxis] if found.ndim < _IMAGE_DIMENSIONS else found


def _check_shapes(values: Iterable[Any]) -> None:
    try:
        shapes = {np.shape(item) for item in values}
    except ValueError as exc:
        raise UnreadableError(
            "holds rows of several shapes: give them one shape in the data function"
        ) from exc
    if len(shapes) > 1:
        shown = ", ".join("×".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise UnreadableError(
            f"holds rows of several shapes ({shown}): give them one shape in the data function"
        )
