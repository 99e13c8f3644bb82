"""The agent: the one process of a host that talks to the database, and fills its slots with trials.

A single loop claims shares of the study's budget, hands each to a trainer, and turns what trainers
say into rows. Nothing of value lives in its memory: after a SIGKILL the leases run out, or the next
agent on this host sees that it is dead, and every trial goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum

from hpo import broken
from hpo.ahead import Ahead, Prepared
from hpo.books import Books, Standing
from hpo.deaths import Died, Event, Unborn
from hpo.errors import DiskFullError, HpoError, ObjectiveBrokenError
from hpo.housekeeping import Housekeeping
from hpo.interruption import Interruption
from hpo.job import Job
from hpo.lease_keeper import LeaseKeeper
from hpo.messages import (
    Epoch,
    EpochRecord,
    Finished,
    Go,
    Hold,
    Prune,
    Resume,
    Start,
    Started,
    Tick,
    Yield,
)
from hpo.pool import TrainerPool
from hpo.progress import Progress, SlotView, TrialEnd, View
from hpo.spec import StudySpec
from storage.budget import FINISHED, NEXT, Claim, NoWork
from storage.leases import LeaseLostError

LEAST_LOADING_SECONDS = 300.0
"""Importing a framework and reading data may take minutes on a busy machine, however short epochs are."""

QUIET_SECONDS = 0.02
"""Without a word from any trainer, before a trial is asked ahead: trials that began together end together, and
their slots must not wait for it."""

START_SECONDS = 0.1
"""At most, that the books wait for trainers that have just been started."""

UNBORN_SECONDS = 3.0
"""Before a trainer is asked for again, when none could be made."""

SIGTERM_SECONDS = 0.5
"""Where every process of a service is told to end, the agent may be told last."""


@dataclass(frozen=True)
class AgentTimes:
    """How patient an agent is."""

    poll_seconds: float = 1.0
    """Between two looks at the study's control and books."""
    sweep_seconds: float = 30.0
    """Between two looks for what dead agents left behind."""
    interrupt_grace_seconds: float = 60.0
    """After one Ctrl-C: for running epochs to end."""
    stop_grace_seconds: float = 7.0
    """After SIGTERM or `hpo stop`: containers are killed after 10 s, and giving all back takes time too."""
    hung_seconds: float = 1800.0
    """Without a word from a trainer, after which it is killed."""


def loading_seconds(hung_seconds: float) -> float:
    """How long the objective and its data may take to load: `--hung-after`, but never so little that imports fail."""
    return max(hung_seconds, LEAST_LOADING_SECONDS)


class Ending(IntEnum):
    """Why an agent ends, and with which exit code."""

    DONE = 0
    INTERRUPTED = 130


class Agent:
    """Runs one study in the slots of one pool until its budget is spent or it is told to stop."""

    def __init__(
        self,
        study: str,
        spec: StudySpec,
        books: Books,
        pool: TrainerPool,
        keeper: LeaseKeeper,
        progress: Progress,
        files: Housekeeping,
        times: AgentTimes,
        interruption: Interruption,
        timeout_seconds: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._study = study
        self._spec = spec
        self._books = books
        self._pool = pool
        self._keeper = keeper
        self._progress = progress
        self._files = files
        self._times = times
        self._interruption = interruption
        self._memory_bytes = memory_bytes
        self._began = time.monotonic()
        self._timeout_at = None if timeout_seconds is None else self._began + timeout_seconds
        self._jobs: dict[int, Job] = {}
        self._ahead = Ahead(len(pool.devices))
        self._heard: list[tuple[int, Job, Event]] = []
        self._standing: Standing | None = None
        self._finished_before: int | None = None
        self._polled = self._swept = 0.0
        self._ending: Ending | None = None
        self._deadline = 0.0
        self._paused = False
        self._spent = False
        self._idle_until = 0.0
        self._stopping_error: HpoError | None = None

    def held(self) -> frozenset[int]:
        """The attempts this agent believes it holds; called from the lease keeper's thread."""
        # Of the two, the spares first: one that becomes a job meanwhile is seen twice, not missed.
        claims = [spare.claim for spare in self._ahead]
        claims += [job.claim for job in list(self._jobs.values())]
        return frozenset(claim.attempt_id for claim in claims)

    def bound_logs(self) -> None:
        """Cut what running attempts have printed to size, while the database cannot take it."""
        for job in list(self._jobs.values()):
            job.log.bound()

    def run(self) -> Ending:
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
            self._end(Ending.INTERRUPTED, 0.0)
        finally:
            self._abandon_all()
        if self._stopping_error is not None:
            raise self._stopping_error
        return self._ending or Ending.DONE

    def _turn(self) -> bool:
        """One round of the loop; True when the agent is done."""
        self._heed_signals()
        self._poll()
        self._files.tend(job.log for job in self._jobs.values())
        self._drop_fenced()
        if self._ending is not None:
            if self._jobs and time.monotonic() < self._deadline:
                # Trainers first: the database may be away, and what is asked of it take as long as there is left.
                self._yield_all()
                self._return_spares()
            else:
                return True
        elif not self._paused:
            self._fill()
            if self._spent and not self._jobs:
                # No agent may come after this one, so nothing is left to it.
                self._books.sweep(0.0)
                self._files.tidy()
                return True
        self._pool.check_loading(loading_seconds(self._times.hung_seconds))
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

    def _heed_signals(self) -> None:
        """Ctrl-C once: let running epochs end; twice: at once. SIGTERM: within 10 s."""
        if not self._interruption.received:
            return
        if self._interruption.terminated:
            self._end(Ending.INTERRUPTED, self._times.stop_grace_seconds)
        elif len(self._interruption.received) == 1:
            if self._ending is None:
                self._progress.say(
                    f"interrupted: running epochs may end (at most {self._times.interrupt_grace_seconds:.0f} s);"
                    " Ctrl-C again to stop at once. The same command continues."
                )
            self._end(Ending.INTERRUPTED, self._times.interrupt_grace_seconds)
        else:
            self._end(Ending.INTERRUPTED, 0.0)

    def _end(self, ending: Ending, grace_seconds: float, error: HpoError | None = None) -> None:
        deadline = time.monotonic() + grace_seconds
        if self._ending is None:
            self._ending, self._deadline = ending, deadline
            self._stopping_error = error
        else:
            self._deadline = min(self._deadline, deadline)

    def _poll(self) -> None:
        now = time.monotonic()
        if now - self._swept >= self._times.sweep_seconds or not self._swept:
            self._swept = now
            self._files.keep_logs_of(self._books.sweep())
            self._files.tidy()
        if now - self._polled < self._times.poll_seconds and self._polled:
            return
        self._polled = now
        self._standing = self._books.standing()
        if self._finished_before is None:
            self._finished_before = self._standing.counts.finished
        control = self._standing.control
        if control == "stop" and self._ending is None:
            self._progress.say("the study was stopped: hpo launch continues it")
            self._end(Ending.DONE, self._times.stop_grace_seconds)
        if self._timeout_at is not None and now >= self._timeout_at and self._ending is None:
            self._progress.say("the time is up: the same command continues")
            self._end(Ending.DONE, self._times.stop_grace_seconds)
        if (control == "pause") != self._paused:
            self._paused = control == "pause"
            for slot in self._jobs:
                self._pool.send(slot, Hold() if self._paused else Resume())
            for job in self._jobs.values():
                job.heard = now

    def _yield_all(self) -> None:
        for slot, job in list(self._jobs.items()):
            if not job.started:
                self._pool.kill(slot)
                self._books.release(job.claim.attempt_id)
                self._drop(slot, job)
            elif not job.yielding:
                job.yielding = True
                self._pool.send(slot, Yield())

    # Filling slots.

    def _fill(self) -> None:
        if not self._pool.ready or self._ending is not None or time.monotonic() < self._idle_until:
            return
        for slot in self._pool.free_slots():
            if slot in self._jobs:
                continue
            if self._train_spare(slot):
                self._place(slot)
                continue
            began = time.monotonic()
            claim = self._books.claim(slot, self._pool.devices[slot].owns)
            self._spent = claim is NoWork.DONE
            if isinstance(claim, NoWork):
                self._idle_until = time.monotonic() + self._times.poll_seconds
                if claim is NoWork.ELSEWHERE:
                    # A claim of another slot whose answer was lost may be among them: it is asked too.
                    continue
                return
            # Lost while it was being sampled: whoever has it now sees to it.
            with suppress(LeaseLostError):
                self._train(slot, self._prepare(claim))
                self._ahead.asked(time.monotonic() - began)

    def _wants_ahead(self) -> bool:
        if self._ending is not None or self._paused or self._standing is None:
            return False
        if len(self._jobs) < len(self._pool.devices) or time.monotonic() < self._idle_until:
            return False
        return self._ahead.is_wanted(self._standing.counts)

    def _ask_ahead(self) -> None:
        """Have the next trials ready when slots fall free, if trials are so short that it matters."""
        if not self._wants_ahead():
            # Not after what has been heard since.
            return
        began = time.monotonic()
        place = self._ahead.free_place()
        claim = self._books.claim(place, NEXT)
        if not isinstance(claim, Claim):
            self._idle_until = time.monotonic() + self._times.poll_seconds
            return
        with suppress(LeaseLostError):
            self._ahead.add(place, self._prepare(claim))
            self._ahead.asked(time.monotonic() - began)
            assert self._standing is not None
            counts = self._standing.counts
            self._standing = replace(self._standing, counts=replace(counts, running=counts.running + 1))

    def _listen(self, seconds: float) -> bool:
        """Keep what trainers say for `_hear`, and fill at once the slots that have fallen free; True if one was."""
        events = self._pool.wait(seconds)
        heard = [(slot, self._jobs[slot], event) for slot, event in events if slot in self._jobs]
        for _, job, _ in heard:
            job.heard = time.monotonic()
        self._heard += heard
        if self._ending is not None or self._paused:
            return False
        filled = [
            slot
            for slot, _, event in heard
            if isinstance(event, Finished) and event.outcome in FINISHED and slot not in self._pool.busy
            if self._train_spare(slot)
        ]
        for slot in filled:
            self._place(slot)
        return bool(filled)

    def _return_spares(self) -> None:
        """Other agents may train at once what was asked ahead here."""
        spares = list(self._ahead)
        self._ahead.drop({spare.claim.attempt_id for spare in spares})
        for spare in spares:
            self._books.release(spare.claim.attempt_id)

    def _train_spare(self, slot: int) -> bool:
        """Train in a free slot what was asked ahead, if anything was; its books are for `_place`."""
        spare = next(iter(self._ahead), None)
        if spare is None:
            return False
        self._train(slot, spare)
        # Not before it is a job: an attempt that is neither would not have its lease renewed.
        self._ahead.drop({spare.claim.attempt_id})
        return True

    def _place(self, slot: int) -> None:
        """Note where an attempt is trained that was asked ahead, or end it: an idle agent may have taken its trial."""
        job = self._jobs[slot]
        try:
            self._books.place(job.claim.attempt_id, slot, self._pool.devices[slot].owns)
        except LeaseLostError:
            self._pool.kill(slot)
            self._drop(slot, job)

    def _prepare(self, claim: Claim) -> Prepared:
        if claim.params is None or claim.untrained:
            # Never trained: what lies there is of another database, whose shares had the same numbers.
            folder = self._files.checkpoints_of(claim.token)
            self._books.while_held(claim.attempt_id, folder.delete)
        return Prepared(claim, *self._books.sample(claim))

    def _train(self, slot: int, prepared: Prepared) -> None:
        claim, params = prepared.claim, prepared.params
        log = self._files.log_of(prepared.number, claim.attempt_id)
        job = self._jobs[slot] = Job(claim, prepared.trial_id, prepared.number, params, log)
        self._pool.start(
            slot,
            Start(
                params=params,
                seed=claim.seed,
                epochs=self._spec.epochs,
                metric=self._spec.metric,
                device=self._pool.devices[slot],
                checkpoints=str(self._files.checkpoints_of(claim.token).path),
                log=str(log.path),
                memory_bytes=self._memory_bytes,
            ),
        )
        job.heard = time.monotonic()

    # What trainers say.

    def _attend(self) -> None:
        """Do what all that was heard asks for: at the end of a turn nothing is left, or a trial would seem to run on.

        Books take long beside what a trial may last, so slots that fall free meanwhile are filled in between; what
        is said in answer to that may wait for it to be filled again.
        """
        for listening in (True, True, False):
            heard, self._heard = self._heard, []
            for slot, job, event in heard:
                if not job.dropped:
                    self._hear(slot, job, event)
                if listening:
                    self._listen(0.0)

    def _hear(self, slot: int, job: Job, event: Event) -> None:
        try:
            match event:
                case Started(pid, resumed_from, history):
                    job.started = True
                    self._books.begin(job.claim.attempt_id, pid, resumed_from)
                    # Epochs of the checkpoint that a dead agent had not reported yet.
                    self._record(job, history)
                case Tick():
                    job.tick(event)
                case Epoch(record):
                    self._epoch(slot, job, record)
                case Finished():
                    self._finished(slot, job, event)
                case Died():
                    self._died(slot, job, event)
                case Unborn(reason):
                    self._unborn(slot, job, reason)
        except LeaseLostError as exc:
            self._fenced(slot, job, str(exc))

    def _record(self, job: Job, records: Sequence[EpochRecord]) -> None:
        if not records:
            return
        values = self._books.record(job.claim.attempt_id, job.trial_id, records)
        job.epoch, job.fraction = records[-1].epoch, 0.0
        job.images_per_second = records[-1].metrics.get("images_per_second", job.images_per_second)
        if values:
            job.value = values[max(values)]

    def _epoch(self, slot: int, job: Job, record: EpochRecord) -> None:
        self._record(job, [record])
        if 2 * record.epoch >= self._spec.epochs:
            self._ahead.expected(record.seconds * self._spec.epochs)
        if record.epoch >= self._spec.epochs or self._jobs.get(slot) is not job:
            return
        if self._ending is None and self._books.should_prune(job.trial_id):
            self._pool.send(slot, Prune())
        else:
            self._pool.send(slot, Go(record.epoch))

    def _finished(self, slot: int, job: Job, finished: Finished) -> None:
        match finished.outcome:
            case "yielded":
                self._books.release(job.claim.attempt_id)
                self._drop(slot, job)
                return
            case "disk":
                self._books.release(job.claim.attempt_id)
                self._drop(slot, job)
                self._end(Ending.DONE, self._times.stop_grace_seconds, DiskFullError(finished.error))
                return
        if finished.outcome == "complete" and (job.value is None or not math.isfinite(job.value)):
            # What stands for its last epoch was reported by an earlier attempt, on another machine perhaps.
            finished = replace(finished, outcome="diverged", error=f"{self._spec.metric} is not finite")
        value = job.value if finished.outcome in ("complete", "pruned") else None
        if finished.outcome in FINISHED:
            self._ahead.trained(time.monotonic() - job.began)
        self._books.settle(job.claim.attempt_id, finished.outcome, value, finished.error, finished.traceback)
        self._drop(slot, job)
        self._files.checkpoints_of(job.claim.token).delete()
        self._polled = 0.0
        self._tell_user(job, finished.outcome, value, finished.error)
        if finished.outcome == "bug":
            self._consider_bugs()

    def _died(self, slot: int, job: Job, death: Died) -> None:
        if death.terminated:
            self._await_sigterm()
        if self._interruption.terminated:
            # Of the same signal, sent to every process of a service: nothing that the trial is to blame for.
            self._books.release(job.claim.attempt_id)
            self._drop(slot, job)
            return
        # Keras's backend crashes where it is refused memory; under a limit that is the likely cause.
        refused = death.crashed and self._memory_bytes is not None
        self._lose(slot, job, death.reason, "oom" if refused else "lost")

    def _unborn(self, slot: int, job: Job, reason: str) -> None:
        """Nothing that the trial is to blame for: it is given back, and asked for again a little later."""
        self._books.release(job.claim.attempt_id)
        self._drop(slot, job)
        self._idle_until = time.monotonic() + UNBORN_SECONDS
        self._progress.say(f"no process was to be had for trial {job.number} ({reason}): it is tried again")

    def _await_sigterm(self) -> None:
        """Our own may come a moment after the trainer's, where all processes are told to end."""
        until = time.monotonic() + SIGTERM_SECONDS
        while not self._interruption.terminated and time.monotonic() < until:
            time.sleep(0.02)

    def _lose(self, slot: int, job: Job, reason: str, kind: str) -> None:
        self._books.lose(job.claim.attempt_id, reason, kind)
        self._drop(slot, job)
        self._progress.say(f"trial {job.number} lost after {job.epoch} epochs: {reason}")
        self._polled = 0.0
        self._consider_bugs()

    def _tell_user(self, job: Job, outcome: str, value: float | None, error: str) -> None:
        seconds = time.monotonic() - job.began
        counts = self._standing.counts if self._standing is not None else None
        if counts is not None and outcome not in ("bug", "hung"):
            pruned = int(outcome != "complete")
            counts = replace(counts, complete=counts.complete + 1 - pruned, pruned=counts.pruned + pruned)
            assert self._standing is not None
            self._standing = replace(self._standing, counts=counts)
        self._progress.trial_ended(
            TrialEnd(job.number, outcome, value, job.epoch, seconds, job.params, error), counts
        )

    def _consider_bugs(self) -> None:
        """Stop early where the objective itself is broken, or where nothing ever finishes."""
        if error := broken.same_bug(self._books, self._study, self._spec.max_failed):
            self._end(Ending.DONE, 0.0, error)
        elif error := broken.too_many(self._books, self._study, self._spec.max_failed):
            self._end(Ending.DONE, self._times.stop_grace_seconds, error)

    # What goes wrong.

    def _drop_fenced(self) -> None:
        fenced = self._keeper.fenced()
        self._ahead.drop(fenced)
        for slot, job in list(self._jobs.items()):
            if job.claim.attempt_id in fenced:
                self._fenced(slot, job)

    def _fenced(self, slot: int, job: Job, why: str = "") -> None:
        if self._jobs.get(slot) is job:
            self._pool.kill(slot)
        self._drop(slot, job)
        why = why or f"trial {job.number} is trained by another agent now"
        self._progress.say(f"{why}: this attempt was ended")

    def _end_hung(self, listened: float) -> None:
        """Kill who had said nothing for too long when we last listened: before, we may have been kept from it."""
        limit = self._times.hung_seconds
        if self._paused:
            return
        for slot, job in list(self._jobs.items()):
            if listened - job.heard <= limit:
                continue
            if not self._pool.is_forked(slot):
                # The template is stuck; nothing that the trial is to blame for.
                self._pool.replace_template()
                self._pool.kill(slot)
                self._books.release(job.claim.attempt_id)
                self._drop(slot, job)
                self._progress.say(f"no trainer was started for {limit:.0f} s: its template is replaced")
                continue
            self._pool.kill(slot)
            self._lose(slot, job, f"no progress for {limit:.0f} s", "hung")

    def _drop(self, slot: int, job: Job) -> None:
        """The attempt has ended: nothing of it stays here but what is in the database."""
        self._idle_until = 0.0
        job.dropped = True
        # The slot may have the next trial already.
        if self._jobs.get(slot) is job:
            del self._jobs[slot]
        job.log.close()

    def _abandon_all(self) -> None:
        """End what still runs at its last checkpoint, and release it for others."""
        for slot in self._jobs:
            self._pool.kill(slot)
        # Where the database is away, the leases run out instead.
        with suppress(HpoError):
            # All leases before any log: time may be short.
            for attempt_id in self.held():
                self._books.release(attempt_id)
            for slot, job in list(self._jobs.items()):
                self._drop(slot, job)
        self._jobs.clear()

    # What is shown.

    def _view(self) -> View:
        standing = self._standing
        assert standing is not None
        elapsed = time.monotonic() - self._began
        done_here = standing.counts.finished - (self._finished_before or 0)
        eta = elapsed / done_here * standing.counts.left if done_here > 0 else None
        note = ""
        if self._keeper.unreachable:
            note = f"training goes on; {self._keeper.unreachable}"
        elif self._paused:
            note = "paused: hpo resume goes on"
        elif self._ending is not None:
            note = "stopping: running epochs may end"
        waiting = "" if self._pool.ready else "loading the objective and its data"
        slots = [
            SlotView(device.name, None, note=waiting)
            if slot not in self._jobs
            else self._jobs[slot].view(device.name, self._spec.epochs)
            for slot, device in enumerate(self._pool.devices)
        ]
        return View(self._study, self._spec.metric, standing.counts, standing.best, slots, elapsed, eta, note)
