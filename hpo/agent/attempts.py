"""All attempts that an agent holds: those being trained in its slots, and those asked ahead for them."""

from __future__ import annotations

import time
from contextlib import suppress

from hpo.agent.attempt import RunningAttempt
from hpo.agent.cleanup import Cleanup
from hpo.agent.prefetch import PrefetchedTrial, Prefetcher
from hpo.agent.trial_store import TrialStore
from hpo.errors import HpoError
from hpo.search.spec import StudySpec
from hpo.trainer.messages import Pause, Preempt, Resume, Start
from hpo.trainer.pool import TrainerPool
from storage.budget import NEXT, Claim, Counts, NoWork
from storage.leases import LeaseLostError

CLAIM_AGAIN_SECONDS = 1.0
"""Before the budget is asked for more work, when it had none."""


class AttemptTable:
    """Claims shares of the budget and trains them in slots; what is held here is somebody's until it is dropped."""

    def __init__(
        self,
        spec: StudySpec,
        store: TrialStore,
        pool: TrainerPool,
        files: Cleanup,
        memory_bytes: int | None = None,
    ) -> None:
        self._spec = spec
        self._store = store
        self._pool = pool
        self._files = files
        self.memory_bytes = memory_bytes
        """Each trainer's limit."""
        self.in_slots: dict[int, RunningAttempt] = {}
        self.ahead = Prefetcher(len(pool.devices))
        self.spent = False
        """Whether the budget had no work left when it was last asked: none to claim, and none to wait for."""
        self._idle_until = 0.0

    def held(self) -> frozenset[int]:
        """The attempts this agent believes it holds; called from the lease keeper's thread."""
        # Of the two, the spares first: one that becomes a job meanwhile is seen twice, not missed.
        claims = [spare.claim for spare in self.ahead]
        claims += [attempt.claim for attempt in list(self.in_slots.values())]
        return frozenset(claim.attempt_id for claim in claims)

    def bound_logs(self) -> None:
        """Cut what running attempts and the template have printed to size, while nobody listens to them."""
        self._pool.bound_log()
        for attempt in list(self.in_slots.values()):
            attempt.log.truncate()

    # Filling slots.

    def fill(self) -> None:
        """A trial for each free slot, as far as the budget goes."""
        if not self._pool.ready or self._idle:
            return
        for slot in self._pool.free_slots():
            if slot in self.in_slots:
                continue
            if self.train_spare(slot):
                self.place(slot)
                continue
            began = time.monotonic()
            claim = self._store.claim(slot, self._pool.devices[slot].owns)
            self.spent = claim is NoWork.DONE
            if isinstance(claim, NoWork):
                self.rest(CLAIM_AGAIN_SECONDS)
                if claim is NoWork.ELSEWHERE:
                    # A claim of another slot whose answer was lost may be among them: it is asked too.
                    continue
                return
            # Lost while it was being sampled: whoever has it now sees to it.
            with suppress(LeaseLostError):
                self._train(slot, self._prepare(claim))
                self.ahead.asked(time.monotonic() - began)

    def wants_ahead(self, counts: Counts) -> bool:
        """Whether trials are so short that the next ones should be ready when slots fall free."""
        all_busy = len(self.in_slots) == len(self._pool.devices)
        return all_busy and not self._idle and self.ahead.is_wanted(counts)

    def ask_ahead(self) -> bool:
        """Claim and sample a trial for whichever slot falls free next; False if there was none."""
        began = time.monotonic()
        place = self.ahead.free_place()
        claim = self._store.claim(place, NEXT)
        if not isinstance(claim, Claim):
            self.rest(CLAIM_AGAIN_SECONDS)
            return False
        with suppress(LeaseLostError):
            self.ahead.add(place, self._prepare(claim))
            self.ahead.asked(time.monotonic() - began)
            return True
        return False

    def train_spare(self, slot: int) -> bool:
        """Train in a free slot what was asked ahead, if anything was; its books are for `place`."""
        spare = next(iter(self.ahead), None)
        if spare is None:
            return False
        self._train(slot, spare)
        # Not before it is a job: an attempt that is neither would not have its lease renewed.
        self.ahead.drop({spare.claim.attempt_id})
        return True

    def place(self, slot: int) -> None:
        """Note where an attempt is trained that was asked ahead, or end it: an idle agent may have taken its trial."""
        attempt = self.in_slots[slot]
        try:
            self._store.place(attempt.claim.attempt_id, slot, self._pool.devices[slot].owns)
        except LeaseLostError:
            self.cancel(slot, attempt)

    def rest(self, seconds: float) -> None:
        """Claim nothing for so long, unless a slot falls free before."""
        self._idle_until = time.monotonic() + seconds

    @property
    def _idle(self) -> bool:
        return time.monotonic() < self._idle_until

    def _prepare(self, claim: Claim) -> PrefetchedTrial:
        if claim.params is None or claim.untrained:
            # Never trained: what lies there is of another database, whose shares had the same numbers.
            folder = self._files.checkpoints_of(claim.token)
            self._store.while_held(claim.attempt_id, folder.delete)
        return PrefetchedTrial(claim, *self._store.sample(claim))

    def _train(self, slot: int, prepared: PrefetchedTrial) -> None:
        claim, params = prepared.claim, prepared.params
        log = self._files.new_log(prepared.number, claim.attempt_id)
        attempt = self.in_slots[slot] = RunningAttempt(claim, prepared.trial_id, prepared.number, params, log)
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
                memory_bytes=self.memory_bytes,
                keeps_end=True,
            ),
        )
        attempt.heard = time.monotonic()

    # Letting go of them.

    def drop(self, slot: int, attempt: RunningAttempt) -> None:
        """The attempt has ended: nothing of it stays here but what is in the database."""
        self._idle_until = 0.0
        attempt.dropped = True
        # The slot may have the next trial already.
        if self.in_slots.get(slot) is attempt:
            del self.in_slots[slot]
        attempt.log.close()

    def cancel(self, slot: int, attempt: RunningAttempt) -> None:
        """End an attempt that is another agent's now."""
        if self.in_slots.get(slot) is attempt:
            self._pool.kill(slot)
        self.drop(slot, attempt)

    def give_back(self, slot: int, attempt: RunningAttempt) -> None:
        """The attempt has ended, or is ended here, through no fault of its trial: any agent goes on with it."""
        self._store.release(attempt.claim.attempt_id)
        self.drop(slot, attempt)

    def give_back_unbegun(self) -> None:
        """Other agents may train at once what was asked ahead here, or asked to yield before it had begun."""
        for slot, attempt in list(self.in_slots.items()):
            if not attempt.started:
                self.give_back(slot, attempt)
        spares = list(self.ahead)
        self.ahead.drop({spare.claim.attempt_id for spare in spares})
        self._store.release(*(spare.claim.attempt_id for spare in spares))

    def hold(self, *, paused: bool) -> None:
        """Have all trainers wait after their epoch, or go on."""
        for slot, attempt in self.in_slots.items():
            self._pool.send(slot, Pause() if paused else Resume())
            attempt.heard = time.monotonic()

    def ask_to_yield(self) -> None:
        """Have all trainers end at their next checkpoint; they say when they have. The database is not asked."""
        for slot, attempt in self.in_slots.items():
            if not attempt.started:
                self._pool.kill(slot)
            elif not attempt.yielding:
                attempt.yielding = True
                self._pool.send(slot, Preempt())

    def abandon(self) -> None:
        """End what still runs at its last checkpoint, and release all that is held for others."""
        for slot in self.in_slots:
            self._pool.kill(slot)
        # Where the database is away, the leases run out instead.
        with suppress(HpoError):
            # All leases before any log: time may be short.
            self._store.release(*self.held())
            for slot, attempt in list(self.in_slots.items()):
                self.drop(slot, attempt)
        self.in_slots.clear()
