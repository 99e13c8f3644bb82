"""Arrays of an .npz archive, which are checked before memory is taken for them: a small file may claim terabytes."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from objectives.data import inputs
from objectives.data.errors import ArrayInvalidError
from objectives.data.inputs import Shape

_ENCRYPTED = 0x1
"""Bit of a zip entry's flags."""
_LOCAL_HEADER = 30
"""Bytes of a member's own header before its name."""


class Archive:
    """An open archive: the names of its arrays, and each of them."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._zip = zipfile.ZipFile(file)

    @property
    def names(self) -> list[str]:
        """Names of the arrays, in their order."""
        return [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]

    def header(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        """Return shape and type of an array.

        Raises:
            ArrayInvalidError: it is encrypted, has objects, or is not as large as its header states.
        """
        shape, dtype, _, _ = self._header(name)
        return shape, dtype

    def in_memory(self, name: str, folder: Path | None) -> int:
        """Return the bytes of memory that `read` takes for an array."""
        info = self._zip.getinfo(f"{name}.npy")
        large = info.file_size > inputs.LARGE_BYTES
        stored = info.compress_type == zipfile.ZIP_STORED
        return 0 if large and (stored or folder is not None) else info.file_size

    def read(self, name: str, folder: Path | None) -> NDArray[Any]:
        """Return an array; a large one is mapped from the archive, or from a file in `folder` if it is compressed.

        Raises:
            ArrayInvalidError: as `header`.
            zipfile.BadZipFile: its checksum is wrong.
        """
        shape, dtype, fortran, offset = self._header(name)
        info = self._zip.getinfo(f"{name}.npy")
        large = info.file_size > inputs.LARGE_BYTES
        with self._zip.open(info) as member:
            if fortran and not large:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
            member.read(offset)
            if large and info.compress_type == zipfile.ZIP_STORED:
                # Read once, because only the whole shows whether the checksum is right.
                while member.read(inputs.BLOCK_BYTES):
                    pass
                start = self._start(info) + offset
                order: Literal["F", "C"] = "F" if fortran else "C"
                return np.asarray(
                    np.memmap(self._path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)
                )
            if fortran:
                rows = inputs.gathered(_blocks(member, shape[::-1], dtype), shape[::-1], dtype, folder)
                return rows.T
            return inputs.gathered(_blocks(member, shape, dtype), shape, dtype, folder)

    def _header(self, name: str) -> tuple[Shape, np.dtype[Any], bool, int]:
        shape, fortran, dtype, offset = _checked_header(self._zip, name)
        if dtype.hasobject:
            raise ArrayInvalidError(
                f"{name} has Python objects: save strings as array.astype('U'), and numbers as a numeric array"
            )
        return shape, dtype, fortran, offset

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Return the position of a stored member's content in the file."""
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        return info.header_offset + _LOCAL_HEADER + name + extra


def checked_bytes(archive: zipfile.ZipFile, name: str) -> int:
    """Return the size of the file of an array in the archive.

    Raises:
        ArrayInvalidError: it is encrypted, or not as large as its header states.
    """
    _checked_header(archive, name)
    return archive.getinfo(f"{name}.npy").file_size


def read_header(file: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    """Return shape, whether columns come first, and type, from the beginning of an .npy file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found: tuple[Shape, bool, np.dtype[Any]] = read(file)
    return found


def _checked_header(archive: zipfile.ZipFile, name: str) -> tuple[Shape, bool, np.dtype[Any], int]:
    """Return shape, whether columns come first, type, and the position of the content in its member."""
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & _ENCRYPTED:
        raise ArrayInvalidError(f"{name} is encrypted")
    with archive.open(info) as member:
        shape, fortran, dtype = read_header(member)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
            raise ArrayInvalidError(f"{name} is not as large as its shape {shape}")
        return shape, fortran, dtype, member.tell()


def _blocks(member: IO[bytes], shape: Shape, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    row = math.prod(shape[1:]) * dtype.itemsize
    rows = max(1, inputs.BLOCK_BYTES // max(1, row))
    left = shape[0] if shape else 0
    while left:
        count = min(rows, left)
        content = member.read(count * row)
        if len(content) < count * row:
            raise EOFError("it ends too early")
        yield np.frombuffer(content, dtype).reshape(count, *shape[1:])
        left -= count
    # The checksum is compared at the end of the member.
    member.read(1)
