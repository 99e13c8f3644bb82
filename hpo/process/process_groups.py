"""Process groups: a trainer leads one, so that whatever its objective starts can be ended with it."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import suppress

LEFTOVER_SECONDS = 3.0
"""How long what a trainer has left running may take to end by itself."""


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads; nothing happens where there is none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class Groups:
    """The process groups of trainers, each with what the objective starts in it."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        # What trainers that ended in order have left running.
        self._due: deque[tuple[float, int]] = deque()

    def add(self, group: int) -> None:
        """A trainer begins."""
        self._running.add(group)

    def leave(self, group: int) -> None:
        """Its trainer ended in order: ask what it has left to end, and make it end some time later."""
        self._running.discard(group)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            self._due.append((time.monotonic() + LEFTOVER_SECONDS, group))

    def kill(self, group: int) -> None:
        """Its trainer died: end what it has left at once."""
        self._running.discard(group)
        kill_group(group)

    def end_all(self) -> None:
        """End every group at once."""
        for group in [*self._running, *(group for _, group in self._due)]:
            kill_group(group)

    def seconds(self) -> float | None:
        """Until the first is due; None where there is none."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def end_due(self) -> None:
        """Kill those that have had their time."""
        while self._due and self._due[0][0] <= time.monotonic():
            kill_group(self._due.popleft()[1])
