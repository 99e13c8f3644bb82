"""Inputs of a model, rows first: one array, or a dict of arrays by name for a model with several inputs."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DiskFullError
from objectives.data.class_names import by_name
from objectives.data.conversion import float32
from objectives.data.conversion.float32 import Float32
from objectives.data.conversion.objects import as_array
from objectives.data.errors import ArrayInvalidError, array_name

Inputs: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]
Shape: TypeAlias = tuple[int, ...]

BLOCK_BYTES = 1 << 24
"""Bytes of an array that are checked, converted or copied at a time."""

LARGE_BYTES = 1 << 26
"""Bytes above which copied rows are written to a file and mapped, if there is a folder for it."""


def each(inputs: Inputs) -> dict[str, NDArray[Any]]:
    """Return the arrays by name; the name of a single one is empty."""
    return inputs if isinstance(inputs, dict) else {"": inputs}


def count(inputs: Inputs) -> int:
    """Return the number of rows."""
    return len(next(iter(each(inputs).values())))


def shape_of(inputs: Inputs) -> Shape | dict[str, Shape]:
    """Return the shape of a row, or the shapes by name."""
    if isinstance(inputs, dict):
        return {name: tuple(array.shape[1:]) for name, array in inputs.items()}
    return tuple(inputs.shape[1:])


def is_images(inputs: Inputs) -> bool:
    """Return whether the inputs are numeric (n, height, width, channels)."""
    return not isinstance(inputs, dict) and inputs.ndim == 4 and inputs.dtype.kind in "uif"


def slices(inputs: Inputs, rows: slice) -> Inputs:
    """Return a view of consecutive rows."""
    if isinstance(inputs, dict):
        return {name: array[rows] for name, array in inputs.items()}
    return inputs[rows]


def take(inputs: Inputs, indices: NDArray[np.intp], folder: Path | None = None) -> Inputs:
    """Return the rows of sorted indices: a view if these are consecutive, else a copy.

    Large copies are written to an unlinked file in `folder`, if given, and mapped, so that they need no memory of their
    own.

    Raises:
        DiskFullError: the folder has no space left.
    """
    if isinstance(inputs, dict):
        return {name: _taken(array, indices, folder) for name, array in inputs.items()}
    return _taken(inputs, indices, folder)


def joined(first: Inputs, second: Inputs, folder: Path | None = None) -> Inputs:
    """Return the rows of both: a view if the second follow the first in one array, else a copy as `take` makes it."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: _joined(array, second[name], folder) for name, array in first.items()}
    assert isinstance(first, np.ndarray)
    assert isinstance(second, np.ndarray)
    return _joined(first, second, folder)


def gathered(
    blocks: Iterable[NDArray[Any]], shape: Shape, dtype: np.dtype[Any], folder: Path | None = None
) -> NDArray[Any]:
    """Return an array of this shape whose rows the blocks give in order.

    Raises:
        DiskFullError: as `take`.
    """
    if folder is None or math.prod(shape) * dtype.itemsize <= LARGE_BYTES:
        found = np.empty(shape, dtype)
        start = 0
        for block in blocks:
            found[start : start + len(block)] = block
            start += len(block)
        return found
    try:
        return _mapped(blocks, shape, dtype, folder)
    except OSError as exc:
        raise DiskFullError(
            f"{math.prod(shape) * dtype.itemsize / 2**30:.1f} GiB of data cannot be written to {folder}"
            f" ({exc.strerror or exc}): free some space, or choose another folder with HPO_HOME"
        ) from exc


def ranges(array: NDArray[Any]) -> Iterator[slice]:
    """Yield the slices of an array's rows that are read at a time."""
    row = max(1, array.nbytes // max(1, len(array)))
    size = max(1, BLOCK_BYTES // row)
    for start in range(0, len(array), size):
        yield slice(start, min(start + size, len(array)))


def buffer(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in the order of its rows; text has no buffer of its own."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def checked(x: Any, name: str, folder: Path | None = None, *, trains: bool = True) -> Inputs:
    """Return inputs in a type that models are trained on: other floats become float32, objects text, bools uint8.

    Unless the rows are those that a model `trains` on, their differences may be less than float32 keeps.

    uint8 and uint16 arrays (n, height, width) are grey images and get a channel; numbers (n,) become a table of one
    feature.

    Raises:
        ArrayInvalidError: they have another type, no rows, or a value that is not finite.
    """
    if isinstance(x, Mapping):
        if not x:
            raise ArrayInvalidError(f"{name} is an empty dict")
        found = {
            key: _checked(array, array_name(name, key), folder, trains)
            for key, array in by_name(x, name).items()
        }
        lengths = {key: len(array) for key, array in found.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{key}: {length}" for key, length in lengths.items())
            raise ArrayInvalidError(f"the arrays of {name} differ in their numbers of rows ({listed})")
        return found
    return _checked(x, name, folder, trains)


def check_finite(array: NDArray[Any], name: str) -> None:
    """Raise ArrayInvalidError, with the row, if a number is not finite."""
    for rows in ranges(array):
        float32.check_finite(array[rows], name, rows.start)


def _checked(values: Any, name: str, folder: Path | None, trains: bool) -> NDArray[Any]:
    x = as_array(values, name)
    if x.ndim == 0 or x.size == 0:
        raise ArrayInvalidError(f"{name} is empty")
    if x.dtype.kind == "b":
        x = x.view(np.uint8)
    elif x.dtype.kind == "f" and x.dtype != np.float32:
        x = _as_float32(x, Float32(name, keeps_differences=trains and float32.is_wide(x.dtype)), folder)
    elif x.dtype.kind not in "uifU":
        raise ArrayInvalidError(f"{name} is {x.dtype}, not of numbers or strings")
    elif x.dtype.kind == "f":
        check_finite(x, name)
    if not x.dtype.isnative:
        x = gathered((x[rows] for rows in ranges(x)), x.shape, x.dtype.newbyteorder("="), folder)
    if x.ndim == 1 and x.dtype.kind != "U":
        return x[:, np.newaxis]
    # Other arrays of three axes are sequences.
    return x[..., np.newaxis] if x.ndim == 3 and x.dtype in (np.uint8, np.uint16) else x


def _as_float32(x: NDArray[Any], convert: Float32, folder: Path | None) -> NDArray[Any]:
    found = gathered((convert(x[rows]) for rows in ranges(x)), x.shape, np.dtype(np.float32), folder)
    convert.end()
    return found


def _taken(array: NDArray[Any], indices: NDArray[np.intp], folder: Path | None) -> NDArray[Any]:
    size = len(indices)
    if size == 0:
        return array[:0]
    first = int(indices[0])
    # Sorted and without repetitions.
    if int(indices[-1]) - first + 1 == size:
        return array[first : first + size]
    step = max(1, BLOCK_BYTES // max(1, array.nbytes // len(array)))
    blocks = (array[indices[start : start + step]] for start in range(0, size, step))
    return gathered(blocks, (size, *array.shape[1:]), array.dtype, folder)


def _joined(first: NDArray[Any], second: NDArray[Any], folder: Path | None) -> NDArray[Any]:
    if not len(second):
        return first
    base = _base(first)
    if (
        base is _base(second)
        and first.flags.c_contiguous
        and second.flags.c_contiguous
        and _address(first) + first.nbytes == _address(second)
    ):
        shape = (len(first) + len(second), *first.shape[1:])
        return np.lib.stride_tricks.as_strided(first, shape, first.strides, writeable=False)
    blocks = (array[rows] for array in (first, second) for rows in ranges(array))
    return gathered(blocks, (len(first) + len(second), *first.shape[1:]), first.dtype, folder)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _base(array: NDArray[Any]) -> Any:
    """Return the object that owns the memory of an array."""
    found: Any = array
    while isinstance(found, np.ndarray) and found.base is not None:
        found = found.base
    return found


def _mapped(blocks: Iterable[NDArray[Any]], shape: Shape, dtype: np.dtype[Any], folder: Path) -> NDArray[Any]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = math.prod(shape) * dtype.itemsize
    # Without a name: nothing is left behind by a process that is killed.
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        # Reserved at once: a full disk is noticed now, and not when a page of the mapping is read.
        os.posix_fallocate(file.fileno(), 0, size)
        for block in blocks:
            left = buffer(np.ascontiguousarray(block, dtype))
            while left:
                left = left[file.write(left) :]
        return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), dtype).reshape(shape)
