"""Where the arrays of a data function are kept: in memory, or in files that another process maps."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DiskFullError, FileNotWritableError
from objectives.data.conversion.float32 import Float32, is_wide
from objectives.data.read_ahead import LEAST_BYTES

Array = NDArray[Any]

MOST_INLINE_BYTES = 1 << 20
"""Largest array that is handed over by value, not by a file."""

_BLOCK_BYTES = 1 << 24
"""Bytes that are converted and written at a time."""

_MAPPINGS = Path("/proc/self/maps")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Column(Protocol):
    """An array that is written row by row."""

    def append(self, block: Array) -> None:
        """Add rows, of the type and shape of the first ones."""

    def end(self) -> Kept:
        """Return all rows."""


class Store(Protocol):
    """A place for arrays."""

    def keep(self, array: Array, to_float32: Float32 | None = None) -> Kept:
        """Keep an array; `to_float32`: a large one of float64 may be converted."""

    def column(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Column:
        """Return an array of rows of this type and shape, still empty."""


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array in a file."""

    descriptor: int
    """The open file, which may have no name."""
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def mapped(self) -> Array:
        """Map it: pages are shared with other processes until they are written to, which changes no file.

        An array of `LEAST_BYTES` is read-only, so that its pages can be released.
        """
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        if not size:
            return np.empty(self.shape, self.dtype)
        first = self.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        access = mmap.ACCESS_READ if size >= LEAST_BYTES else mmap.ACCESS_COPY
        pages = mmap.mmap(self.descriptor, self.offset - first + size, access=access, offset=first)
        return np.ndarray(self.shape, self.dtype, pages, self.offset - first)


Kept = Array | StoredArray


class MemoryStore:
    """Keeps arrays as they are."""

    def keep(self, array: Array, to_float32: Float32 | None = None) -> Array:  # noqa: ARG002 - the protocol's
        return array

    def column(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Column:
        return _MemoryColumn(dtype, shape)


class FileStore:
    """Keeps large arrays in files without names in a folder, which are gone with the processes that have them open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, array: Array, to_float32: Float32 | None = None) -> Kept:
        if array.nbytes <= MOST_INLINE_BYTES:
            return array
        convert = to_float32 if is_wide(array.dtype) else None
        if convert is None and (found := _file_of(array)) is not None:
            return found
        column = self.column(array.dtype if convert is None else np.dtype(np.float32), array.shape[1:])
        for block in _blocks(array):
            column.append(block if convert is None else convert(block))
        if convert is not None:
            convert.end()
        return column.end()

    def column(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Column:
        return _FileColumn(self._folder, dtype, shape)


class _MemoryColumn:
    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype, self._shape, self._rows = dtype, shape, 0
        self._content = bytearray()

    def append(self, block: Array) -> None:
        self._content += np.ascontiguousarray(block, self._dtype).data.cast("B") if block.size else b""
        self._rows += len(block)

    def end(self) -> Array:
        return np.frombuffer(self._content, self._dtype).reshape(self._rows, *self._shape)


class _FileColumn:
    def __init__(self, folder: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._folder, self._dtype, self._shape, self._rows = folder, dtype, shape, 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Where the file system allows it, the file never has a name.
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - it lives as long as the array
        except OSError as exc:
            raise self._error(exc) from exc
        with file:
            self._descriptor = os.dup(file.fileno())

    def append(self, block: Array) -> None:
        view = np.ascontiguousarray(block, self._dtype).reshape(-1).view(np.uint8).data
        try:
            while len(view):
                view = view[os.write(self._descriptor, view) :]
        except OSError as exc:
            raise self._error(exc) from exc
        self._rows += len(block)

    def end(self) -> StoredArray:
        return StoredArray(
            descriptor=self._descriptor, offset=0, dtype=self._dtype, shape=(self._rows, *self._shape)
        )

    def _error(self, exc: OSError) -> DiskFullError | FileNotWritableError:
        if exc.errno in _FULL:
            return DiskFullError(
                f"{self._folder} has no space left for the arrays of the data function: free some, or choose another"
                " folder with HPO_HOME"
            )
        return FileNotWritableError(
            f"the folder {self._folder} cannot be written ({exc.strerror or exc}): fix that, or set HPO_HOME to another"
        )


def _blocks(array: Array) -> Iterator[Array]:
    rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for first in range(0, len(array), rows):
        yield array[first : first + rows]


def _file_of(array: Array) -> StoredArray | None:
    """Return the place of an array in the file that it is mapped from, as `np.load(…, mmap_mode="r")` does."""
    base: Any = array
    while isinstance(base, np.ndarray) and not (
        isinstance(base, np.memmap) and not isinstance(base.base, np.ndarray)
    ):
        base = base.base
    # A copy-on-write mapping may differ from its file.
    if not isinstance(base, np.memmap) or base.filename is None or base.mode == "c":
        return None
    if not array.flags.c_contiguous:
        return None
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    # The function may have deleted the file since.
    with suppress(OSError):
        descriptor = os.open(str(base.filename), os.O_RDONLY | os.O_CLOEXEC)
        # Its name may be that of another file by now.
        if _is_mapped(descriptor, array.__array_interface__["data"][0]):
            return StoredArray(
                descriptor=descriptor, offset=base.offset + start, dtype=array.dtype, shape=array.shape
            )
        os.close(descriptor)
    return None


def _is_mapped(descriptor: int, address: int) -> bool:
    """Return whether an address is in a mapping of an open file; False where the kernel does not list mappings."""
    own = os.fstat(descriptor).st_ino
    with _MAPPINGS.open() as lines:
        for line in lines:
            limits, _, _, _, inode = line.split(maxsplit=5)[:5]
            first, end = (int(limit, 16) for limit in limits.split("-"))
            if first <= address < end:
                return int(inode) == own
    return False
