"""The agent: the one process of a host that talks to the database, and fills its slots with trials.

A single loop has slots filled (`hpo/agent/attempts.py`) and turns what trainers say into rows. Nothing of value
lives in its memory: after a SIGKILL the leases run out, or the next agent on this host sees that it is
dead, and every trial goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from hpo.agent import failure_policy
from hpo.agent.attempt import RunningAttempt
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.lease_renewal import LeaseRenewal
from hpo.agent.trial_store import StudySnapshot, TrialStore
from hpo.errors import DiskFullError, ObjectiveBrokenError, StorageUnreachableError
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode, Shutdown
from hpo.process.signals import SignalHandler
from hpo.search.spec import StudySpec
from hpo.terminal.progress import Progress, SlotView, TrialEnd, View
from hpo.trainer.exits import SPAWN_RETRY_SECONDS, Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Continue, Epoch, EpochRecord, Finished, Prune, Started, Tick
from hpo.trainer.pool import TrainerPool
from storage.leases import LeaseLostError

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.02
"""Without a word from any trainer, before a trial is asked ahead: trials that began together end together, and
their slots must not wait for it."""

START_SECONDS = 0.1
"""At most, that the books wait for trainers that have just been started."""

POLL_SECONDS = 1.0
"""Between two looks at the study's control and books."""

SWEEP_SECONDS = 30.0
"""Between two looks for what dead agents left behind."""


class Agent:
    """Runs one study in the slots of one pool until its budget is spent or it is told to stop."""

    def __init__(
        self,
        study: str,
        spec: StudySpec,
        store: TrialStore,
        pool: TrainerPool,
        attempts: AttemptTable,
        lease_renewal: LeaseRenewal,
        progress: Progress,
        files: Cleanup,
        interruption: SignalHandler,
        hung_seconds: float,
        timeout_seconds: float | None = None,
    ) -> None:
        """A trainer that says nothing for `hung_seconds` is killed; after `timeout_seconds` the agent ends."""
        self._study = study
        self._spec = spec
        self._store = store
        self._pool = pool
        self._attempts = attempts
        self._lease_renewal = lease_renewal
        self._progress = progress
        self._files = files
        self._interruption = interruption
        self._hung_seconds = hung_seconds
        self._began = time.monotonic()
        self._timeout_at = None if timeout_seconds is None else self._began + timeout_seconds
        self._heard: list[tuple[int, RunningAttempt, Event]] = []
        self._snapshot: StudySnapshot | None = None
        self._finished_before: int | None = None
        self._failing = 0
        self._polled = self._swept = 0.0
        self._shutdown = Shutdown()
        self._paused = False

    def run(self) -> ExitCode:
        """Train until the budget is spent.

        Raises:
            ObjectiveFailedError: the first trials all failed of one bug.
            HpoError: the database stays away, no space is left, or too many trials have failed.
        """
        try:
            while not self._turn():
                pass
        except ObjectiveBrokenError:
            # A signal to all processes of a service ends the template too, and its end is what we saw first.
            if not self._interruption.terminated:
                raise
            self._shutdown.begin(ExitCode.INTERRUPTED, 0.0)
        except StorageUnreachableError as exc:
            # Who was told to end does not wait for it. What could not be given back is somebody's when its lease ends.
            if not self._interruption.received:
                raise
            log.info(str(exc))
            self._shutdown.begin(ExitCode.INTERRUPTED, 0.0)
        finally:
            self._attempts.abandon()
        if self._shutdown.error is not None:
            raise self._shutdown.error
        return self._shutdown.exit_code or ExitCode.DONE

    def _turn(self) -> bool:
        """One round of the loop; True when the agent is done."""
        self._lease_renewal.beat()
        self._shutdown.apply_signals(self._interruption)
        if self._shutdown.begun:
            # Before the database is asked for anything: it may be away, and that take as long as there is left.
            self._attempts.ask_to_yield()
        self._poll()
        self._files.tend(attempt.log for attempt in self._attempts.in_slots.values())
        self._drop_fenced()
        if self._shutdown.begun:
            if not self._attempts.in_slots or self._shutdown.overdue:
                return True
            self._attempts.ask_to_yield()
            self._attempts.give_back_unbegun()
        elif not self._paused:
            self._attempts.fill()
            if self._attempts.spent and not self._attempts.in_slots:
                # No agent may come after this one, so nothing is left to it.
                self._store.sweep(0.0)
                self._files.keep_left_logs(frozenset(), 0.0)
                self._files.tidy()
                return True
        self._pool.check_loading(self._hung_seconds)
        wants_ahead = self._wants_ahead()
        refilled = self._listen(QUIET_SECONDS if wants_ahead else 0.2)
        until = time.monotonic() + START_SECONDS
        while refilled and time.monotonic() < until:
            # What has just been started needs the processor more than the books do.
            refilled = self._listen(QUIET_SECONDS)
        listened = time.monotonic()
        quiet = not self._heard
        self._attend()
        self._end_hung(listened)
        if wants_ahead and quiet:
            self._ask_ahead()
        self._progress.update(self._view())
        return False

    # What the outside wants.

    def _poll(self) -> None:
        now = time.monotonic()
        if now - self._swept >= SWEEP_SECONDS or not self._swept:
            self._swept = now
            self._store.sweep()
            self._files.keep_left_logs(self._attempts.held(), self._store.times.lease_seconds)
            self._files.tidy()
        if now - self._polled < POLL_SECONDS and self._polled:
            return
        self._polled = now
        self._snapshot = self._store.snapshot()
        if self._finished_before is None:
            self._finished_before = self._snapshot.counts.finished
        counts = self._snapshot.counts
        if counts.failing != self._failing and counts.left:
            self._failing = counts.failing
            self._consider_bugs()
        control = self._snapshot.control
        if control == "stop" and not self._shutdown.begun:
            log.info("the study was stopped: hpo launch continues it")
            self._shutdown.stop()
        if self._timeout_at is not None and now >= self._timeout_at and not self._shutdown.begun:
            log.info("the time is up: the same command continues")
            self._shutdown.stop()
        if (control == "pause") != self._paused:
            self._paused = control == "pause"
            self._attempts.hold(paused=self._paused)

    # Asking ahead.

    def _wants_ahead(self) -> bool:
        if self._shutdown.begun or self._paused or self._snapshot is None:
            return False
        return self._attempts.wants_ahead(self._snapshot.counts)

    def _ask_ahead(self) -> None:
        # Maybe not any more, after what has been heard.
        if self._wants_ahead() and self._attempts.ask_ahead():
            assert self._snapshot is not None
            counts = self._snapshot.counts
            self._snapshot = replace(self._snapshot, counts=replace(counts, running=counts.running + 1))

    # What trainers say.

    def _listen(self, seconds: float) -> bool:
        """Keep what trainers say for `_hear`, and fill at once the slots that have fallen free; True if one was."""
        events = self._pool.wait(seconds)
        in_slots = self._attempts.in_slots
        heard = [(slot, in_slots[slot], event) for slot, event in events if slot in in_slots]
        for _, attempt, _ in heard:
            attempt.heard = time.monotonic()
        self._heard += heard
        if self._shutdown.begun or self._paused:
            return False
        filled = [
            slot
            for slot, _, event in heard
            if isinstance(event, Finished) and event.outcome.counts and slot not in self._pool.busy
            if self._attempts.train_spare(slot)
        ]
        for slot in filled:
            self._attempts.place(slot)
        return bool(filled)

    def _attend(self) -> None:
        """Do what all that was heard asks for: at the end of a turn nothing is left, or a trial would seem to run on.

        Books take long beside what a trial may last, so slots that fall free meanwhile are filled in between; what
        is said in answer to that may wait for it to be filled again.
        """
        for listening in (True, True, False):
            heard, self._heard = self._heard, []
            for slot, attempt, event in heard:
                if not attempt.dropped:
                    self._hear(slot, attempt, event)
                if listening:
                    self._listen(0.0)

    def _hear(self, slot: int, attempt: RunningAttempt, event: Event) -> None:
        try:
            match event:
                case Started(pid, resumed_from, history):
                    attempt.started = True
                    self._store.begin(attempt.claim.attempt_id, pid, resumed_from)
                    # Epochs of the checkpoint that a dead agent had not reported yet.
                    self._record(attempt, history)
                case Tick():
                    attempt.tick(event)
                case Epoch(record):
                    self._epoch(slot, attempt, record)
                case Finished():
                    self._finished(slot, attempt, event)
                case TrainerExited():
                    self._died(slot, attempt, event)
                case SpawnFailed(reason):
                    self._unborn(slot, attempt, reason)
        except LeaseLostError as exc:
            self._fenced(slot, attempt, str(exc))

    def _record(self, attempt: RunningAttempt, records: Sequence[EpochRecord]) -> None:
        if not records:
            return
        values = self._store.record(attempt.claim.attempt_id, attempt.trial_id, records)
        attempt.epoch, attempt.fraction = records[-1].epoch, 0.0
        attempt.images_per_second = records[-1].metrics.get("images_per_second", attempt.images_per_second)
        if values:
            attempt.value = values[max(values)]

    def _epoch(self, slot: int, attempt: RunningAttempt, record: EpochRecord) -> None:
        self._record(attempt, [record])
        if 2 * record.epoch >= self._spec.epochs:
            self._attempts.ahead.expected(record.seconds * self._spec.epochs)
        if record.epoch >= self._spec.epochs or self._attempts.in_slots.get(slot) is not attempt:
            return
        if not self._shutdown.begun and self._store.should_prune(attempt.claim.attempt_id, attempt.trial_id):
            self._pool.send(slot, Prune())
        else:
            self._pool.send(slot, Continue(record.epoch))

    def _finished(self, slot: int, attempt: RunningAttempt, finished: Finished) -> None:
        match finished.outcome:
            case Outcome.PREEMPTED:
                self._attempts.give_back(slot, attempt)
                return
            case Outcome.DISK_FULL:
                # Whoever finished the trial in our place removed its folder: no disk of ours is to blame for that.
                self._store.check_held(attempt.claim.attempt_id)
                self._attempts.give_back(slot, attempt)
                self._shutdown.stop(DiskFullError(finished.error))
                return
        if finished.outcome is Outcome.COMPLETE and (
            attempt.value is None or not math.isfinite(attempt.value)
        ):
            # What stands for its last epoch was reported by an earlier attempt, on another machine perhaps.
            finished = replace(finished, outcome=Outcome.DIVERGED, error=f"{self._spec.metric} is not finite")
        value = attempt.value if finished.outcome in (Outcome.COMPLETE, Outcome.PRUNED) else None
        if finished.outcome.counts:
            self._attempts.ahead.trained(time.monotonic() - attempt.began)
        self._store.settle(
            attempt.claim.attempt_id, finished.outcome, value, finished.error, finished.traceback
        )
        self._attempts.drop(slot, attempt)
        self._files.checkpoints_of(attempt.claim.token).delete()
        self._polled = 0.0
        self._tell_user(attempt, finished.outcome, value, finished.error)
        if finished.outcome is Outcome.BUG:
            self._consider_bugs()

    def _died(self, slot: int, attempt: RunningAttempt, death: TrainerExited) -> None:
        if death.terminated:
            self._interruption.await_termination()
        if self._interruption.terminated:
            # Of the same signal, sent to every process of a service: nothing that the trial is to blame for.
            self._attempts.give_back(slot, attempt)
            return
        # Keras's backend crashes where it is refused memory; under a limit that is the likely cause.
        refused = death.crashed and self._attempts.memory_bytes is not None
        outcome = Outcome.OUT_OF_MEMORY if refused or death.out_of_memory else Outcome.LOST
        self._lose(slot, attempt, death.reason, outcome)

    def _unborn(self, slot: int, attempt: RunningAttempt, reason: str) -> None:
        """Nothing that the trial is to blame for: it is given back, and asked for again a little later."""
        self._attempts.give_back(slot, attempt)
        self._attempts.rest(SPAWN_RETRY_SECONDS)
        log.info(f"no process was to be had for trial {attempt.number} ({reason}): it is tried again")

    def _lose(self, slot: int, attempt: RunningAttempt, reason: str, outcome: Outcome) -> None:
        self._store.lose(attempt.claim.attempt_id, reason, outcome)
        self._attempts.drop(slot, attempt)
        log.info(f"trial {attempt.number} lost after {attempt.epoch} epochs: {reason}")
        self._polled = 0.0
        self._consider_bugs()

    def _tell_user(self, attempt: RunningAttempt, outcome: Outcome, value: float | None, error: str) -> None:
        seconds = time.monotonic() - attempt.began
        counts = self._snapshot.counts if self._snapshot is not None else None
        if counts is not None and not outcome.is_failure:
            pruned = int(outcome is not Outcome.COMPLETE)
            counts = replace(counts, complete=counts.complete + 1 - pruned, pruned=counts.pruned + pruned)
            assert self._snapshot is not None
            self._snapshot = replace(self._snapshot, counts=counts)
        self._progress.trial_ended(
            TrialEnd(
                attempt.number,
                outcome,
                value,
                attempt.epoch,
                seconds,
                attempt.params,
                error,
                attempt.claim.attempt_id,
            ),
            counts,
        )

    def _consider_bugs(self) -> None:
        """Stop early where the objective itself is broken, or where nothing ever finishes, whoever saw it."""
        if self._shutdown.begun:
            return
        reason = failure_policy.reason_to_stop(self._store, self._study, self._spec.max_failed)
        if reason is None:
            return
        error, at_once = reason
        if at_once:
            self._shutdown.begin(ExitCode.DONE, 0.0, error)
        else:
            self._shutdown.stop(error)

    # What goes wrong.

    def _drop_fenced(self) -> None:
        fenced = self._lease_renewal.fenced()
        self._attempts.ahead.drop(fenced)
        for slot, attempt in list(self._attempts.in_slots.items()):
            if attempt.claim.attempt_id in fenced:
                self._fenced(slot, attempt)

    def _fenced(self, slot: int, attempt: RunningAttempt, why: str = "") -> None:
        self._attempts.cancel(slot, attempt)
        why = why or f"trial {attempt.number} is trained by another agent now"
        log.info(f"{why}: this attempt was ended")

    def _end_hung(self, listened: float) -> None:
        """Kill who had said nothing for too long when we last listened: before, we may have been kept from it."""
        limit = self._hung_seconds
        if self._paused:
            return
        for slot, attempt in list(self._attempts.in_slots.items()):
            if listened - attempt.heard <= limit:
                continue
            if not self._pool.is_forked(slot):
                # The template is stuck; nothing that the trial is to blame for.
                self._pool.replace_template()
                self._pool.kill(slot)
                self._attempts.give_back(slot, attempt)
                log.info(f"no trainer was started for {limit:.0f} s: its template is replaced")
                continue
            self._pool.kill(slot)
            self._lose(slot, attempt, f"no progress for {limit:.0f} s", Outcome.HUNG)

    # What is shown.

    def _view(self) -> View:
        snapshot = self._snapshot
        assert snapshot is not None
        elapsed = time.monotonic() - self._began
        done_here = snapshot.counts.finished - (self._finished_before or 0)
        eta = elapsed / done_here * snapshot.counts.left if done_here > 0 else None
        note = ""
        if self._lease_renewal.unreachable:
            note = f"training goes on; {self._lease_renewal.unreachable}"
        elif self._paused:
            note = "paused: hpo resume goes on"
        elif self._shutdown.begun:
            note = "stopping: running epochs may end"
        waiting = "" if self._pool.ready else "loading the objective and its data"
        slots = [
            SlotView(device.name, None, note=waiting)
            if slot not in self._attempts.in_slots
            else self._attempts.in_slots[slot].view(device.name, self._spec.epochs)
            for slot, device in enumerate(self._pool.devices)
        ]
        return View(self._study, self._spec.metric, snapshot.counts, snapshot.best, slots, elapsed, eta, note)
