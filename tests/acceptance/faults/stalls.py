"""Processes that are stopped for a while by SIGSTOP, as by a debugger, a frozen container or a suspended machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started, parents first."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def suspend(processes: Sequence[psutil.Process]) -> None:
    """Stop processes; those that have ended do not count."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def resume(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


class Stalls:
    """Processes that are stopped now, each until its time is over."""

    def __init__(self) -> None:
        self._stopped: list[tuple[psutil.Process, float]] = []

    @property
    def settled(self) -> bool:
        return not self._stopped

    def stop(self, process: psutil.Process, seconds: float) -> None:
        suspend([process])
        self._stopped.append((process, time.monotonic() + seconds))

    def holds(self, pid: int) -> bool:
        """Whether a process is stopped now."""
        return any(process.pid == pid for process, _ in self._stopped)

    def tend(self) -> None:
        """Let the processes continue whose time is over."""
        now = time.monotonic()
        resume([process for process, until in self._stopped if now >= until])
        self._stopped = [(process, until) for process, until in self._stopped if now < until]
