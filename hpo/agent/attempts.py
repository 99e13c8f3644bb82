"""Attempts that an agent holds: those in its slots, and those prefetched for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence
from contextlib import suppress

from hpo.agent.cleanup import Cleanup
from hpo.agent.prefetch import LEAST_IN_LANES, PrefetchedTrial, Prefetcher
from hpo.agent.running_attempt import RunningAttempt
from hpo.agent.store.errors import is_of_trial
from hpo.agent.store.trial_store import TrialStore
from hpo.errors import HpoError
from hpo.outcomes import Outcome
from hpo.search.pruners import can_prune, freeze_thaw_of
from hpo.search.samplers import SAMPLERS
from hpo.search.spec import StudySpec
from hpo.trainer.ends.failures import one_line, traceback_of
from hpo.trainer.messages import Start
from hpo.trainer.supervisor import Supervisor
from storage.attempts import NEXT, LeaseLostError
from storage.budget import Counts
from storage.claiming.claims import Claim, NoWork

log = logging.getLogger(__name__)

MOST_AHEAD = 16
"""Epochs that a trainer may be ahead of the database where no pruner judges them."""

CLAIM_RETRY_SECONDS = 1.0
"""Time before the budget is asked for work again when it had none."""


class AttemptTable:
    """Claims trials, trains them in slots and releases them."""

    def __init__(
        self,
        spec: StudySpec,
        store: TrialStore,
        supervisor: Supervisor[RunningAttempt],
        cleanup: Cleanup,
        *,
        restarts_other_code: bool = False,
    ) -> None:
        self._spec = spec
        self._store = store
        self._supervisor = supervisor
        self._pool = supervisor.pool
        self._cleanup = cleanup
        self._restarts_other_code = restarts_other_code
        self.in_slots = supervisor.in_slots
        self.prefetcher = Prefetcher(len(self._pool.devices))
        self.spent = False
        """Whether the last claim found nothing to train and nothing to wait for."""
        self._claim_at = 0.0

    def held(self) -> frozenset[int]:
        """Return the attempts that this agent believes it holds; called from the thread that renews leases."""
        # Prefetched ones first: one that moves into a slot meanwhile is seen twice, not missed.
        claims = [trial.claim for trial in self.prefetcher]
        claims += [attempt.claim for attempt in list(self.in_slots.values())]
        return frozenset(claim.attempt_id for claim in claims)

    def truncate_logs(self) -> None:
        """Bound the logs of running attempts and of the template while no event is handled."""
        self._pool.truncate_log()
        for attempt in list(self.in_slots.values()):
            attempt.log.truncate()

    # Filling slots.

    def fill(self) -> None:
        """Start a trial in each free slot while there is budget left."""
        if self._waits:
            return
        for slot in self._supervisor.free_slots():
            if self.start_prefetched(slot):
                self.assign_slot(slot)
                continue
            claim = self._claim(slot, self._pool.devices[slot].owns)
            self.spent = claim in (NoWork.DONE, NoWork.EPOCHS)
            if isinstance(claim, PrefetchedTrial):
                self._start(slot, claim)
            # A claim of another slot whose answer was lost may be among the others' trials: claim for all slots.
            elif claim is not None and claim is not NoWork.ELSEWHERE:
                return

    def wants_prefetch(self, counts: Counts) -> bool:
        """Whether trials are so short, or shapes so different, that the next ones should be ready for free slots."""
        if self._pool.devices[0].lane is not None and self._pool.lanes.shapes.differ:
            self.prefetcher.least = LEAST_IN_LANES
        return not self._waits and self.prefetcher.wants_more(counts) and not self._must_wait

    @property
    def _must_wait(self) -> bool:
        """Whether the next trial depends on how the running one ends, so that a lone slot would not repeat its trials.

        With several slots it depends on their speed in any case.
        """
        follows = SAMPLERS[self._spec.sampler].learns or freeze_thaw_of(self._spec) is not None
        return follows and len(self._pool.devices) == 1

    def prefetch(self) -> bool:
        """Claim and sample a trial for the next free slot; return False if there is none."""
        slot = self.prefetcher.free_slot()
        claim = self._claim(slot, NEXT)
        if not isinstance(claim, PrefetchedTrial):
            return False
        self.prefetcher.add(slot, claim)
        if self._pool.devices[0].lane is not None:
            self._pool.lanes.ask(claim.params, self._spec.epochs)
        return True

    def start_prefetched(self, slot: int) -> bool:
        """Train a prefetched trial, if there is one, in a free slot; `assign_slot` records it."""
        device = self._pool.devices[slot]
        trial = self.prefetcher.choose(
            lambda one: device.lane is None or self._pool.lanes.joins(slot, device, one.params)
        )
        if trial is None:
            return False
        self._start(slot, trial)
        # Not earlier: the lease of an attempt that is in neither place would not be renewed.
        self.prefetcher.discard({trial.claim.attempt_id})
        return True

    def assign_slot(self, slot: int) -> None:
        """Record the slot of a prefetched attempt, or kill it if an idle agent has taken its trial."""
        attempt = self.in_slots[slot]
        try:
            self._store.assign_slot(attempt.attempt_id, slot, self._pool.devices[slot].owns)
        except LeaseLostError:
            self.cancel(slot, attempt)

    @property
    def _waits(self) -> bool:
        return time.monotonic() < self._claim_at

    def _claim(self, slot: int, device: str) -> PrefetchedTrial | NoWork | None:
        """Claim and sample a trial; return None if another agent took it over meanwhile."""
        began_at = time.monotonic()
        claim = self._store.claim(slot, device)
        if isinstance(claim, NoWork):
            self._claim_at = time.monotonic() + CLAIM_RETRY_SECONDS
            return claim
        with suppress(LeaseLostError):
            if claim.params is None or claim.untrained:
                # Not trained yet: the folder is of another database whose reservations had the same numbers.
                folder = self._cleanup.checkpoints_of(claim.reservation_id)
                if folder.path.exists():
                    self._store.files.while_held(claim.attempt_id, folder.delete)
            trial = self._sample(claim)
            if trial is not None:
                self.prefetcher.record_claim(time.monotonic() - began_at)
            return trial
        return None

    def _sample(self, claim: Claim) -> PrefetchedTrial | None:
        """Sample the trial of a claim; fail it and return None if the sampler cannot propose one."""
        try:
            return PrefetchedTrial(claim, *self._store.sample(claim))
        except Exception as exc:
            if not is_of_trial(exc):
                raise
            error = f"the sampler failed: {one_line(exc)}"
            log.warning(error)
            self._store.settle(claim.attempt_id, Outcome.BUG, None, error, traceback_of(exc))
            return None

    def _start(self, slot: int, trial: PrefetchedTrial) -> None:
        claim = trial.claim
        log = self._cleanup.open_log(trial.number, claim.attempt_id)
        attempt = RunningAttempt(
            claim=claim,
            trial_id=trial.trial_id,
            number=trial.number,
            params=trial.params,
            log=log,
        )
        start = Start(
            params=trial.params,
            seed=claim.seed,
            epochs=self._spec.epochs,
            restarts=self._spec.restarts,
            metric=self._spec.metric,
            device=self._pool.devices[slot],
            checkpoints=str(self._cleanup.checkpoints_of(claim.reservation_id).path),
            log=str(log.path),
            memory_bytes=self._supervisor.memory_bytes,
            saves_outcome=True,
            number=trial.number,
            study=self._store.name,
            direction=self._spec.direction,
            ahead=0 if can_prune(self._spec) or self._spec.max_epochs is not None else MOST_AHEAD,
            code=self._spec.code,
            # Without a digest, whether it is other code is not known.
            restarts_other_code=self._restarts_other_code and bool(self._spec.code),
            figures=self._spec.figures,
            constraints=self._spec.bounds,
        )
        self._supervisor.start(slot, attempt, start)

    # Ending attempts.

    def drop(self, slot: int, attempt: RunningAttempt) -> None:
        """Forget an attempt that has ended in the database."""
        self._claim_at = 0.0
        self._supervisor.detach(slot, attempt)
        attempt.log.close()

    def cancel(self, slot: int, attempt: RunningAttempt) -> None:
        """Kill an attempt that another agent has ended."""
        self._supervisor.kill(slot, attempt)
        self.drop(slot, attempt)

    def drop_fenced(self, fenced: Container[int]) -> None:
        """Kill the attempts with these ids, whose leases are lost."""
        self.prefetcher.discard(fenced)
        for slot, attempt in list(self.in_slots.items()):
            if attempt.attempt_id in fenced:
                self.drop_lost(slot, attempt)

    def drop_lost(self, slot: int, attempt: RunningAttempt, reason: str = "") -> None:
        """Kill an attempt that has lost its lease."""
        self.cancel(slot, attempt)
        reason = reason or "another agent has taken the trial over, or hpo kill has ended it"
        log.warning(f"{reason}: this attempt was ended", extra=attempt.context)

    def release(self, slot: int, attempt: RunningAttempt, reason: str | None = None) -> None:
        """Give the trial of an attempt back, so that any agent resumes it, or thaws it if it is paused."""
        reason = reason or ("paused by freeze-thaw" if attempt.paused else None)
        self._store.release(attempt.attempt_id, reason=reason)
        self.drop(slot, attempt)

    def restart(self, slot: int, attempt: RunningAttempt, error: str) -> None:
        """Give a trial back without its checkpoint, so that it starts again from epoch 1."""
        folder = self._cleanup.checkpoints_of(attempt.claim.reservation_id)
        self._store.files.while_held(attempt.attempt_id, folder.delete)
        reason = f"the checkpoint of epoch {attempt.epoch} does not fit the objective ({error})"
        self.release(slot, attempt, reason)
        self.keep_order()
        log.warning(f"{reason}: starting again from epoch 1", extra=attempt.context)

    def keep_order(self) -> None:
        """Let a lone slot train a trial that was interrupted before the one that is prefetched."""
        if len(self._pool.devices) == 1:
            self.release_prefetched()

    def release_prefetched(self) -> None:
        """Give prefetched trials back, so that other agents can train them now."""
        trials: Sequence[PrefetchedTrial] = list(self.prefetcher)
        attempts = {trial.claim.attempt_id for trial in trials}
        self.prefetcher.discard(attempts)
        if attempts:
            self._store.release(*attempts)

    def abandon(self) -> None:
        """Kill all trainers and release everything that is held."""
        self._supervisor.kill_all()
        # If the database is unreachable, the leases expire instead.
        with suppress(HpoError):
            # All leases before any log: there may be little time.
            self._store.release(*self.held())
            for slot, attempt in list(self.in_slots.items()):
                self.drop(slot, attempt)
        self.in_slots.clear()
