"""The clock by which a process judges the silence of others."""

from __future__ import annotations

import time

COUNTED_SECONDS = 5.0
"""Longest part of a gap between two readings that counts."""


class ListeningClock:
    """A monotonic clock that hardly advances while this process does not read it.

    A process that was stopped, with its container or its machine, or that waited for the database, has not listened:
    the others may have been stopped too, so their silence in that time proves nothing.
    """

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._left_out = 0.0

    def now(self) -> float:
        """Return the seconds by this clock; it must be read in each turn of a loop."""
        now = time.monotonic()
        self._left_out += max(0.0, now - self._read_at - COUNTED_SECONDS)
        self._read_at = now
        return now - self._left_out
