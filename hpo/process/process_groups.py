"""Process groups: each trainer leads one, so that all that its objective starts can be killed with it.

A trainer and its group also end as soon as the agent is gone. The trainer's listener thread notices it on its own
pipe, but only while native code lets another thread run; so the kernel itself sends a fatal signal when the last
writer of a pipe has closed it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

ORPHANED = 3
"""Exit code of a process whose agent is gone."""

LEFTOVER_SECONDS = 3.0
"""Grace period for processes that a finished trainer left running."""

_PR_SET_CHILD_SUBREAPER = 36


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_group() -> NoReturn:
    """Kill the process group that this process leads, and end this process: its agent is gone.

    The signal that the kernel sends when the agent's pipe closes reaches the group through a file of this process
    (`end_with_agent`). If the process just ended, what it has started would live on where another pipe of the agent
    closes a moment earlier.
    """
    kill_group(os.getpid())
    os._exit(ORPHANED)


def children() -> frozenset[int]:
    """Return the ids of this process's children, adopted ones included; empty where the kernel does not list them."""
    found: set[int] = set()
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return frozenset(found)


def kill_children(kept: Collection[int]) -> None:
    """Kill and reap the children of this process but those in `kept`, and the orphans that it adopts from them."""
    kept = set(kept)
    while left := children() - kept:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                kept.add(pid)


def adopt_orphans() -> None:
    """Make this process the reaper of its descendants' orphans. Linux only.

    Otherwise they go to process 1, which in many containers is the agent and does not reap them.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_agent(guard: int) -> None:
    """Kill this process group when the other end of the pipe `guard` is closed.

    Only the agent holds that end, and it never writes. Outside Linux only the listener thread does this.
    """
    if not sys.platform.startswith("linux"):
        return
    # A new open file: the owner of SIGIO belongs to the open file, which all forks of a template share.
    own = os.open(f"/proc/self/fd/{guard}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    # Not the default, SIGIO, which does not end a stopped process, nor one that handles or blocks it.
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):
        # It was closed before the signal was requested.
        end_group()


class ProcessGroups:
    """The process groups of all trainers of a template."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        # Deadlines of groups whose trainer has exited normally.
        self._due: deque[tuple[float, int]] = deque()

    def add(self, group: int) -> None:
        self._running.add(group)

    def terminate(self, group: int) -> None:
        """Send SIGTERM to a group whose trainer exited normally, and kill it after the grace period."""
        self._running.discard(group)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            self._due.append((time.monotonic() + LEFTOVER_SECONDS, group))

    def kill(self, group: int) -> None:
        self._running.discard(group)
        kill_group(group)

    def kill_all(self) -> None:
        for group in [*self._running, *(group for _, group in self._due)]:
            kill_group(group)

    def seconds_until_due(self) -> float | None:
        """Seconds until the first grace period ends; None if there is none."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def kill_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            kill_group(self._due.popleft()[1])
