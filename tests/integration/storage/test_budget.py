"""The budget against a real PostgreSQL: exact under many agents, and repeatable after a lost answer."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest
from sqlalchemy import create_engine, text

from hpo.outcomes import COUNTED, FAILURES, Outcome
from storage import agents, attempts, budget, leases, studies
from storage.attempts import LeaseLostError
from storage.claiming import claims, fresh_claims
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from storage.optuna import trials as optuna_trials
from tests.integration.storage.study_driver import StudyDriver


@pytest.fixture
def study(database: Database) -> StudyDriver:
    return StudyDriver(database)


def test_many_agents_never_exceed_the_budget(database: Database, storage_url: str) -> None:
    """Eight connections at once; trials finish, fail, are lost and given back as a seed has it."""
    trials, connections = 40, 8
    study = StudyDriver(database, trials)
    engine = create_engine(storage_url, pool_size=connections)
    exceeded: list[budget.Counts] = []

    def work(seed: int) -> int:
        draw = random.Random(seed)
        settled = 0
        with engine.begin() as c:
            agent_id = agents.new_agent_id(c)
            agents.join(c, agent_id, study.study_id, "here", seed, f"boot:{seed}:1.00", 1, {})
        while True:
            with engine.begin() as c:
                place = (study.study_id, agent_id, "here", 0, "cpu:0", 60.0)
                claim = fresh_claims.claim(c, *place) or claims.claim(c, *place)
                counts = budget.count(c, study.study_id)
            if counts.finished + counts.running > trials:
                exceeded.append(counts)
            if claim is NoWork.DONE:
                return settled
            if isinstance(claim, NoWork):
                continue
            ending = draw.choice([*COUNTED, *COUNTED, Outcome.BUG, "release", "lose"])
            with engine.begin() as c:
                if ending == "release":
                    leases.release(c, claim.attempt_id)
                elif ending == "lose":
                    leases.lose(c, claim.attempt_id, "killed", 3)
                else:
                    leases.settle(c, claim.attempt_id, ending, 0.5)
                    settled += ending in COUNTED

    with ThreadPoolExecutor(connections) as threads:
        settled = list(threads.map(work, range(connections)))
    engine.dispose()
    assert exceeded == []
    assert sum(settled) == trials
    counts = study.count()
    assert (counts.finished, counts.left, counts.running, counts.waiting) == (trials, 0, 0, 0)
    with database.engine.connect() as c:
        rows = c.execute(text("SELECT ordinal, seed FROM hpo.trials ORDER BY ordinal")).all()
    assert [row.ordinal for row in rows] == list(range(counts.finished + counts.failed))
    assert len({row.seed for row in rows}) == len(rows)


def test_claim_without_work_returns_the_reason(study: StudyDriver) -> None:
    held = [study.claimed(slot) for slot in range(3)]
    assert study.claim(slot=3) is NoWork.ELSEWHERE
    study.do(studies.set_desired_state, study.study_id, "pause")
    assert study.claim(slot=3) is NoWork.PAUSED
    study.do(studies.set_desired_state, study.study_id, "stop")
    assert study.claim(slot=3) is NoWork.STOPPED
    study.do(studies.set_desired_state, study.study_id, "run")
    for claim in held:
        study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)
    assert study.claim(slot=3) is NoWork.DONE
    study.do(budget.set_budget, study.study_id, 4)
    assert study.claimed(slot=3).ordinal == 3
    assert study.do(claims.claim, 999, study.agent_id, "here", 0, "cpu:0", 60.0) is NoWork.STOPPED


def test_claims_with_room_for_new_trials_count_none(
    study: StudyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count takes longer the more trials there are."""
    study.do(budget.set_budget, study.study_id, 4)
    counted = Mock(side_effect=budget.count)
    monkeypatch.setattr(budget, "count", counted)
    study.do(leases.settle, study.claimed(slot=0).attempt_id, Outcome.BUG, None)
    study.do(leases.release, study.claimed(slot=1).attempt_id)
    held = [study.claimed(slot) for slot in (0, 1, 2, 3)]
    assert [claim.fresh for claim in held] == [False, True, True, True]
    counted.assert_not_called()
    # Ordinals with a gap, as after an edit of the database, make claims count: the budget stays exact.
    study.database.transaction(lambda c: c.execute(text("DELETE FROM hpo.trials WHERE outcome = 'bug'")))
    study.database.transaction(lambda c: c.execute(text("DELETE FROM hpo.trials WHERE ordinal = 1")))
    assert study.claimed(slot=4).ordinal == 5
    assert study.claim(slot=5) is NoWork.ELSEWHERE
    assert counted.call_count == 2


def test_resumed_trial_keeps_its_proposal(study: StudyDriver) -> None:
    begun = study.claimed(slot=1)
    assert (begun.number, begun.params, begun.fresh) == (0, None, True)
    attempt = study.attempt(begun)
    assert (attempt.slot, attempt.device, attempt.host, attempt.outcome) == (1, "cpu:1", "here", None)
    study.do(attempts.attach, begun.attempt_id, 7, 0, {"x": 1.5})
    study.do(leases.release, begun.attempt_id)
    resumed = study.claimed(agent=study.join())
    assert resumed == replace(
        begun, attempt_id=resumed.attempt_id, trial_id=7, number=0, params={"x": 1.5}, fresh=False
    )


def ahead(study: StudyDriver, slot: int, sampled: bool = True) -> Claim:
    claim = study.do(claims.claim, study.study_id, study.agent_id, "here", slot, attempts.NEXT, 60.0)
    assert isinstance(claim, Claim)
    if sampled:
        study.do(attempts.attach, claim.attempt_id, claim.reservation_id, claim.ordinal, {"x": slot})
    return claim


def test_idle_agent_takes_over_a_prefetched_trial(study: StudyDriver) -> None:
    study.claimed(slot=0)
    first, last = ahead(study, slot=2), ahead(study, slot=3)
    other = study.join()
    # Not to ask ahead itself, and not from itself.
    assert study.do(claims.claim, study.study_id, other, "here", 2, attempts.NEXT, 60.0) is NoWork.ELSEWHERE
    assert study.claim(slot=1) is NoWork.ELSEWHERE
    taken = study.claimed(slot=0, agent=other)
    # The one that would have waited longest.
    assert (taken.reservation_id, taken.params, taken.fresh) == (last.reservation_id, {"x": 3}, False)
    assert study.claimed(slot=0, agent=other).attempt_id == taken.attempt_id
    assert taken.untrained
    assert study.attempt(last).outcome == "released"
    with pytest.raises(LeaseLostError):
        study.do(attempts.place, last.attempt_id, 1, "cpu:1")
    study.do(attempts.place, first.attempt_id, 1, "cpu:1")
    assert study.claim(slot=1, agent=other) is NoWork.ELSEWHERE
    assert study.count().running == 3


@pytest.mark.parametrize("noted", [True, False])
def test_prefetched_trial_with_epochs_keeps_its_checkpoint(study: StudyDriver, noted: bool) -> None:
    """Its agent may have died in an outage, before it could note that a trainer had begun."""
    for slot in (0, 1):
        study.claimed(slot)
    begun = study.claimed(slot=2)
    if noted:
        study.do(attempts.begin, begun.attempt_id, 123, 0)
    study.do(attempts.attach, begun.attempt_id, begun.reservation_id, begun.ordinal, {"x": 1.0})
    study.do(leases.release, begun.attempt_id)
    assert ahead(study, slot=3, sampled=False).reservation_id == begun.reservation_id
    taken = study.claimed(slot=0, agent=study.join())
    assert (taken.reservation_id, taken.untrained) == (begun.reservation_id, False)


@pytest.mark.parametrize(
    ("outcome", "value"),
    [
        *((outcome, 0.5) for outcome in (*COUNTED, *FAILURES)),
        *((Outcome.DIVERGED, odd) for odd in (math.nan, math.inf, None)),
    ],
)
def test_first_decision_counts_and_only_its_finite_value_is_stored(
    study: StudyDriver, outcome: Outcome, value: float | None
) -> None:
    claim = study.claimed()
    for repeated in (value, 0.7):
        study.do(leases.settle, claim.attempt_id, outcome, repeated)
    assert not study.do(budget.decide, claim.reservation_id, Outcome.BUG, None, "broken", "Traceback")
    trial = study.trial(claim)
    assert (trial.outcome, trial.value, trial.error) == (outcome, 0.5 if value == 0.5 else None, None)
    counts = study.count()
    assert (counts.finished, counts.failed) == ((1, 0) if outcome in COUNTED else (0, 1))
    assert counts.left == 3 - counts.finished
    assert {one: counts.of(one) for one in COUNTED if counts.of(one)} == (
        {outcome: 1} if outcome in COUNTED else {}
    )


def test_pending_tells_are_listed(study: StudyDriver) -> None:
    held = [study.claimed(slot) for slot in range(3)]
    for index, claim in enumerate(held[:2]):
        study.do(attempts.attach, claim.attempt_id, 100 + index, index, {})
    for claim in held:
        study.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.25)
    # The third was never created in Optuna, so no tell is pending.
    pending = study.do(optuna_trials.pending_tells, study.study_id)
    assert [(u.trial_id, u.number, u.outcome, u.value) for u in pending] == [
        (100, 0, "complete", 0.25),
        (101, 1, "complete", 0.25),
    ]
    assert study.do(optuna_trials.pending_tells, study.study_id, 30.0) == []
    assert study.do(optuna_trials.pending_tell_of_attempt, held[1].attempt_id) == pending[1:]
    study.do(optuna_trials.mark_told, held[0].reservation_id)
    assert study.do(optuna_trials.pending_tells, study.study_id) == pending[1:]


def test_resuming_a_study_resets_its_failure_count(study: StudyDriver) -> None:
    def failures(most: int = 10) -> list[budget.Failure]:
        return study.do(budget.failures, study.study_id, most)

    for error in ("one", "two", "three"):
        study.do(leases.settle, study.claimed().attempt_id, Outcome.BUG, None, error, f"Traceback of {error}")
    # An agent that joins changes nothing: supervisors start agents again and again.
    study.join()
    assert [failure.error for failure in failures()] == ["three", "two", "one"]
    assert failures(1) == [budget.Failure(Outcome.BUG, "three", "Traceback of three")]
    assert study.do(budget.count, study.study_id).failing == 3
    # Setting the state to `run` resets the failure count.
    study.do(studies.set_desired_state, study.study_id, "run")
    assert failures() == []
    counts = study.do(budget.count, study.study_id)
    assert (counts.failed, counts.failing) == (3, 0)
