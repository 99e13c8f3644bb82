"""Memory of trainers, and of all processes of this one together, while they train."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import psutil

from hpo.devices.cgroups import memory_limit

SAMPLE_SECONDS = 0.5
"""Seconds between two samples, each of which reads the page tables of all processes."""


def free_memory() -> int:
    """Return the bytes that processes here may still allocate, in a container at most its limit."""
    free, limit = int(psutil.virtual_memory().available), memory_limit()
    return min(free, limit) if limit else free


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The highest memory that was measured, in bytes."""

    each: int
    """Memory of a trainer and its children that no other process shares."""
    shared: int
    """All other memory of this process, the template and the trainers."""


class MemoryWatch:
    """Samples the memory of trainers."""

    def __init__(self) -> None:
        self._sampled_at = 0.0
        self.highest: Memory | None = None
        """None before the first sample."""

    def sample(self, trainers: Collection[int]) -> None:
        """Measure trainers, given the process id of each trial, unless the last sample is too young.

        Trials in lanes have the same process, of which each has its part.
        """
        now = time.monotonic()
        if not trainers or now - self._sampled_at < SAMPLE_SECONDS:
            return
        with suppress(psutil.Error, OSError):
            self._add(trainers)
        # The time that a sample takes is not part of the interval.
        self._sampled_at = time.monotonic()

    def _add(self, trainers: Collection[int]) -> None:
        own, total = [], 0
        for process in _family(psutil.Process(os.getpid())):
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                # Of pages that k processes share, each counts the k-th part; only Linux measures that.
                total += int(getattr(memory, "pss", memory.uss))
                if any(one.pid in trainers for one in (process, *process.parents())):
                    own.append(int(memory.uss))
        if not own:
            return
        each, before = sum(own) // len(trainers), self.highest
        shared = max(total - sum(own), 0)
        if before is not None:
            each, shared = max(each, before.each), max(shared, before.shared)
        self.highest = Memory(each=each, shared=shared)


def _family(root: psutil.Process) -> list[psutil.Process]:
    """Return a process and its descendants, without those of an embedded database."""
    return [root, *(child for child in root.children(recursive=True) if "postgres" not in child.name())]
