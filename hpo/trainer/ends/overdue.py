"""Trainers that are silent, or do not end, for too long: they are killed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Generic

from hpo.outcomes import Outcome
from hpo.trainer.ends.shared_ends import SharedEnds
from hpo.trainer.pool import TrainerPool
from hpo.trainer.workload import R, SupervisedRun, Workload

log = logging.getLogger(__name__)

ENDING_SECONDS = 10.0
"""Longest time of a trainer without an epoch to train: code after its loop, threads and exit handlers may block."""


def report_overdue(runs: Iterable[SupervisedRun], seconds: float) -> None:
    """Log the runs that a shutdown ends after so many seconds, unless it was to end them at once."""
    for run in runs if seconds >= 1.0 else ():
        log.warning(
            f"has not ended {seconds:.0f} s after it was asked to: its process is killed, and it resumes from its last"
            " checkpoint",
            extra=run.context,
        )


class OverdueTrainers(Generic[R]):
    """Ends the trainers of a pool that are overdue."""

    def __init__(
        self, pool: TrainerPool, in_slots: dict[int, R], hung_seconds: float, shared_ends: SharedEnds
    ) -> None:
        self._pool = pool
        self._in_slots = in_slots
        self._hung_seconds = hung_seconds
        self._shared_ends = shared_ends

    def end_silent(self, work: Workload[R], listened_at: float) -> None:
        """Kill trainers that had been silent for too long when this process last listened."""
        limit = self._hung_seconds
        silent = self._silent(listened_at)
        together = {slot for slot in silent if len(self._pool.sharing(slot) & silent.keys()) > 1}
        for slot, run in silent.items():
            forked = self._pool.is_forked(slot)
            if not forked:
                self._pool.replace_template()
            self._pool.kill(slot)
            if forked and (run.pruned or run.preempted):
                log.warning(f"no progress for {limit:.0f} s, after it was asked to end", extra=run.context)
                work.on_killed(slot, run)
            elif forked and slot in together:
                reason = f"no progress for {limit:.0f} s of several trials of its process"
                self._shared_ends.end(work, slot, run, reason, blamed=True)
            elif forked:
                work.on_lost(slot, run, f"no progress for {limit:.0f} s", Outcome.HUNG)
            else:
                work.release(slot, run)
                log.warning(
                    f"no process was started in {limit:.0f} s: its template is replaced",
                    extra=run.context,
                )

    def _silent(self, listened_at: float) -> dict[int, R]:
        """Return the runs that have been silent for too long, by slots, and neighbours that seem to hang with them.

        Runs of a process that hangs were last heard at different times. Whether the first to be overdue is at fault is
        known only if the others have been heard since.
        """
        silences = {slot: listened_at - run.heard_at for slot, run in self._in_slots.items()}
        slots = {slot for slot, seconds in silences.items() if seconds > self._hung_seconds}
        for slot in list(slots):
            if self._pool.is_forked(slot):
                neighbours = self._pool.sharing(slot) & silences.keys()
                slots |= {one for one in neighbours if silences[one] >= self._hung_seconds / 2}
        return {slot: run for slot, run in self._in_slots.items() if slot in slots}

    def end_late(self, work: Workload[R], listened_at: float) -> None:
        """Kill trainers that have not ended long after they were asked to, whether they are silent or not."""
        limit = min(self._hung_seconds, ENDING_SECONDS)
        for slot, run in list(self._in_slots.items()):
            if run.ending_at is None or listened_at - run.ending_at <= limit:
                continue
            self._pool.kill(slot)
            log.warning(
                f"has not ended {limit:.0f} s after it was asked to: its process was killed",
                extra=run.context,
            )
            with work.fencing(slot, run):
                work.on_killed(slot, run)
