"""A trial store in memory, for tests of an agent; the conformance suite runs on it and on the real one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hpo.agent.trial_store import StudySnapshot
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from hpo.trainer.messages import EpochRecord
from objectives.base import Params
from storage.attempts import LeaseLostError
from storage.budget import Counts, Failure
from storage.claims import NEXT, Claim, NoWork
from storage.leases import LeaseTimes


@dataclass(kw_only=True)
class FakeTrial:
    """A row of `hpo.trials` with its epochs."""

    reservation_id: int
    params: Params | None = None
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    outcome: Outcome | None = None
    value: float | None = None
    error: str = ""
    traceback: str = ""
    lost: int = 0


@dataclass(kw_only=True)
class FakeAttempt:
    """A row of `hpo.attempts`."""

    attempt_id: int
    trial: FakeTrial
    agent_id: int
    slot: int
    device: str
    outcome: Outcome | None = None
    expired: bool = False
    """Whether its lease has run out."""
    began: bool = False

    @property
    def open(self) -> bool:
        return self.outcome is None


@dataclass(kw_only=True)
class FakeStudy:
    """The database of one study, which several stores may share."""

    spec: StudySpec
    budget: int = 1
    desired_state: str = "run"
    trials: list[FakeTrial] = field(default_factory=list)
    attempts: list[FakeAttempt] = field(default_factory=list)
    agents: int = 0
    logs: dict[int, str] = field(default_factory=dict)
    prunes: Callable[[int, int], bool] = lambda _number, _epoch: False
    """Whether the pruner ends a trial, by number, after an epoch."""

    def expire_leases(self) -> None:
        """Let all leases run out, as after the silence of their agents."""
        for attempt in self.attempts:
            attempt.expired = attempt.open

    def holder(self, trial: FakeTrial) -> FakeAttempt | None:
        """Return the open attempt of a trial."""
        return next((one for one in self.attempts if one.trial is trial and one.open), None)


class FakeTrialStore:
    """A `TrialStore` without a database or an Optuna."""

    def __init__(self, study: FakeStudy, times: LeaseTimes | None = None) -> None:
        self.study = study
        self.spec = study.spec
        self.name = "s"
        self.times = times or LeaseTimes()
        study.agents += 1
        self.agent_id = study.agents

    def claim(self, slot: int, device: str) -> Claim | NoWork:
        study = self.study
        if study.desired_state != "run":
            return NoWork.PAUSED if study.desired_state == "pause" else NoWork.STOPPED
        mine = [one for one in study.attempts if one.open and one.agent_id == self.agent_id]
        held = next((one for one in mine if one.slot == slot), None)
        if held is not None:
            return self._claim(held, fresh=False)
        counts = self._counts()
        if counts.left == 0:
            return NoWork.DONE
        untrained = False
        if counts.running < counts.left:
            waiting = [one for one in study.trials if one.outcome is None and study.holder(one) is None]
            trial, fresh = (
                (waiting[0], False) if waiting else (FakeTrial(reservation_id=len(study.trials) + 1), True)
            )
        else:
            taken = None if device == NEXT else self._take_prefetched()
            if taken is None:
                return NoWork.ELSEWHERE
            trial, fresh = taken, False
            before = [one for one in study.attempts if one.trial is trial]
            untrained = all(one.device == NEXT and not one.began for one in before)
        if fresh:
            study.trials.append(trial)
        attempt = FakeAttempt(
            attempt_id=len(study.attempts) + 1, trial=trial, agent_id=self.agent_id, slot=slot, device=device
        )
        study.attempts.append(attempt)
        return replace(self._claim(attempt, fresh), untrained=untrained)

    def _take_prefetched(self) -> FakeTrial | None:
        for attempt in reversed(self.study.attempts):
            others = attempt.open and attempt.device == NEXT and attempt.agent_id != self.agent_id
            if others and attempt.trial.params is not None:
                attempt.outcome = Outcome.RELEASED
                return attempt.trial
        return None

    def _claim(self, attempt: FakeAttempt, fresh: bool) -> Claim:
        trial = attempt.trial
        known = trial.params is not None
        number = trial.reservation_id - 1
        return Claim(
            reservation_id=trial.reservation_id,
            attempt_id=attempt.attempt_id,
            ordinal=number,
            seed=number,
            trial_id=trial.reservation_id if known else None,
            number=number if known else None,
            params=trial.params,
            fresh=fresh,
        )

    def sample(self, claim: Claim) -> tuple[int, int, Params]:
        trial = self._guard(claim.attempt_id).trial
        if trial.params is None:
            trial.params = {"x": float(trial.reservation_id)}
        return trial.reservation_id, trial.reservation_id - 1, dict(trial.params)

    def assign_slot(self, attempt_id: int, slot: int, device: str) -> None:
        attempt = self._guard(attempt_id)
        attempt.slot, attempt.device = slot, device

    def begin(self, attempt_id: int, pid: int, resumed_from: int) -> None:  # noqa: ARG002
        self._guard(attempt_id).began = True

    def record(self, attempt_id: int, trial_id: int, records: Sequence[EpochRecord]) -> dict[int, float]:  # noqa: ARG002
        trial = self._guard(attempt_id).trial
        for record in records:
            trial.epochs.setdefault(record.epoch, dict(record.metrics))
        valid = {record.epoch: trial.epochs[record.epoch] for record in records}
        metric = self.spec.metric
        return {epoch: metrics[metric] for epoch, metrics in sorted(valid.items()) if metric in metrics}

    def should_prune(self, attempt_id: int, trial_id: int) -> bool:
        trial = self._guard(attempt_id).trial
        return self.study.prunes(trial_id - 1, max(trial.epochs))

    def settle(
        self, attempt_id: int, outcome: Outcome, value: float | None, error: str = "", traceback: str = ""
    ) -> None:
        attempt = self._attempt(attempt_id)
        if attempt.outcome not in (None, outcome):
            raise LeaseLostError
        if attempt.open:
            attempt.outcome = outcome
            self._decide(attempt.trial, outcome, value, error, traceback)

    def _decide(
        self, trial: FakeTrial, outcome: Outcome, value: float | None, error: str, traceback: str = ""
    ) -> None:
        trial.outcome, trial.error, trial.traceback = outcome, error, traceback
        trial.value = value if value is not None and math.isfinite(value) else None

    def release(self, *attempt_ids: int) -> None:
        for attempt_id in attempt_ids:
            attempt = self._attempt(attempt_id)
            attempt.outcome = attempt.outcome or Outcome.RELEASED

    def lose(self, attempt_id: int, reason: str, kind: Outcome = Outcome.LOST) -> None:
        attempt = self._attempt(attempt_id)
        if not attempt.open:
            return
        if attempt.device == NEXT:
            attempt.outcome = Outcome.RELEASED
            return
        attempt.outcome, trial = kind, attempt.trial
        trial.lost += 1
        if trial.lost >= self.spec.max_lost:
            ends = {one.outcome for one in self.study.attempts if one.trial is trial} - {Outcome.RELEASED}
            outcome = kind if ends == {kind} else Outcome.LOST
            self._decide(trial, outcome, None, f"lost {trial.lost} times, the last time: {reason}")

    def reap_expired(self) -> None:
        for attempt in self.study.attempts:
            if attempt.open and attempt.expired and attempt.agent_id != self.agent_id:
                self.lose(attempt.attempt_id, "its lease expired")

    def refresh(self) -> StudySnapshot:
        sign = 1 if self.spec.direction == "minimize" else -1
        complete = [
            (sign * one.value, one.reservation_id, one)
            for one in self.study.trials
            if one.value is not None and one.outcome is Outcome.COMPLETE
        ]
        best: tuple[int, float, Mapping[str, object]] | None = None
        if complete:
            trial = min(complete)[2]
            assert trial.value is not None
            best = trial.reservation_id - 1, trial.value, dict(trial.params or {})
        return StudySnapshot(self.study.desired_state, self._counts(), best)

    def _counts(self) -> Counts:
        study = self.study
        outcomes = [trial.outcome for trial in study.trials if trial.outcome is not None]
        failed = sum(outcome.is_failure for outcome in outcomes)
        complete = outcomes.count(Outcome.COMPLETE)
        running = sum(attempt.open for attempt in study.attempts)
        return Counts(
            budget=study.budget,
            complete=complete,
            pruned=len(outcomes) - failed - complete,
            failed=failed,
            running=running,
            waiting=len(study.trials) - len(outcomes) - running,
            failing=failed,
        )

    def sweep(self, stale_seconds: float = 0.0) -> None:
        """Do nothing: no agent of the fake dies between two writes."""

    def orphaned_logs(self, attempts: Sequence[int], seconds: float) -> dict[tuple[int, int], bool]:  # noqa: ARG002
        known = {one.attempt_id: one for one in self.study.attempts}
        found = [known[attempt_id] for attempt_id in attempts if attempt_id in known]
        return {(one.trial.reservation_id - 1, one.attempt_id): not one.open for one in found}

    def keep_log(self, attempt_id: int, tail: str, size: int) -> None:  # noqa: ARG002
        self.study.logs[attempt_id] = tail

    def open_reservations(self) -> tuple[frozenset[int], frozenset[int]]:
        trials = [trial for trial in self.study.trials if trial.outcome is None]
        running = [trial for trial in trials if self.study.holder(trial) is not None]
        return frozenset(one.reservation_id for one in trials), frozenset(
            one.reservation_id for one in running
        )

    def while_waiting(self, reservation_id: int, act: Callable[[], None]) -> bool:
        undecided, running = self.open_reservations()
        waiting = reservation_id in undecided - running
        if waiting:
            act()
        return waiting

    def while_held(self, attempt_id: int, act: Callable[[], None]) -> None:
        self._guard(attempt_id)
        act()

    def check_held(self, attempt_id: int) -> None:
        self._guard(attempt_id)

    def failures(self, most: int) -> tuple[Counts, list[Failure]]:
        failed = [
            Failure(trial.outcome, trial.error, trial.traceback)
            for trial in reversed(self.study.trials)
            if trial.outcome is not None and trial.outcome.is_failure
        ]
        return self._counts(), failed[:most]

    def leave(self) -> None:
        self.release(*[one.attempt_id for one in self.study.attempts if one.agent_id == self.agent_id])

    def _attempt(self, attempt_id: int) -> FakeAttempt:
        return self.study.attempts[attempt_id - 1]

    def _guard(self, attempt_id: int) -> FakeAttempt:
        attempt = self._attempt(attempt_id)
        if not attempt.open:
            raise LeaseLostError
        return attempt
