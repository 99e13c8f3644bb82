"""Rows of large mapped arrays: requested from the disk at once, not page by page as they are touched, then released.

Without this, each row that is not in memory is waited for by itself, and the kernel reads 128 KiB around each page,
most of which a random order never uses.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 1 << 30
"""Size from which an array may be larger than the memory that is left for it."""

ReadAhead = Callable[[NDArray[np.int64]], None]
"""Function that requests the rows of these indices."""


def read_ahead(array: NDArray[Any]) -> ReadAhead | None:
    """Return a function that requests rows of an array; None if it is small, in memory, or not by rows in its file."""
    pages = _pages(array)
    if pages is None or array.nbytes < LEAST_BYTES or not array.flags.c_contiguous:
        return None
    first = (
        array.__array_interface__["data"][0] - np.frombuffer(pages, np.uint8).__array_interface__["data"][0]
    )
    size = array.nbytes // len(array)

    def request(rows: NDArray[np.int64]) -> None:
        for row in np.sort(rows, axis=None).tolist():
            start = first + row * size
            begin = start // mmap.PAGESIZE * mmap.PAGESIZE
            pages.madvise(mmap.MADV_WILLNEED, begin, start + size - begin)

    return request


def release(array: NDArray[Any]) -> None:
    """Unmap the pages of a large array that have been read, so that they count as no memory of this process.

    They stay in the page cache, as long as there is room. A writable array is left alone: changes to a
    private mapping are nowhere else.
    """
    pages = _pages(array)
    if pages is not None and array.nbytes >= LEAST_BYTES and not array.flags.writeable:
        pages.madvise(mmap.MADV_DONTNEED)


def _pages(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None
