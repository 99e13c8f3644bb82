"""The memory of a process that trains one attempt after another."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path


def private_bytes() -> int:
    """Return the memory that this process shares with no file."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Give memory that is of no use back to the system.

    Models refer to themselves, so they stay until garbage is collected; what they have freed, and what compilers have,
    stays with malloc, as most of the growth of a process that compiles many programs.
    """
    gc.collect()
    # Only the C library of GNU has it.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
