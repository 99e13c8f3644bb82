"""The steps that the device has been given and has not ended, of which there are never many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax

MOST_AHEAD = 4
"""Largest number of calls that the device has not ended."""


class StepsAhead:
    """Calls of a program in progress, and the time that a step takes."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Any, int, float]] = deque()
        self.step_seconds: float | None = None
        """Mean seconds of the last steps; None before they are known."""

    def add(self, logs: Mapping[str, Any], steps: int) -> None:
        """Note a call of so many steps, which returns `logs`; wait until the device has few of them to go."""
        self._calls.append((logs, steps, time.perf_counter()))
        if len(self._calls) <= MOST_AHEAD:
            return
        old, _, began_at = self._calls.popleft()
        jax.block_until_ready(old)
        later = sum(more for _, more, _ in self._calls)
        seconds = (time.perf_counter() - began_at) / max(1, later)
        before = self.step_seconds
        self.step_seconds = seconds if before is None else 0.8 * before + 0.2 * seconds

    def interrupt(self) -> None:
        """Measure no step that began before now, such as one before the executor had nothing to do."""
        self._calls.clear()

    def restart(self) -> None:
        """Forget the time of a step, because another program computes the next ones."""
        self._calls.clear()
        self.step_seconds = None
