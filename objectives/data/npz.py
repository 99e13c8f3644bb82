"""Arrays of an .npz archive, which are checked before memory is taken for them: a small file may claim terabytes."""

from __future__ import annotations

import math
import zipfile

import numpy as np

from objectives.data.errors import ArrayInvalidError

_ENCRYPTED = 0x1
"""Bit of a zip entry's flags."""


def checked_bytes(archive: zipfile.ZipFile, name: str) -> int:
    """Return the size of the file of an array in the archive.

    Raises:
        ArrayInvalidError: it is encrypted, or not as large as its header states.
    """
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & _ENCRYPTED:
        raise ArrayInvalidError(f"{name} is encrypted")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
            raise ArrayInvalidError(f"{name} is not as large as its shape {shape}")
    return info.file_size
