"""The supervision of trainers that searching and retraining share.

A `Supervisor` fills the slots of a pool, listens to its trainers, ends the ones that hang and shuts down after a
signal. A `Workload` chooses the runs and keeps their results.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Generic

from hpo.errors import ObjectiveBrokenError, StorageUnreachableError
from hpo.outcomes import Outcome
from hpo.process.listening_clock import ListeningClock
from hpo.process.shutdown import ExitCode, Shutdown
from hpo.process.signals import SignalHandler
from hpo.trainer.ends.exits import Blame, Event, SpawnFailed, TrainerExited
from hpo.trainer.ends.overdue import OverdueTrainers, report_overdue
from hpo.trainer.ends.shared_ends import SharedEnds
from hpo.trainer.first_step import FirstStepWatch
from hpo.trainer.messages import (
    Annotate,
    Command,
    Constrain,
    Ending,
    Epoch,
    Finished,
    Held,
    Measure,
    Start,
    Started,
    Suggest,
    Tick,
    ToTrainer,
)
from hpo.trainer.pool import TrainerPool
from hpo.trainer.workload import R, Workload

log = logging.getLogger(__name__)

LISTEN_SECONDS = 0.2
"""Longest wait for the next event of a trainer."""

QUIET_SECONDS = 0.02
"""Time without an event after which trainers count as busy: trials that begin together end together."""

START_SECONDS = 0.1
"""Longest time that a trainer which has just started gets the processor before events are handled."""

SPAWN_RETRY_SECONDS = 3.0
"""Time before a trainer is requested again after the host could not start one."""


class Supervisor(Generic[R]):
    """One loop over the trainers of a pool."""

    def __init__(
        self,
        pool: TrainerPool,
        signals: SignalHandler,
        *,
        hung_seconds: float,
        memory_bytes: int | None = None,
    ) -> None:
        """Kill trainers without progress for `hung_seconds`; `memory_bytes` limits each of them."""
        self.pool = pool
        self.shutdown = Shutdown()
        self.in_slots: dict[int, R] = {}
        self.paused = False
        self._signals = signals
        self._hung_seconds = pool.lanes.hung_seconds = hung_seconds
        self.memory_bytes = memory_bytes
        self._events: list[tuple[int, R, Event]] = []
        self._retry_at = 0.0
        self._first_step = FirstStepWatch()
        self._shared_ends = SharedEnds()
        self._overdue = OverdueTrainers(pool, self.in_slots, hung_seconds, self._shared_ends)
        self._clock = ListeningClock()
        self.listened_at = 0.0
        """Time when events of trainers were last read, by a clock that leaves out the time in which none could be."""

    def run(self, work: Workload[R]) -> None:
        """Loop until all work is done or a shutdown has ended it.

        Raises:
            HpoError: the objective is broken, or the database stays unreachable.
        """
        try:
            while not self._turn(work):
                pass
        except ObjectiveBrokenError:
            # A signal to all processes of a service ends the template too, and its end may be seen first.
            if not self._signals.terminated:
                raise
            self.shutdown.begin(ExitCode.INTERRUPTED, 0.0)
        except StorageUnreachableError as exc:
            # An interrupted process does not wait for the database: leases that cannot be released expire.
            if not self._signals.received:
                raise
            log.warning(str(exc))
            self.shutdown.begin(ExitCode.INTERRUPTED, 0.0)

    # Slots.

    def free_slots(self) -> list[int]:
        if not self.pool.ready or self.shutdown.begun or time.monotonic() < self._retry_at:
            return []
        return [slot for slot in self.pool.free_slots() if slot not in self.in_slots]

    def start(self, slot: int, run: R, start: Start) -> None:
        run.started = run.preempted = run.pruned = run.detached = False
        run.ending_at = None
        run.progressed()
        self.in_slots[slot] = run
        run.place = start.checkpoints
        self.pool.start(slot, replace(start, alone=self._shared_ends.trains_alone(run)))
        run.heard_at = self._clock.now()

    def send(self, slot: int, run: R, message: ToTrainer) -> None:
        """Send a message to a run's trainer; the next run may have its slot, because events are handled later."""
        if self.in_slots.get(slot) is run:
            self.pool.send(slot, message)

    def detach(self, slot: int, run: R) -> None:
        """Remove a run from its slot, which may have the next run already."""
        run.detached = True
        if self.in_slots.get(slot) is run:
            del self.in_slots[slot]

    def kill(self, slot: int, run: R) -> None:
        if self.in_slots.get(slot) is run:
            self.pool.kill(slot)
        self.detach(slot, run)

    def kill_all(self) -> None:
        """Kill all trainers; their runs stay in their slots."""
        self.pool.kill_all()

    def pause(self, *, paused: bool) -> None:
        """Make all trainers wait at their next batch, or resume them."""
        self.paused = paused
        for slot, run in self.in_slots.items():
            self.pool.send(slot, Command.PAUSE if paused else Command.RESUME)
            run.heard_at = self._clock.now()
            self._first_step.restart(run, run.heard_at)

    # The loop.

    def _turn(self, work: Workload[R]) -> bool:
        """Run one turn of the loop; return True when it is over."""
        self.shutdown.apply_signals(self._signals)
        if self.shutdown.begun:
            # Before `poll`: the database may be unreachable for all the time that is left.
            self._preempt()
        work.poll()
        if self.shutdown.begun:
            if self.shutdown.overdue:
                report_overdue(self.in_slots.values(), self.shutdown.grace_seconds)
                return True
            if not self.in_slots:
                return True
            self._preempt()
            self._release_unstarted(work)
        elif not self.paused and work.schedule():
            return True
        self.pool.check_loading(self._hung_seconds)
        self._supervise(work)
        work.show()
        return False

    def _preempt(self) -> None:
        """Make all trainers end after their epoch; this does not need the database."""
        for slot, run in self.in_slots.items():
            if not run.started:
                self.pool.kill(slot)
            else:
                self._ask_to_end(slot, run)

    def _ask_to_end(self, slot: int, run: R) -> None:
        if not run.preempted:
            run.preempted = True
            self.pool.send(slot, Command.PREEMPT)

    def _empty_retiring(self) -> None:
        """Make the runs of processes that are to be replaced end after their epoch: the next ones resume them.

        Otherwise lanes would wait until the last trial of their process has ended.
        """
        for slot in self.pool.lanes.retiring:
            if (run := self.in_slots.get(slot)) is not None and run.started:
                self._ask_to_end(slot, run)

    def _release_unstarted(self, work: Workload[R]) -> None:
        for slot, run in list(self.in_slots.items()):
            if not run.started:
                work.release(slot, run)
        work.release_queued()

    def _supervise(self, work: Workload[R]) -> None:
        wants_prefetch = self._wants_prefetch(work)
        refilled = self._listen(work, QUIET_SECONDS if wants_prefetch else LISTEN_SECONDS)
        until = time.monotonic() + START_SECONDS
        while refilled and time.monotonic() < until:
            # A trainer that has just started needs the processor more than the database does.
            refilled = self._listen(work, QUIET_SECONDS)
        listened_at = self.listened_at
        quiet = not self._events
        self._handle_events(work)
        self._overdue.end_late(work, listened_at)
        if not self.paused:
            self._first_step.report(self.in_slots.values(), listened_at, self._hung_seconds)
            self._overdue.end_silent(work, listened_at)
            self._empty_retiring()
        if quiet and wants_prefetch and self._wants_prefetch(work):
            work.prefetch()

    def _wants_prefetch(self, work: Workload[R]) -> bool:
        idle = self.shutdown.begun or self.paused or time.monotonic() < self._retry_at
        return not idle and len(self.in_slots) == len(self.pool.devices) and work.wants_prefetch()

    def _listen(self, work: Workload[R], seconds: float) -> bool:
        """Collect events and refill slots that have become free; return True if one was refilled."""
        events = [(slot, event) for slot, event in self.pool.wait(seconds) if slot in self.in_slots]
        now = self.listened_at = self._clock.now()
        for slot, event in events:
            run = self.in_slots[slot]
            run.heard_at = now
            self._events.append((slot, run, event))
        if self.shutdown.begun or self.paused:
            return False
        finished = [(slot, event) for slot, event in events if isinstance(event, Finished)]
        return work.refill([(slot, event) for slot, event in finished if slot not in self.pool.busy])

    def _handle_events(self, work: Workload[R]) -> None:
        """Handle all events, so that no run seems to go on that has ended.

        The database is slow compared with a short trial, so slots that become free meanwhile are refilled in between.
        """
        for listening in (True, True, False):
            events, self._events = self._events, []
            for slot, run, event in events:
                if not run.detached:
                    with work.fencing(slot, run):
                        self._handle(work, slot, run, event)
                if listening:
                    self._listen(work, 0.0)

    def _handle(self, work: Workload[R], slot: int, run: R, event: Event) -> None:
        self._first_step.note(run, event, self.listened_at)
        match event:
            case Started(pid, resumed_from):
                run.started = True
                progress = f"resumes after epoch {resumed_from}" if resumed_from else "starts"
                log.debug(f"process {pid} {progress}", extra=run.context)
                work.on_started(slot, run, event)
            case Tick():
                run.tick(event)
            case Held():
                if self.paused:
                    work.on_held(slot, run)
            case Ending():
                run.ending_at = run.ending_at or self.listened_at
            case Epoch(record):
                log.debug(f"epoch {record.epoch} took {record.seconds:.2f} s", extra=run.context)
                work.on_epoch(slot, run, record)
            case Suggest():
                if (answer := work.on_suggest(slot, run, event)) is not None:
                    self.send(slot, run, answer)
            case Annotate() | Constrain() | Measure():
                work.on_annotated(slot, run, event)
            case Finished() if event.shared:
                self._shared_ends.end(work, slot, run, event.error, blamed=True)
            case Finished():
                work.on_finished(slot, run, event)
            case TrainerExited():
                self._handle_exit(work, slot, run, event)
            case SpawnFailed(reason):
                work.release(slot, run)
                self._retry_at = time.monotonic() + SPAWN_RETRY_SECONDS
                log.warning(f"could not start a process ({reason}); retrying", extra=run.context)

    def _handle_exit(self, work: Workload[R], slot: int, run: R, exited: TrainerExited) -> None:
        if exited.terminated:
            self._signals.await_termination()
        if self._signals.terminated:
            # The same signal, sent to every process of a service, has ended the trainer.
            work.release(slot, run)
            return
        # Keras's backend crashes if it is refused memory; under a limit that is the likely cause.
        refused = exited.crashed and self.memory_bytes is not None
        outcome = Outcome.OUT_OF_MEMORY if refused or exited.out_of_memory else Outcome.LOST
        if run.pruned or run.preempted:
            log.warning(f"{exited.reason}, after it was asked to end", extra=run.context)
            work.on_killed(slot, run)
        elif exited.blame is Blame.OWN:
            work.on_lost(slot, run, exited.reason, outcome)
        else:
            self._shared_ends.end(work, slot, run, exited.reason, blamed=exited.blame is Blame.SHARED)
