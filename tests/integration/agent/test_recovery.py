"""Recovery from agents that die between two commits and from lost answers: each gap is hit exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import psycopg2
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from hpo.agent.store.errors import TrialClosedError
from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.proposing import Proposal
from storage import attempts, studies
from storage.attempts import LeaseLostError
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from tests.integration.stores import SPEC, StoredStudy, begun, claimed, report, train

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING


class Killed(BaseException):
    """An exception that no agent catches."""


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return StoredStudy(database)


def killed(*_: object, **__: object) -> NoReturn:
    raise Killed


def losing_answer(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `call` so that it takes effect but the answer to the first call is lost."""
    lost = False

    def wrapped(*arguments: Any) -> Any:
        nonlocal lost
        result = call(*arguments)
        if lost:
            return result
        lost = True
        raise OperationalError("COMMIT", {}, psycopg2.OperationalError("server closed the connection"))

    return wrapped


@pytest.fixture
def stepwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim in one transaction and create Optuna's trial in another, as where the study's rules decide."""
    monkeypatch.setattr("storage.claiming.fresh_claims.claim", lambda *_, **__: None)


@pytest.fixture
def tells_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report each outcome to Optuna after it is settled, as that of a configuration which the sampler avoids."""
    monkeypatch.setattr("storage.optuna.closing.closing_state", lambda *_: None)


def create(study: StoredStudy, store: TrialStore, claim: Claim) -> int:
    """Create the Optuna trial of a claim without sampling it; return its number."""
    trial_id, number = store._search.create(claim)
    study.database.transaction(lambda c: attempts.attach(c, claim.attempt_id, trial_id, number, None))
    return number


@pytest.mark.usefixtures("tells_later")
def test_agent_killed_between_settle_and_tell(study: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study.agent()
    claim = claimed(first)
    monkeypatch.setattr(first._search, "tell", killed)
    with pytest.raises(Killed):
        train(first, claim)
    assert study.states == [RUNNING]

    second = study.agent()
    assert second.claim(0, "cpu:0") is NoWork.DONE
    second.sweep()
    assert study.states == [RUNNING], "its agent may still be about to tell"
    second.sweep(0.0)
    assert study.states == [COMPLETE]
    assert study.optuna.best_value == 0.5


@pytest.mark.usefixtures("tells_later")
def test_clock_that_is_set_back_keeps_no_decision_from_optuna(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.agent()
    claim = claimed(first)
    monkeypatch.setattr(first._search, "tell", killed)
    with pytest.raises(Killed):
        train(first, claim)
    study.execute("UPDATE hpo.trials SET decided_at = decided_at + interval '1 day'")
    study.execute("UPDATE hpo.attempts SET ended_at = ended_at + interval '1 day'")
    second = study.agent()
    assert second.files.orphaned_logs([claim.attempt_id], 60.0) == {(0, claim.attempt_id): True}
    second.sweep()
    assert study.states == [COMPLETE]


@pytest.mark.usefixtures("stepwise")
def test_trial_has_the_parameters_that_optuna_has_although_two_agents_sample_it(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that was stopped while it sampled continues at the moment when its successor samples."""
    first = study.agent()
    create(study, first, claimed(first))
    study.expire_leases()
    second = study.agent()
    second.reap_expired()
    propose = second._search.propose

    def race(trial_id: int, *known: Any) -> Proposal:
        proposal = propose(trial_id, *known)
        for name, value in proposal.unwritten.items():
            study.database.optuna.set_trial_param(trial_id, name, value / 2, study.spec.space[name])
        return proposal

    monkeypatch.setattr(second._search, "propose", race)
    _, number, params = second.sample(claimed(second))
    assert study.optuna.get_trials()[number].params == params
    assert study.scalar("SELECT params FROM hpo.trials") == params


def test_order_of_decisions_stays_although_the_clock_was_set_back(study: StoredStudy) -> None:
    study.execute("UPDATE hpo.studies SET budget = 3, failures_since = failures_since + interval '1 day'")
    agent = study.agent()
    agent.settle(claimed(agent).attempt_id, Outcome.BUG, None, "first")
    study.execute("UPDATE hpo.trials SET decided_at = decided_at + interval '1 day'")
    agent.settle(claimed(agent).attempt_id, Outcome.BUG, None, "second")
    counts, failures = agent.failures(3)
    assert (counts.failing, [failure.error for failure in failures]) == (2, ["second", "first"])
    study.set_state("run")
    assert agent.failures(3)[0].failing == 0


def test_agent_does_not_live_in_the_future(study: StoredStudy) -> None:
    """It died before the database's clock was set back."""
    study.agent()
    assert study.database.transaction(lambda c: studies.progress(c, study.optuna._study_id)).has_agents
    study.execute("UPDATE hpo.agents SET seen_at = seen_at + interval '1 day'")
    assert not study.database.transaction(lambda c: studies.progress(c, study.optuna._study_id)).has_agents


@pytest.mark.usefixtures("tells_later")
def test_agent_killed_before_it_marks_a_trial_as_reported(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.agent()
    monkeypatch.setattr("storage.optuna.trials.mark_told", killed)
    with pytest.raises(Killed):
        train(first, claimed(first))
    monkeypatch.undo()
    completed = study.optuna.get_trials()[0].datetime_complete

    study.agent().sweep(0.0)
    assert study.states == [COMPLETE]
    assert study.optuna.get_trials()[0].datetime_complete == completed, "Optuna was told twice"
    assert study.scalar("SELECT told_optuna FROM hpo.trials")


@pytest.mark.usefixtures("stepwise")
def test_agent_killed_between_create_and_attach(study: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study.agent()
    claim = claimed(first)
    monkeypatch.setattr("storage.attempts.attach", killed)
    with pytest.raises(Killed):
        first.sample(claim)
    monkeypatch.undo()
    study.expire_leases()

    second = study.agent()
    second.reap_expired()
    again = claimed(second)
    assert (again.reservation_id, again.fresh, again.trial_id) == (claim.reservation_id, False, None)
    train(second, again)
    second.sweep(0.0)
    assert study.states == [COMPLETE], "the trial that was created is the one that was trained"


@pytest.mark.usefixtures("stepwise")
def test_agent_killed_while_sampling_a_trial_created_twice(study: StoredStudy) -> None:
    """The trial attached to the reservation resumes, not the first one created for it."""
    first = study.agent()
    claim = claimed(first)
    first._search.create(claim)
    create(study, first, claim)
    first.release(claim.attempt_id)

    second = study.agent()
    second.sweep(0.0)
    assert study.states == [FAIL, RUNNING]
    train(second, claimed(second))
    assert study.states == [FAIL, COMPLETE]
    assert study.scalar("SELECT number FROM hpo.trials") == 1


@pytest.mark.usefixtures("stepwise")
@pytest.mark.parametrize("cached", [True, False])
def test_created_trial_is_found_after_its_answer_was_lost(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Suggesting a parameter for a trial that is missing from Optuna's cache raised a KeyError."""
    store = study.agent()
    creator, name = (
        (store._search, "create") if cached else (study.database.optuna._backend, "_create_new_trial")
    )
    monkeypatch.setattr(creator, name, losing_answer(getattr(creator, name)))
    train(store, claimed(store))
    assert study.states == [COMPLETE]


@pytest.mark.usefixtures("stepwise")
def test_trial_created_twice_leaves_one_failed_stray(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit becomes visible only after the search for it."""
    store = study.agent()
    monkeypatch.setattr(store._search, "create", losing_answer(store._search.create))
    monkeypatch.setattr(store._optuna_trials, "_find_created", lambda _reservation: None)
    store.sample(claimed(store))
    study.agent().sweep()
    assert sorted(state.name for state in study.states) == ["FAIL", "RUNNING"]
    # Claiming again returns the slot's current claim.
    train(store, claimed(store))
    assert sorted(state.name for state in study.states) == ["COMPLETE", "FAIL"]
    found = store.refresh().counts
    assert (found.finished, found.left, found.failed) == (1, 0, 0)


@pytest.mark.usefixtures("stepwise")
def test_trial_with_a_reservation_is_not_swept(study: StoredStudy) -> None:
    """A trial just created and a trial of plain Optuna stay."""
    study.optuna.ask()
    store = study.agent()
    store._search.create(claimed(store))
    study.agent().sweep(0.0)
    assert study.states == [RUNNING] * 2


@pytest.mark.usefixtures("stepwise")
@pytest.mark.parametrize("sampled", [True, False])
def test_trial_closed_with_plain_optuna_fails_and_is_replaced(study: StoredStudy, sampled: bool) -> None:
    store = study.agent()
    claim = claimed(store)
    trial_id, number, _ = store.sample(claim) if sampled else (0, create(study, store, claim), {})
    study.optuna.tell(number, state=FAIL)
    proceed = partial(report, store, claim, trial_id) if sampled else lambda: store.sample(claimed(store))
    with pytest.raises(TrialClosedError, match="closed by another program"):
        proceed()
    again = claimed(store)
    assert again.reservation_id != claim.reservation_id
    train(store, again)
    assert store.claim(0, "cpu:0") is NoWork.DONE
    assert study.states == [FAIL, COMPLETE]


def test_trial_finished_by_another_agent_is_fenced_in_the_pruner(database: Database) -> None:
    """ASHA writes a trial's rung to the trial, which Optuna refuses once it is finished."""
    study = StoredStudy(database, replace(SPEC, pruner="asha"))
    late, quick = study.agent(), study.agent()
    claim, trial_id = begun(late)
    report(late, claim, trial_id)
    study.finish_elsewhere(quick)
    with pytest.raises(LeaseLostError) as lost:
        late.judgement.should_prune(claim.attempt_id, trial_id)
    assert lost.type is LeaseLostError
    assert study.states == [COMPLETE]


def test_epoch_and_its_report_to_optuna_are_one(study: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated report leaves both as they are, even if the agent is killed; a fenced attempt changes neither."""
    slow, quick = study.agent(), study.agent()
    claim = claimed(slow)
    trial_id, _, _ = slow.sample(claim)
    report(slow, claim, trial_id, 0.7)
    with monkeypatch.context() as patched:
        patched.setattr("storage.optuna.live_trials.report", killed)
        with pytest.raises(Killed):
            report(slow, claim, trial_id, 0.8)
    assert study.scalar("SELECT metrics FROM hpo.epochs") == {"loss": 0.7}
    assert study.optuna.get_trials()[0].intermediate_values == {1: 0.7}
    study.finish_elsewhere(quick)
    with pytest.raises(LeaseLostError) as lost:
        report(slow, claim, trial_id, 0.7)
    assert study.states == [COMPLETE]
    # Not TrialClosedError: no other program closed the trial.
    assert lost.type is LeaseLostError
    assert study.optuna.best_trial.intermediate_values == {1: 0.5, 2: 0.5}, "trained again"


def test_fenced_attempt_changes_nothing(study: StoredStudy) -> None:
    """Every write of an attempt whose lease expired fails."""
    first, second = study.agent(), study.agent()
    claim = claimed(first)
    trial_id, number, params = first.sample(claim)
    study.expire_leases()
    second.reap_expired()
    again = claimed(second)
    assert second.sample(again) == (trial_id, number, params)
    for write in (
        lambda: first.begin(claim.attempt_id, 1, 0),
        lambda: report(first, claim, trial_id, 9.0),
        lambda: first.settle(claim.attempt_id, Outcome.COMPLETE, 9.0),
        lambda: first.check_held(claim.attempt_id),
        lambda: first._closed(claim.attempt_id),
    ):
        with pytest.raises(LeaseLostError) as lost:
            write()
        # Not TrialClosedError: no other program closed the trial.
        assert lost.type is LeaseLostError
    first.lose(claim.attempt_id, "late")
    first.release(claim.attempt_id)
    train(second, again)
    assert study.optuna.best_value == 0.5
    assert study.optuna.best_trial.intermediate_values == {1: 0.5, 2: 0.5}
    assert study.scalar("SELECT lost FROM hpo.trials") == 1


def test_trial_that_begins_again_has_no_epochs_of_its_earlier_attempt(study: StoredStudy) -> None:
    """Neither in Optuna nor in our tables: a pruner or sampler would take them for those of the new attempt."""
    store = study.agent()
    claim, trial_id = begun(store)
    for epoch in (1, 2, 3):
        report(store, claim, trial_id, loss=0.5 + epoch, epoch=epoch)
    store.release(claim.attempt_id)
    again, _ = begun(store)
    assert study.optuna.get_trials()[0].intermediate_values == {}
    report(store, again, trial_id, loss=0.1)
    store.settle(again.attempt_id, Outcome.PRUNED, 0.1)
    assert study.optuna.get_trials()[0].intermediate_values == {1: 0.1}
    assert study.scalar("SELECT array_agg(epoch) FROM hpo.epochs") == [1]
    assert study.scalar("SELECT epochs FROM hpo.trials") == 1
    assert study.scalar("SELECT sum(epochs) FROM hpo.attempts") == 4, "what was trained was paid for"


def rungs(study: StoredStudy) -> dict[str, float]:
    """Return the notes of the pruner on the first trial."""
    attrs = study.optuna.get_trials()[0].system_attrs
    return {name: value for name, value in attrs.items() if name.startswith("completed_rung_")}


@pytest.mark.parametrize("resumed_from", [0, 2, 3, 5, 10])
@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_pruner_judges_a_resumed_trial_by_its_present_epochs_only(
    database: Database, pruner: str, resumed_from: int
) -> None:
    """Rungs after epochs 1, 3 and 9, or of a later bracket of Hyperband."""
    study = StoredStudy(database, replace(SPEC, pruner=pruner, epochs=10))
    store = study.agent()
    claim, trial_id = begun(store)

    def judge(epochs: range, worse: float) -> None:
        for epoch in epochs:
            report(store, claim, trial_id, loss=worse + 10.0 - epoch, epoch=epoch)
            store.judgement.should_prune(claim.attempt_id, trial_id)

    judge(range(1, 10), 0.0)
    before = rungs(study)
    assert before
    store.release(claim.attempt_id)
    claim = claimed(store)
    store.sample(claim)
    store.begin(claim.attempt_id, 1, resumed_from)
    store.judgement.replay(claim.attempt_id, trial_id)
    kept = {name: loss for name, loss in before.items() if 10.0 - loss <= resumed_from}
    assert rungs(study) == kept
    judge(range(resumed_from + 1, 10), 100.0)
    assert rungs(study) == kept | {
        name: 100.0 + loss for name, loss in before.items() if 10.0 - loss > resumed_from
    }
