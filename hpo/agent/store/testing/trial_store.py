"""A trial store in memory, for tests of an agent; the conformance suite runs on it and on the real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from optuna.distributions import FloatDistribution, json_to_distribution

from hpo.agent.store.snapshots import StudySnapshot
from hpo.agent.store.testing.judgement import FakeJudgement
from hpo.agent.store.testing.study import FakeAttempt, FakeStudy, FakeTrial
from hpo.agent.store.testing.trial_files import FakeTrialFiles
from hpo.outcomes import FAILURES, Outcome
from hpo.trainer.messages import Annotate, Constrain, EpochRecord
from objectives.base import Params
from objectives.trial_value import Reported, reported
from storage.attempts import NEXT, LeaseLostError
from storage.budget import Counts, Failure, Rejections, fields
from storage.claiming.claims import Claim, NoWork
from storage.leases import LeaseTimes


class FakeTrialStore:
    """A `TrialStore` without a database or an Optuna."""

    def __init__(self, study: FakeStudy) -> None:
        self.study = study
        self.spec = study.spec
        self.name = "s"
        self.times = LeaseTimes()
        study.agents += 1
        self.agent_id = study.agents
        self.judgement = FakeJudgement(study)
        self.files = FakeTrialFiles(study)

    def claim(self, slot: int, device: str) -> Claim | NoWork:
        study, counts = self.study, self._counts()
        if study.desired_state != "run":
            return NoWork.PAUSED if study.desired_state == "pause" else NoWork.STOPPED
        for held in study.attempts:
            if held.open and (held.agent_id, held.slot) == (self.agent_id, slot):
                return self._claim(held, fresh=False)
        if counts.left == 0:
            return NoWork.DONE
        if self.judgement.epochs_are_spent():
            return NoWork.EPOCHS
        fresh = untrained = False
        trial = self._begun(counts)
        if trial is None and counts.begun < counts.budget:
            trial, fresh = FakeTrial(reservation_id=len(study.trials) + 1), True
            study.trials.append(trial)
        if trial is None and study.ladder is not None and counts.held == 0:
            self._end_paused()
            return NoWork.DONE
        if trial is None:
            trial = None if device == NEXT else self._take_prefetched()
            if trial is None:
                return NoWork.ELSEWHERE
            untrained = all(one.device == NEXT and not one.began for one in study.attempts_of(trial))
        attempt = FakeAttempt(
            attempt_id=len(study.attempts) + 1, trial=trial, agent_id=self.agent_id, slot=slot, device=device
        )
        study.attempts.append(attempt)
        return replace(self._claim(attempt, fresh), untrained=untrained)

    def _begun(self, counts: Counts) -> FakeTrial | None:
        """Return a waiting trial, else the paused one that goes on."""
        waiting = [trial for trial in self.study.undecided(running=False) if not trial.paused]
        ladder = self.study.ladder
        if waiting or ladder is None:
            return waiting[0] if waiting else None
        thawed = ladder.thaw()
        if thawed is None and counts.held == 0 and counts.begun == counts.budget:
            thawed = ladder.finish(counts.complete)
        if thawed is None:
            return None
        trial = self.study.trials[thawed]
        trial.paused = False
        return trial

    def _end_paused(self) -> None:
        for trial in self.study.trials:
            if trial.paused and trial.outcome is None:
                trial.settle(Outcome.PRUNED, trial.epochs[max(trial.epochs)][self.spec.metric], "")

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
        return Claim(
            reservation_id=trial.reservation_id,
            attempt_id=attempt.attempt_id,
            ordinal=trial.number,
            seed=trial.number,
            trial_id=trial.reservation_id if known else None,
            number=trial.number if known else None,
            params=trial.params,
            fresh=fresh,
        )

    def sample(self, claim: Claim) -> tuple[int, int, Params]:
        trial = self._guard(claim.attempt_id).trial
        sampled = {} if self.spec.open_space else {"x": float(trial.reservation_id)}
        trial.params = trial.params or sampled
        return trial.reservation_id, trial.number, dict(trial.params)

    def suggest(
        self,
        attempt_id: int,
        trial_id: int,  # noqa: ARG002
        name: str,
        distribution: str,
        params: Params,
    ) -> Params:
        trial = self._guard(attempt_id).trial
        found = json_to_distribution(distribution)
        assert isinstance(found, FloatDistribution), "the fake samples no other"
        trial.params = {name: found.low, **params}
        return dict(trial.params)

    def annotate(self, attempt_id: int, event: Annotate | Constrain) -> None:
        self._guard(attempt_id).trial.annotations[event.name] = event.value

    def measure(self, attempt_id: int, figures: Mapping[str, float], *, once: bool = True) -> None:
        trial = self._guard(attempt_id).trial
        trial.figures = {**figures, **trial.figures} if once else {**trial.figures, **figures}

    def figures_of_epochs(self, attempt_id: int, epoch: int, known: Collection[str]) -> Mapping[str, float]:
        metrics = self._guard(attempt_id).trial.epochs[epoch]
        found = {name: metrics[name] for name in self.spec.figures if name in metrics and name not in known}
        self.measure(attempt_id, found, once=False)
        return found

    def rejections(self) -> Rejections:
        decided = [trial for trial in reversed(self.study.trials) if trial.outcome is not None]
        reasons = [
            trial.error for trial in takewhile(lambda trial: trial.outcome is Outcome.REJECTED, decided)
        ]
        return Rejections(
            number=len(reasons), reason=reasons[0] if reasons else "", alike=len({*reasons}) == 1
        )

    def assign_slot(self, attempt_id: int, slot: int, device: str) -> None:
        attempt = self._guard(attempt_id)
        attempt.slot, attempt.device = slot, device

    def begin(self, attempt_id: int, pid: int, resumed_from: int) -> None:  # noqa: ARG002
        attempt = self._guard(attempt_id)
        attempt.began, trial = True, attempt.trial
        trial.epochs = {epoch: metrics for epoch, metrics in trial.epochs.items() if epoch <= resumed_from}

    def hold(self, attempt_id: int) -> None:
        self._guard(attempt_id).held = True

    def unhold(self) -> None:
        for attempt in self.study.attempts:
            attempt.held = attempt.held and attempt.agent_id != self.agent_id

    def record(self, attempt_id: int, trial_id: int, records: Sequence[EpochRecord]) -> list[Reported]:  # noqa: ARG002
        trial = self._guard(attempt_id).trial
        for record in records:
            if record.epoch not in trial.epochs or trial.reporters[record.epoch] != attempt_id:
                trial.epochs[record.epoch] = dict(record.metrics)
                trial.reporters[record.epoch] = attempt_id
        valid = {record.epoch: trial.epochs[record.epoch] for record in records}
        return reported(valid, self.spec.metric, own_steps=self.spec.epochs is None)

    def settle(
        self, attempt_id: int, outcome: Outcome, value: float | None, error: str = "", _traceback: str = ""
    ) -> None:
        attempt = self._attempt(attempt_id)
        if attempt.outcome not in (None, outcome):
            raise LeaseLostError
        if attempt.open:
            attempt.outcome = outcome
            attempt.trial.settle(outcome, value, error)

    def release(self, *attempt_ids: int, reason: str | None = None) -> None:  # noqa: ARG002
        for attempt_id in attempt_ids:
            attempt = self._attempt(attempt_id)
            attempt.outcome = attempt.outcome or Outcome.RELEASED

    def lose(self, attempt_id: int, reason: str, kind: Outcome = Outcome.LOST) -> None:
        attempt = self._attempt(attempt_id)
        if not attempt.open or attempt.device == NEXT or attempt.trial.paused:
            self.release(attempt_id)
            return
        attempt.outcome, trial = kind, attempt.trial
        trial.lost += 1
        if trial.lost >= self.spec.max_lost:
            ends = {one.outcome for one in self.study.attempts_of(trial)} - {Outcome.RELEASED}
            outcome = kind if ends == {kind} else Outcome.LOST
            trial.settle(outcome, None, f"lost {trial.lost} times, the last time: {reason}")

    def note_data(self, data: str) -> None:
        self.study.data = data

    def reap_expired(self) -> None:
        for attempt in self.study.attempts:
            if attempt.open and attempt.expired and attempt.agent_id != self.agent_id:
                self.lose(attempt.attempt_id, "its lease expired")

    def refresh(self) -> StudySnapshot:
        sign = 1 if self.spec.direction == "minimize" else -1
        best = min(
            (
                (sign * trial.value, trial.number, trial.value, trial.params or {})
                for trial in self.study.trials
                if trial.outcome is Outcome.COMPLETE and trial.value is not None
            ),
            default=None,
        )
        return StudySnapshot(self.study.desired_state, self._counts(), best and best[1:])

    def _counts(self) -> Counts:
        outcomes = Counter(trial.outcome for trial in self.study.trials)
        failed = sum(outcomes[outcome] for outcome in FAILURES)
        prepared = sum(attempt.open and attempt.device == NEXT for attempt in self.study.attempts)
        held = sum(attempt.open for attempt in self.study.attempts)
        paused = sum(trial.paused for trial in self.study.undecided(running=False))
        return Counts(
            budget=self.study.budget,
            **fields({outcome: number for outcome, number in outcomes.items() if outcome}),
            rejected=outcomes[Outcome.REJECTED],
            failed=failed,
            running=held - prepared,
            prepared=prepared,
            waiting=outcomes[None] - held - paused,
            paused=paused,
            failing=failed,
        )

    def sweep(self, stale_seconds: float = 0.0) -> None:
        """Do nothing: no agent of the fake dies between two writes."""

    def check_held(self, attempt_id: int) -> None:
        self._guard(attempt_id)

    def failures(self, most: int) -> tuple[Counts, list[Failure]]:
        failed = [
            Failure(trial.outcome, trial.error, "")
            for trial in reversed(self.study.trials)
            if trial.outcome in FAILURES
        ]
        return self._counts(), failed[:most]

    def leave(self) -> None:
        self.release(*[one.attempt_id for one in self.study.attempts if one.agent_id == self.agent_id])

    def _attempt(self, attempt_id: int) -> FakeAttempt:
        return self.study.attempts[attempt_id - 1]

    def _guard(self, attempt_id: int) -> FakeAttempt:
        return self.study.guard(attempt_id)
