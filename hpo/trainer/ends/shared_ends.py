"""Attempts that ended together, because one process trained them: which one is at fault is not known.

All of them resume from their checkpoints, and none counts as lost. A trial that was among them repeatedly is trained in
a process of its own, whose end is its own.
"""

from __future__ import annotations

import logging
from collections import Counter

from hpo.trainer.workload import R, SupervisedRun, Workload

log = logging.getLogger(__name__)

MOST_SHARED = 2
"""Number of shared ends after which a trial is trained in a process of its own."""


class SharedEnds:
    """The shared ends of this process, by trials."""

    def __init__(self) -> None:
        self._ends: Counter[str] = Counter()

    def trains_alone(self, run: SupervisedRun) -> bool:
        """Return whether an attempt needs a process of its own."""
        return self._ends[run.place] >= MOST_SHARED

    def end(self, work: Workload[R], slot: int, run: R, reason: str, *, blamed: bool) -> None:
        """Give an attempt back that has ended with others; `blamed`: it may be at fault."""
        if blamed:
            self._ends[run.place] += 1
        how = " in a process of its own" if self.trains_alone(run) else ""
        log.warning(f"{reason}: it resumes{how} after {run.epoch} epochs", extra=run.context)
        work.release(slot, run, reason)
