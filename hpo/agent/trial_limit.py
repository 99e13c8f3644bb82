"""The longest time that a trial may train, `--trial-timeout`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpo import formatting
from hpo.agent.running_attempt import RunningAttempt
from hpo.outcomes import Outcome
from hpo.trainer.messages import EpochRecord, Finished, Started


class TrialLimit:
    """Decides which trials have trained for too long; the epochs of their earlier attempts count, pauses do not."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds

    @property
    def finished(self) -> Finished:
        """Outcome of a trial that trained for too long."""
        limit = formatting.duration(self._seconds)
        return Finished(Outcome.TIMED_OUT, f"it trained for more than {limit} (--trial-timeout)")

    def begin(self, run: RunningAttempt, event: Started) -> None:
        """Note that a trainer has started, and how long the epochs took that it does not train again."""
        run.earlier_seconds = run.trained_seconds = sum(record.seconds for record in event.history)
        run.limit_at = run.heard_at + self._seconds - run.trained_seconds

    def exceeded(self, run: RunningAttempt, record: EpochRecord) -> bool:
        """Add an epoch and return whether the trial has trained for too long."""
        run.trained_seconds += record.seconds
        return run.trained_seconds >= self._seconds

    def overdue(
        self, in_slots: Mapping[int, RunningAttempt], listened_at: float
    ) -> dict[int, RunningAttempt]:
        """Return the runs that had trained for too long when the agent last listened and had nothing to report.

        A trainer whose messages are still unread may have finished in time: this process may have waited for the
        database.
        """
        return {
            slot: run
            for slot, run in in_slots.items()
            if run.heard_at < listened_at and listened_at >= run.limit_at
        }
