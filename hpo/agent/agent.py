"""The agent: the one process of a host that talks to the database, and fills its slots with trials.

It keeps nothing of value in memory: after a SIGKILL its leases expire, or the next agent of this host finds it dead,
and every trial resumes from its last checkpoint.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.leases import LeaseRenewal
from hpo.agent.rungs import Rungs
from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.settlement import Settlement
from hpo.agent.store.snapshots import StudySnapshot
from hpo.agent.store.tells import STALE_SECONDS
from hpo.agent.store.trial_store import TrialStore
from hpo.agent.trial_limit import TrialLimit
from hpo.agent.view import StudyView
from hpo.devices.provenance import DATA
from hpo.errors import InvalidParameterError
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.terminal.progress import Progress
from hpo.trainer.ends.failures import one_line
from hpo.trainer.messages import (
    Annotate,
    Command,
    Constrain,
    Continue,
    EpochRecord,
    Finished,
    Measure,
    Started,
    Suggest,
    Suggested,
)
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.workload import Workload

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Seconds between two reads of the study's state and counts."""

SHORTEST_POLL_SECONDS = 0.1
"""Seconds between two such reads where trials end all the time; otherwise one follows each end at once."""

SWEEP_SECONDS = 30.0
"""Seconds between two searches for trials and logs of dead agents."""


class Agent(Workload[RunningAttempt]):
    """Trains one study in the slots of one pool until its budget is spent or it is stopped."""

    def __init__(
        self,
        store: TrialStore,
        supervisor: Supervisor[RunningAttempt],
        attempts: AttemptTable,
        lease_renewal: LeaseRenewal,
        cleanup: Cleanup,
        progress: Progress,
        timeout_seconds: float | None = None,
    ) -> None:
        """End `timeout_seconds` after the objective is loaded, if given."""
        self._store = store
        self._spec = store.spec
        self._supervisor = supervisor
        self._shutdown = supervisor.shutdown
        self._attempts = attempts
        self._lease_renewal = lease_renewal
        self._cleanup = cleanup
        self._view = StudyView(store.name, store.spec, supervisor, progress)
        self._settlement = Settlement(store, supervisor, attempts, cleanup, self._view)
        self._timeout_seconds = timeout_seconds
        self._timeout_at = math.inf
        self._trial_limit = TrialLimit(self._spec.trial_timeout_seconds)
        self._rungs = Rungs(store, supervisor, attempts)
        self._seen = (0, 0)
        """Failed and rejected trials when it was last checked whether to stop."""
        self._poll_at = self._polled_at = self._sweep_at = self._paused_at = 0.0

    def run(self) -> ExitCode:
        """Train until the budget is spent.

        Raises:
            ObjectiveFailedError: the first trials all failed of one bug.
            HpoError: the database stays unreachable, no space is left, or too many trials have failed.
        """
        try:
            self._supervisor.run(self)
        finally:
            self._attempts.abandon()
        if self._shutdown.error is not None:
            raise self._shutdown.error
        return self._shutdown.exit_code or ExitCode.DONE

    # Periodic work.

    def poll(self) -> None:
        self._lease_renewal.heartbeat()
        now = time.monotonic()
        if self._timeout_seconds is not None and self._timeout_at == math.inf and self._supervisor.pool.ready:
            self._timeout_at = now + self._timeout_seconds
        if now >= self._sweep_at:
            # At first also what an agent has left that died just now: the sampler learns from it.
            self._store.sweep(STALE_SECONDS if self._sweep_at else 0.0)
            self._sweep_at = now + SWEEP_SECONDS
            self._cleanup.keep_orphaned_logs(self._attempts.held(), self._store.times.lease_seconds)
            self._cleanup.remove_checkpoints()
        if self._settlement.changed:
            self._poll_at = min(self._poll_at, self._polled_at + SHORTEST_POLL_SECONDS)
        if now >= self._poll_at:
            self._polled_at, self._settlement.changed = now, False
            self._poll_at = now + POLL_SECONDS
            self._store.reap_expired()
            self._store.note_data(self._supervisor.pool.versions.get(DATA, ""))
            self._apply(self._store.refresh())
        self._cleanup.run_due([attempt.log for attempt in self._attempts.in_slots.values()])
        self._attempts.drop_fenced(self._lease_renewal.fenced())
        if not self._supervisor.paused:
            overdue = self._trial_limit.overdue(self._attempts.in_slots, self._supervisor.listened_at)
            for slot, attempt in overdue.items():
                self._settlement.end(slot, attempt, self._trial_limit.finished)

    def _apply(self, snapshot: StudySnapshot) -> None:
        self._view.refresh(snapshot)
        counts = snapshot.counts
        if (counts.failing, counts.rejected) != self._seen and counts.left:
            self._seen = counts.failing, counts.rejected
            self._settlement.stop_if_failing()
        if snapshot.desired_state == "stop" and not self._shutdown.begun:
            log.info("the study was stopped: hpo launch continues it")
            self._shutdown.stop()
        if time.monotonic() >= self._timeout_at and not self._shutdown.begun:
            log.info("the time is up: run the same command to continue")
            self._shutdown.stop()
        paused = snapshot.desired_state == "pause"
        if paused != self._supervisor.paused:
            self._pause(paused=paused)

    def _pause(self, *, paused: bool) -> None:
        now = time.monotonic()
        if paused:
            self._paused_at = now
            self._attempts.release_prefetched()
        self._supervisor.pause(paused=paused)
        if paused:
            return
        self._store.unhold()
        # The pause is not part of the time that trials take.
        self._view.exclude(now - self._paused_at)
        for attempt in self._attempts.in_slots.values():
            attempt.exclude(now - self._paused_at)

    def fencing(self, slot: int, run: RunningAttempt) -> AbstractContextManager[None]:
        """Drop the attempt if another agent has ended it; fail its trial if its event cannot be handled."""
        return self._settlement.fencing(slot, run)

    # Scheduling.

    def schedule(self) -> bool:
        self._attempts.fill()
        if not self._attempts.spent or self._attempts.in_slots:
            return False
        # No agent may follow this one, so it leaves nothing behind.
        self._store.sweep(0.0)
        self._cleanup.keep_orphaned_logs(frozenset(), 0.0)
        self._cleanup.remove_checkpoints()
        return True

    def refill(self, finished: Sequence[tuple[int, Finished]]) -> bool:
        counted = [slot for slot, event in finished if event.outcome.counts]
        # All trainers before any write to the database.
        filled = [slot for slot in counted if self._attempts.start_prefetched(slot)]
        for slot in filled:
            self._attempts.assign_slot(slot)
        return bool(filled)

    def wants_prefetch(self) -> bool:
        counts = self._view.counts
        return counts is not None and self._attempts.wants_prefetch(counts)

    def prefetch(self) -> None:
        if self._attempts.prefetch():
            self._view.trial_prefetched()

    def release(self, slot: int, run: RunningAttempt, reason: str | None = None) -> None:
        self._attempts.release(slot, run, reason)

    def release_queued(self) -> None:
        self._attempts.release_prefetched()

    # Events of trainers.

    def on_started(self, slot: int, run: RunningAttempt, event: Started) -> None:
        self._store.begin(run.attempt_id, event.pid, event.resumed_from)
        self._trial_limit.begin(run, event)
        # Epochs of the checkpoint that a dead agent had not reported yet.
        self._record(run, event.history)
        if event.resumed_from:
            self._store.judgement.replay(run.attempt_id, run.trial_id)
            # The agent of the earlier attempt may have died before it asked.
            self._pause_at_rung(slot, run, event.resumed_from)

    def on_held(self, slot: int, run: RunningAttempt) -> None:  # noqa: ARG002
        self._store.hold(run.attempt_id)

    def on_epoch(self, slot: int, run: RunningAttempt, record: EpochRecord) -> None:
        self._record(run, [record])
        epochs = self._spec.epochs
        if epochs is not None and 2 * record.epoch >= epochs:
            self._attempts.prefetcher.estimate_trial(record.seconds * epochs)
        exceeded = self._trial_limit.exceeded(run, record)
        if run.detached or (epochs is not None and record.epoch >= epochs):
            return
        if exceeded:
            self._settlement.end(slot, run, self._trial_limit.finished)
            return
        if record.epoch in self._rungs and self._pause_at_rung(slot, run, record.epoch):
            return
        if self._ends_with_epochs(slot, run):
            return
        prune = not self._shutdown.begun and self._store.judgement.should_prune(run.attempt_id, run.trial_id)
        # An Optuna objective ends by itself, if it asks.
        run.pruned = prune and epochs is not None
        if run.pruned:
            run.ending_at = self._supervisor.listened_at
        self._supervisor.send(slot, run, Command.PRUNE if prune else Continue(record.epoch))

    def _pause_at_rung(self, slot: int, run: RunningAttempt, epoch: int) -> bool:
        paused = self._rungs.pause(slot, run, epoch)
        if paused:
            self._poll_at = 0.0
        return paused

    def _ends_with_epochs(self, slot: int, run: RunningAttempt) -> bool:
        """Return whether `--max-epochs` are trained; the trainer then ends, and any agent resumes its trial later."""
        if self._shutdown.begun or run.preempted or not self._store.judgement.epochs_are_spent():
            return False
        run.preempted = True
        self._attempts.release_prefetched()
        self._supervisor.send(slot, run, Command.PREEMPT)
        return True

    def on_suggest(self, slot: int, run: RunningAttempt, event: Suggest) -> Suggested | None:  # noqa: ARG002
        try:
            run.params = self._store.suggest(
                run.attempt_id, run.trial_id, event.name, event.distribution, run.params
            )
        except InvalidParameterError as exc:
            # The other trials meet it too; this one waits for the parameter until it is released.
            self._shutdown.stop(exc)
            return None
        except ValueError as exc:
            # The trainer raises a ValueError of it.
            return Suggested(event.name, error=str(exc) if type(exc) is ValueError else one_line(exc))
        return Suggested(event.name, run.params[event.name])

    def on_annotated(
        self,
        slot: int,  # noqa: ARG002
        run: RunningAttempt,
        event: Annotate | Constrain | Measure,
    ) -> None:
        if isinstance(event, Measure):
            self._store.measure(run.attempt_id, event.figures)
            run.figures |= event.figures
            return
        self._store.annotate(run.attempt_id, event)
        if isinstance(event, Constrain) and event.value > 0:
            run.violated = f"the constraint {event.name!r} is {event.value:g}, above 0"

    def on_finished(self, slot: int, run: RunningAttempt, finished: Finished) -> None:
        self._settlement.finish(slot, run, finished)

    def on_killed(self, slot: int, run: RunningAttempt) -> None:
        self._settlement.finish_killed(slot, run)

    def on_lost(self, slot: int, run: RunningAttempt, reason: str, outcome: Outcome) -> None:
        self._settlement.lose(slot, run, reason, outcome)

    def _record(self, run: RunningAttempt, records: Sequence[EpochRecord]) -> None:
        if not records:
            return
        reports = self._store.record(run.attempt_id, run.trial_id, records)
        run.record(records[-1], reports, self._spec)

    def show(self) -> None:
        error = self._lease_renewal.last_error
        paused = "paused: hpo resume continues" if self._supervisor.paused else ""
        stopping = "stopping: waiting for running epochs" if self._shutdown.begun else ""
        self._view.show(f"training continues; {error}" if error else paused or stopping)
