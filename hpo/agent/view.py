"""The study as this agent last read it, with the trials that have ended here since, and its view in the terminal."""

from __future__ import annotations

import time
from dataclasses import replace

from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.store.snapshots import StudySnapshot
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from hpo.terminal.pace import Pace
from hpo.terminal.progress import Progress, SlotView, View
from hpo.terminal.trial_lines import TrialEnd
from hpo.trainer.messages import Finished
from hpo.trainer.supervisor import Supervisor
from storage.budget import Counts


class StudyView:
    """Counts and best trial of the study, which are shown as its trials end."""

    def __init__(
        self, study: str, spec: StudySpec, supervisor: Supervisor[RunningAttempt], progress: Progress
    ) -> None:
        self._study = study
        self._spec = spec
        self._supervisor = supervisor
        self._progress = progress
        self._began_at = time.monotonic()
        self._pace = Pace()
        self._snapshot: StudySnapshot | None = None
        self._judged_before = 0
        self._best: float | None = None

    @property
    def counts(self) -> Counts | None:
        """Counts of the study's trials; None before the first `refresh`."""
        return self._snapshot.counts if self._snapshot is not None else None

    def refresh(self, snapshot: StudySnapshot) -> None:
        if self._snapshot is None:
            self._judged_before = snapshot.counts.judged
        if snapshot.best is not None:
            self._best = snapshot.best[1]
        self._snapshot = snapshot

    def exclude(self, seconds: float) -> None:
        """Subtract a pause from the elapsed time."""
        self._began_at += seconds
        self._pace.exclude(seconds)

    def trial_prefetched(self) -> None:
        if (counts := self.counts) is not None:
            self._count(replace(counts, prepared=counts.prepared + 1))

    def trial_ended(
        self, run: RunningAttempt, finished: Finished, value: float | None, seconds: float
    ) -> None:
        """Count a trial, and print its end."""
        outcome = finished.outcome
        end = TrialEnd(
            number=run.number,
            outcome=outcome,
            value=value,
            epochs=run.epoch,
            seconds=seconds,
            params=run.params,
            error=finished.error,
            attempt_id=run.attempt_id,
            new_best=outcome is Outcome.COMPLETE and self._is_new_best(value),
        )
        if outcome.counts and (counts := self.counts) is not None:
            self._count(counts.plus(outcome))
        self._progress.trial_ended(end, self.counts)

    def show(self, note: str) -> None:
        assert self._snapshot is not None
        counts, pool = self._snapshot.counts, self._supervisor.pool
        if pool.ready:
            self._pace.begin()
        left = counts.budget - counts.judged
        # After the last configuration only paused trials go on, and how many is not known.
        eta = self._pace.seconds_left(counts.judged - self._judged_before, left) if left else None
        idle = "" if pool.ready else pool.stage or "loading the objective and its data"
        running = self._supervisor.in_slots
        slots = [
            SlotView(device=device.name, note=idle)
            if slot not in running
            else running[slot].view(device.name, self._spec.epochs)
            for slot, device in enumerate(pool.devices)
        ]
        self._progress.update(
            View(
                study=self._study,
                metric=self._spec.metric,
                counts=counts,
                best=self._snapshot.best,
                slots=slots,
                elapsed_seconds=time.monotonic() - self._began_at,
                eta_seconds=None if self._supervisor.paused else eta,
                note=note,
            )
        )

    def _count(self, counts: Counts) -> None:
        """Change the snapshot, which is read again only later."""
        assert self._snapshot is not None
        self._snapshot = replace(self._snapshot, counts=counts)

    def _is_new_best(self, value: float | None) -> bool:
        """Whether a value beats that of every trial known so far, which it does once."""
        sign = 1 if self._spec.direction == "maximize" else -1
        if value is None or (self._best is not None and sign * value <= sign * self._best):
            return False
        self._best = value
        return True
