"""Files that are there whole or not at all, whoever reads them and whatever dies meanwhile, the power included."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""Ends the name of what is not written whole."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, of this process alone, to write to: it takes that name when the block ends.

    When the block raises, what was at `path` stays, and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        # The name too.
        _sync(path.parent)
    finally:
        # On a disk that has become read-only even removing what is not there fails.
        with suppress(OSError):
            partial.unlink()


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
