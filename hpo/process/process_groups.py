"""Process groups: each trainer leads one, so that all that its objective starts can be killed with it."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import suppress

LEFTOVER_SECONDS = 3.0
"""Grace period for processes that a finished trainer left running."""


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class ProcessGroups:
    """The process groups of all trainers of a template."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        # Deadlines of groups whose trainer has exited normally.
        self._due: deque[tuple[float, int]] = deque()

    def add(self, group: int) -> None:
        """Register the group of a new trainer."""
        self._running.add(group)

    def terminate(self, group: int) -> None:
        """Send SIGTERM to a group whose trainer exited normally, and kill it after the grace period."""
        self._running.discard(group)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            self._due.append((time.monotonic() + LEFTOVER_SECONDS, group))

    def kill(self, group: int) -> None:
        """Kill a group whose trainer died."""
        self._running.discard(group)
        kill_group(group)

    def kill_all(self) -> None:
        """Kill every group."""
        for group in [*self._running, *(group for _, group in self._due)]:
            kill_group(group)

    def seconds_until_due(self) -> float | None:
        """Seconds until the first grace period ends; None if there is none."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def kill_due(self) -> None:
        """Kill the groups whose grace period has ended."""
        while self._due and self._due[0][0] <= time.monotonic():
            kill_group(self._due.popleft()[1])
