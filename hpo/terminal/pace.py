"""Estimate of the time left, by the pace since training began."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Finished work per second, loading and pauses excluded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at: float | None = None

    def begin(self) -> None:
        """Note that training has begun; later calls change nothing."""
        if self._began_at is None:
            self._began_at = self._clock()

    def exclude(self, seconds: float) -> None:
        """Subtract a pause."""
        if self._began_at is not None:
            self._began_at += seconds

    def seconds_left(self, done: int, left: int) -> float | None:
        """Return the time that `left` pieces of work take, once some are `done`."""
        if self._began_at is None or done <= 0:
            return None
        return (self._clock() - self._began_at) / done * left
