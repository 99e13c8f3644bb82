"""The budget against a real PostgreSQL: exact under many agents, and repeatable after a lost answer."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from hpo.outcomes import COUNTED, FAILURES, Outcome
from storage import agents, attempts, budget, control, leases
from storage.attempts import LeaseLostError
from storage.budget import Claim, NoWork
from storage.engine import Database
from tests.integration.storage.ledger import Ledger


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def test_many_agents_never_exceed_the_budget(database: Database, storage_url: str) -> None:
    """Eight connections at once; trials finish, fail, are lost and given back as a seed has it."""
    trials, connections = 40, 8
    ledger = Ledger(database, trials)
    engine = create_engine(storage_url, pool_size=connections)
    exceeded: list[budget.Counts] = []

    def work(seed: int) -> int:
        draw = random.Random(seed)
        settled = 0
        with engine.begin() as c:
            agent_id = agents.new_agent_id(c)
            agents.join(c, agent_id, ledger.study_id, "here", seed, f"boot:{seed}:1.00", 1, {})
        while True:
            with engine.begin() as c:
                claim = budget.claim(c, ledger.study_id, agent_id, "here", 0, "cpu:0", 60.0)
                counts = budget.count(c, ledger.study_id)
            if counts.finished + counts.running > trials:
                exceeded.append(counts)
            if claim is NoWork.DONE:
                return settled
            if isinstance(claim, NoWork):
                continue
            ending = draw.choice([*COUNTED, *COUNTED, "bug", "release", "lose"])
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
    counts = ledger.count()
    assert (counts.finished, counts.left, counts.running, counts.waiting) == (trials, 0, 0, 0)
    with database.engine.connect() as c:
        ordinals = list(c.execute(text("SELECT ordinal FROM hpo.trials ORDER BY ordinal")).scalars())
    assert ordinals == list(range(counts.finished + counts.failed))


def test_a_claim_repeated_for_its_slot_is_the_same(ledger: Ledger) -> None:
    first = ledger.claimed(slot=0)
    again = ledger.claimed(slot=0)
    assert (again.attempt_id, again.reservation_id) == (first.attempt_id, first.reservation_id)
    # The first may have had its trial created; the second must look for it.
    assert (first.fresh, again.fresh) == (True, False)
    assert ledger.claimed(slot=1).reservation_id != first.reservation_id


def test_ordinals_and_seeds_follow_each_other(ledger: Ledger) -> None:
    claims = [ledger.claimed(slot) for slot in range(3)]
    assert [claim.ordinal for claim in claims] == [0, 1, 2]
    assert len({claim.seed for claim in claims}) == 3


def test_why_there_is_no_work(ledger: Ledger) -> None:
    claims = [ledger.claimed(slot) for slot in range(3)]
    assert ledger.claim(slot=3) is NoWork.ELSEWHERE
    ledger.do(control.pause, ledger.study_id)
    assert ledger.claim(slot=3) is NoWork.PAUSED
    ledger.do(control.stop, ledger.study_id)
    assert ledger.claim(slot=3) is NoWork.STOPPED
    ledger.do(control.resume, ledger.study_id)
    for claim in claims:
        ledger.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.5)
    assert ledger.claim(slot=3) is NoWork.DONE
    ledger.do(budget.set_budget, ledger.study_id, 4)
    assert ledger.claimed(slot=3).ordinal == 3
    assert ledger.do(budget.claim, 999, ledger.agent_id, "here", 0, "cpu:0", 60.0) is NoWork.STOPPED


@pytest.mark.parametrize("outcome", [*COUNTED, *FAILURES])
def test_only_finished_trials_count(ledger: Ledger, outcome: str) -> None:
    ledger.do(leases.settle, ledger.claimed().attempt_id, outcome, None)
    counts = ledger.count()
    assert (counts.finished, counts.failed) == ((1, 0) if outcome in COUNTED else (0, 1))
    assert counts.left == 3 - counts.finished


def test_what_was_begun_goes_on_before_anything_new(ledger: Ledger) -> None:
    begun, other = ledger.claimed(slot=0), ledger.claimed(slot=1)
    ledger.do(attempts.attach, begun.attempt_id, 7, 0, {"x": 1.5})
    ledger.do(leases.release, begun.attempt_id)
    assert ledger.count().waiting == 1
    resumed = ledger.claimed(slot=0, agent=ledger.join())
    assert (resumed.reservation_id, resumed.ordinal, resumed.seed) == (
        begun.reservation_id,
        begun.ordinal,
        begun.seed,
    )
    assert (resumed.trial_id, resumed.number, resumed.params) == (7, 0, {"x": 1.5})
    assert resumed.attempt_id != begun.attempt_id
    assert not resumed.fresh
    assert ledger.count().running == 2
    assert other.reservation_id != begun.reservation_id


def ahead(ledger: Ledger, slot: int, sampled: bool = True) -> Claim:
    claim = ledger.do(budget.claim, ledger.study_id, ledger.agent_id, "here", slot, budget.NEXT, 60.0)
    assert isinstance(claim, Claim)
    if sampled:
        ledger.do(attempts.attach, claim.attempt_id, claim.reservation_id, claim.ordinal, {"x": slot})
    return claim


def test_an_idle_agent_takes_what_another_has_asked_ahead(ledger: Ledger) -> None:
    ledger.claimed(slot=0)
    first, last = ahead(ledger, slot=2), ahead(ledger, slot=3)
    other = ledger.join()
    # Not to ask ahead itself, and not from itself.
    assert ledger.do(budget.claim, ledger.study_id, other, "here", 2, budget.NEXT, 60.0) is NoWork.ELSEWHERE
    assert ledger.claim(slot=1) is NoWork.ELSEWHERE
    taken = ledger.claimed(slot=0, agent=other)
    # The one that would have waited longest.
    assert (taken.reservation_id, taken.params, taken.fresh) == (last.reservation_id, {"x": 3}, False)
    assert ledger.claimed(slot=0, agent=other).attempt_id == taken.attempt_id
    assert taken.untrained
    assert ledger.attempt(last).outcome == "released"
    with pytest.raises(LeaseLostError):
        ledger.do(attempts.place, last.attempt_id, 1, "cpu:1")
    ledger.do(attempts.place, first.attempt_id, 1, "cpu:1")
    assert ledger.claim(slot=1, agent=other) is NoWork.ELSEWHERE
    assert ledger.count().running == 3


@pytest.mark.parametrize("noted", [True, False])
def test_what_was_trained_before_it_was_asked_ahead_keeps_its_checkpoint(ledger: Ledger, noted: bool) -> None:
    """Its agent may have died in an outage, before it could note that a trainer had begun."""
    for slot in (0, 1):
        ledger.claimed(slot)
    begun = ledger.claimed(slot=2)
    if noted:
        ledger.do(attempts.begin, begun.attempt_id, 123, 0)
    ledger.do(attempts.attach, begun.attempt_id, begun.reservation_id, begun.ordinal, {"x": 1.0})
    ledger.do(leases.release, begun.attempt_id)
    assert ahead(ledger, slot=3, sampled=False).reservation_id == begun.reservation_id
    taken = ledger.claimed(slot=0, agent=ledger.join())
    assert (taken.reservation_id, taken.untrained) == (begun.reservation_id, False)


def test_what_is_still_being_sampled_is_not_taken(ledger: Ledger) -> None:
    for slot in (0, 1):
        ledger.claimed(slot)
    ahead(ledger, slot=2, sampled=False)
    assert ledger.claim(slot=0, agent=ledger.join()) is NoWork.ELSEWHERE


def test_nothing_is_taken_while_there_is_something_new_to_begin(ledger: Ledger) -> None:
    spare = ahead(ledger, slot=2)
    new = ledger.claimed(slot=0, agent=ledger.join())
    assert (new.fresh, ledger.attempt(spare).outcome) == (True, None)


def test_a_decision_is_made_once(ledger: Ledger) -> None:
    claim = ledger.claimed()
    assert ledger.do(budget.decide, claim.reservation_id, Outcome.COMPLETE, 0.5, None, None)
    assert not ledger.do(budget.decide, claim.reservation_id, Outcome.BUG, None, "broken", "Traceback")
    trial = ledger.trial(claim)
    assert (trial.outcome, trial.value, trial.error) == ("complete", 0.5, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_is_none(ledger: Ledger, value: float | None) -> None:
    claim = ledger.claimed()
    ledger.do(budget.decide, claim.reservation_id, Outcome.DIVERGED, value, None, None)
    assert ledger.trial(claim).value is None


def test_what_optuna_has_not_been_told(ledger: Ledger) -> None:
    claims = [ledger.claimed(slot) for slot in range(3)]
    for index, claim in enumerate(claims[:2]):
        ledger.do(attempts.attach, claim.attempt_id, 100 + index, index, {})
    for claim in claims:
        ledger.do(leases.settle, claim.attempt_id, Outcome.COMPLETE, 0.25)
    # The third was never created in Optuna: there is nothing to tell.
    untold = ledger.do(budget.untold, ledger.study_id)
    assert [(u.trial_id, u.number, u.outcome, u.value) for u in untold] == [
        (100, 0, "complete", 0.25),
        (101, 1, "complete", 0.25),
    ]
    assert ledger.do(budget.untold, ledger.study_id, 30.0) == []
    assert ledger.do(budget.untold_of_attempt, claims[1].attempt_id) == untold[1:]
    ledger.do(budget.mark_told, claims[0].reservation_id)
    assert ledger.do(budget.untold, ledger.study_id) == untold[1:]


def test_failures_are_those_of_the_study_until_somebody_has_it_run(ledger: Ledger) -> None:
    def failures(most: int = 10) -> list[budget.Failure]:
        return ledger.do(budget.failures, ledger.study_id, most)

    for error in ("one", "two", "three"):
        ledger.do(
            leases.settle, ledger.claimed().attempt_id, Outcome.BUG, None, error, f"Traceback of {error}"
        )
    # An agent that joins changes nothing: supervisors start agents again and again.
    ledger.join()
    assert [failure.error for failure in failures()] == ["three", "two", "one"]
    assert failures(1) == [budget.Failure(Outcome.BUG, "three", "Traceback of three")]
    assert ledger.do(budget.count, ledger.study_id).failing == 3
    # Who has the study run has mended the objective, as far as is known.
    ledger.do(control.resume, ledger.study_id)
    assert failures() == []
    counts = ledger.do(budget.count, ledger.study_id)
    assert (counts.failed, counts.failing) == (3, 0)


def test_a_claim_says_what_it_is(ledger: Ledger) -> None:
    claim = ledger.claimed(slot=1)
    assert isinstance(claim, Claim)
    attempt = ledger.attempt(claim)
    assert (attempt.slot, attempt.device, attempt.host, attempt.outcome) == (1, "cpu:1", "here", None)
    assert (claim.trial_id, claim.number, claim.params) == (None, None, None)
