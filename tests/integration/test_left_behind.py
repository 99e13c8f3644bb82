"""Recovery from an agent that dies between two commits: each gap is hit exactly."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psycopg2
import pytest
from optuna.trial import TrialState
from sqlalchemy import insert, text, update
from sqlalchemy.exc import OperationalError

from hpo.agent.cleanup import Cleanup
from hpo.agent.trial_store import TrialClosedError, TrialStore
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from hpo.trainer.messages import EpochRecord
from objectives.base import Device
from storage import agents, attempts, leases
from storage.attempts import LeaseLostError
from storage.budget import Counts
from storage.claims import Claim, NoWork
from storage.engine import Database
from storage.leases import LeaseTimes
from storage.retry import Retry
from storage.tables import studies
from tests.specs import spec


class Killed(BaseException):
    """An exception that no agent catches."""


@pytest.fixture
def study(database: Database) -> optuna.Study:
    made = optuna.create_study(study_name="s", storage=database.optuna, direction="minimize")
    row = {
        "study_id": made._study_id,
        "name": "s",
        "spec": spec(objective="quadratic").to_json(),
        "budget": 1,
    }
    database.transaction(lambda connection: connection.execute(insert(studies).values(row)))
    return made


def agent(
    database: Database, study: optuna.Study, lease_seconds: float = 120.0, grace_renewals: float = 0.0
) -> TrialStore:
    stored = database.transaction(lambda c: c.execute(text("SELECT spec FROM hpo.studies")).scalar_one())
    spec = StudySpec.from_json(stored)
    times = LeaseTimes(lease_seconds, grace_renewals)
    return TrialStore(database, study._study_id, "s", spec, [Device()], Retry(5.0, first_delay=0.01), times)


def claimed(store: TrialStore) -> Claim:
    claim = store.claim(0, "cpu:0")
    assert isinstance(claim, Claim)
    return claim


def expire_leases(database: Database) -> None:
    """Let all leases expire."""
    sql = "UPDATE hpo.attempts SET lease_until = clock_timestamp() - interval '1 s' WHERE ended_at IS NULL"
    database.transaction(lambda connection: connection.execute(text(sql)))


def counts(store: TrialStore) -> Counts:
    """Reap expired leases and return the study's counts."""
    store.reap_expired()
    return store.refresh().counts


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


def killed(*_: object, **__: object) -> Any:
    raise Killed


def losing_answer(call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """Wrap `call` so that it takes effect but raises `error` the first time."""
    lost = False

    def wrapped(*arguments: Any) -> Any:
        nonlocal lost
        result = call(*arguments)
        if lost:
            return result
        lost = True
        raise error

    return wrapped


def answer_lost() -> OperationalError:
    return OperationalError("COMMIT", {}, psycopg2.OperationalError("server closed the connection"))


def train(store: TrialStore, claim: Claim) -> None:
    """Train a claimed trial to its end."""
    trial_id, _, _ = store.sample(claim)
    store.begin(claim.attempt_id, 1, 0)
    for epoch in (1, 2):
        store.record(claim.attempt_id, trial_id, [EpochRecord(epoch, {"loss": 0.5}, 0.1)])
    store.settle(claim.attempt_id, Outcome.COMPLETE, 0.5)


def test_agent_killed_between_settle_and_tell(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = agent(database, study)
    claim = claimed(first)
    monkeypatch.setattr(first._search, "tell", killed)
    with pytest.raises(Killed):
        train(first, claim)
    assert states(study) == [TrialState.RUNNING]

    second = agent(database, study)
    assert second.claim(0, "cpu:0") is NoWork.DONE
    second.sweep()
    assert states(study) == [TrialState.RUNNING], "its agent may still be about to tell"
    second.sweep(0.0)
    assert states(study) == [TrialState.COMPLETE]
    assert study.best_value == 0.5


def test_agent_killed_before_it_marks_a_trial_as_told(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = agent(database, study)
    monkeypatch.setattr("storage.optuna_trials.mark_told", killed)
    with pytest.raises(Killed):
        train(first, claimed(first))
    monkeypatch.undo()
    completed = study.get_trials()[0].datetime_complete

    agent(database, study).sweep(0.0)
    assert states(study) == [TrialState.COMPLETE]
    assert study.get_trials()[0].datetime_complete == completed, "Optuna was told twice"
    assert database.transaction(lambda c: c.execute(text("SELECT told_optuna FROM hpo.trials")).scalar_one())


def test_agent_killed_between_create_and_attach(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = agent(database, study)
    claim = claimed(first)
    monkeypatch.setattr("storage.attempts.attach", killed)
    with pytest.raises(Killed):
        first.sample(claim)
    monkeypatch.undo()
    expire_leases(database)

    second = agent(database, study)
    second.reap_expired()
    again = claimed(second)
    assert (again.reservation_id, again.fresh, again.trial_id) == (claim.reservation_id, False, None)
    train(second, again)
    second.sweep(0.0)
    assert states(study) == [TrialState.COMPLETE], "the trial that was created is the one that was trained"


def test_created_trial_is_found_after_its_answer_was_lost(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = agent(database, study)
    monkeypatch.setattr(store._search, "create", losing_answer(store._search.create, answer_lost()))
    train(store, claimed(store))
    assert states(study) == [TrialState.COMPLETE]


def test_created_trial_is_in_optunas_cache_after_its_answer_was_lost(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suggesting a parameter for a trial that is missing from the cache raised a KeyError."""
    store = agent(database, study)
    backend = database.optuna._backend
    monkeypatch.setattr(backend, "_create_new_trial", losing_answer(backend._create_new_trial, answer_lost()))
    train(store, claimed(store))
    assert states(study) == [TrialState.COMPLETE]


def test_trial_finished_by_another_agent_is_fenced_in_the_pruner(
    database: Database, study: optuna.Study
) -> None:
    """ASHA writes a trial's rung to the trial, which Optuna refuses once it is finished."""
    asha = spec(objective="quadratic", pruner="asha")
    database.transaction(lambda c: c.execute(update(studies).values(spec=asha.to_json())))
    late, quick = agent(database, study), agent(database, study)
    claim = claimed(late)
    trial_id, _, _ = late.sample(claim)
    late.begin(claim.attempt_id, 1, 0)
    late.record(claim.attempt_id, trial_id, [EpochRecord(1, {"loss": 0.5}, 0.1)])
    expire_leases(database)
    quick.reap_expired()
    train(quick, claimed(quick))
    with pytest.raises(LeaseLostError) as lost:
        late.should_prune(claim.attempt_id, trial_id)
    assert lost.type is LeaseLostError
    assert states(study) == [TrialState.COMPLETE]


def test_trial_created_twice_leaves_one_failed_stray(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit becomes visible only after the search for it."""
    store = agent(database, study)
    monkeypatch.setattr(store._search, "create", losing_answer(store._search.create, answer_lost()))
    monkeypatch.setattr(store, "_find_created", lambda _reservation: None)
    store.sample(claimed(store))
    agent(database, study).sweep()
    assert sorted(state.name for state in states(study)) == ["FAIL", "RUNNING"]
    # Claiming again returns the slot's current claim.
    train(store, claimed(store))
    assert sorted(state.name for state in states(study)) == ["COMPLETE", "FAIL"]
    found = counts(store)
    assert (found.finished, found.left, found.failed) == (1, 0, 0)


def test_trial_with_a_reservation_is_not_swept(database: Database, study: optuna.Study) -> None:
    """A trial just created and a trial of plain Optuna stay."""
    study.ask()
    store = agent(database, study)
    store._search.create(claimed(store))
    agent(database, study).sweep(0.0)
    assert states(study) == [TrialState.RUNNING] * 2


def test_attempt_is_fenced_between_an_epoch_and_its_report(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent has finished the trial meanwhile: only the attempt is lost, not the agent."""
    slow, quick = agent(database, study), agent(database, study)
    claim = claimed(slow)
    trial_id, _, _ = slow.sample(claim)
    report = slow._search.report

    def report_late(*arguments: Any) -> None:
        expire_leases(database)
        quick.reap_expired()
        train(quick, claimed(quick))
        report(*arguments)

    monkeypatch.setattr(slow._search, "report", report_late)
    with pytest.raises(LeaseLostError) as lost:
        slow.record(claim.attempt_id, trial_id, [EpochRecord(1, {"loss": 0.7}, 0.1)])
    assert states(study) == [TrialState.COMPLETE]
    # Not TrialClosedError: no other program closed the trial.
    assert lost.type is LeaseLostError
    assert study.best_trial.intermediate_values == {1: 0.7, 2: 0.5}


def test_new_agent_lets_others_renew_first(database: Database, study: optuna.Study) -> None:
    first = agent(database, study)
    claim = claimed(first)
    expire_leases(database)
    second = agent(database, study, grace_renewals=2.0)
    assert counts(second).running == 1, "the first may be about to renew"
    database.transaction(lambda c: leases.renew(c, first.agent_id, 120.0))
    train(first, claim)
    assert states(study) == [TrialState.COMPLETE]


def test_trial_is_not_claimed_while_its_checkpoints_are_removed(
    database: Database, study: optuna.Study
) -> None:
    first, second = agent(database, study), agent(database, study)
    claim = claimed(first)
    touched: list[int] = []
    assert not second.while_waiting(claim.reservation_id, lambda: touched.append(1)), "it is held"
    first.release(claim.attempt_id)
    claims: list[Claim | NoWork] = []
    claimer = threading.Thread(target=lambda: claims.append(first.claim(0, "cpu:0")))

    def remove() -> None:
        claimer.start()
        # The claim waits for the lock on the study's row.
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not database.transaction(lambda c: c.execute(text(waiting)).scalar_one()):
            assert not claims
        touched.append(2)

    assert second.while_waiting(claim.reservation_id, remove)
    claimer.join(30.0)
    assert touched == [2]
    assert isinstance(claims[0], Claim)
    assert claims[0].reservation_id == claim.reservation_id


def shift_clock(database: Database, seconds: int) -> None:
    """Move the database's clock ahead: all leases end `seconds` earlier."""
    sql = "UPDATE hpo.attempts SET lease_until = lease_until - :s * interval '1 s' WHERE ended_at IS NULL"
    database.transaction(lambda c: c.execute(text(sql), {"s": seconds}))


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_jump_of_the_database_clock_costs_no_live_attempt(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    clock = 1000.0
    monkeypatch.setattr("hpo.agent.lease_expiry.time.monotonic", lambda: clock)
    first = agent(database, study, grace_renewals=2.0)
    second = agent(database, study, grace_renewals=2.0)
    claimed(first)
    assert counts(second).running == 1
    shift_clock(database, seconds)
    for _ in range(60):
        clock += 1.0
        if clock % 10 == 0:
            database.transaction(lambda c: leases.renew(c, first.agent_id, 120.0))
        assert counts(second).running == 1
    # Without renewals the lease expires.
    shift_clock(database, seconds)
    for _ in range(60):
        clock += 1.0
        second.reap_expired()
    assert counts(second).running == 0


def test_trial_closed_with_plain_optuna_fails_and_is_replaced(
    database: Database, study: optuna.Study
) -> None:
    store = agent(database, study)
    claim = claimed(store)
    trial_id, number, _ = store.sample(claim)
    study.tell(number, state=TrialState.FAIL)
    with pytest.raises(TrialClosedError, match="closed by another program"):
        store.record(claim.attempt_id, trial_id, [EpochRecord(1, {"loss": 0.5}, 0.1)])
    again = claimed(store)
    assert again.reservation_id != claim.reservation_id
    train(store, again)
    assert store.claim(0, "cpu:0") is NoWork.DONE
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]


def test_trial_closed_before_it_was_sampled_fails(database: Database, study: optuna.Study) -> None:
    store = agent(database, study)
    claim = claimed(store)
    trial_id, number = store._search.create(claim)
    database.transaction(lambda c: attempts.attach(c, claim.attempt_id, trial_id, number, None))
    study.tell(number, state=TrialState.FAIL)
    with pytest.raises(TrialClosedError):
        store.sample(claimed(store))
    train(store, claimed(store))
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]


def test_agent_killed_while_sampling_a_trial_created_twice(database: Database, study: optuna.Study) -> None:
    """The trial attached to the reservation resumes, not the first one created for it."""
    first = agent(database, study)
    claim = claimed(first)
    first._search.create(claim)
    trial_id, number = first._search.create(claim)
    database.transaction(lambda c: attempts.attach(c, claim.attempt_id, trial_id, number, None))
    first.release(claim.attempt_id)

    second = agent(database, study)
    second.sweep(0.0)
    assert states(study) == [TrialState.FAIL, TrialState.RUNNING]
    train(second, claimed(second))
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]
    assert database.transaction(lambda c: c.execute(text("SELECT number FROM hpo.trials")).scalar_one()) == 1


def clean_up(
    store: TrialStore, logs: Path, held: frozenset[int] = frozenset(), seconds: float = 0.0
) -> set[str]:
    """Clean up orphaned logs and return the names of those that remain."""
    Cleanup("s", store, logs, logs, None).keep_orphaned_logs(held, seconds)
    return {path.name for path in logs.iterdir()}


def kept(database: Database) -> dict[int, str]:
    """Return the uploaded log of each attempt."""
    rows = database.transaction(
        lambda c: c.execute(text("SELECT attempt_id, tail FROM hpo.attempt_logs")).all()
    )
    return {row.attempt_id: row.tail for row in rows}


def printing(store: TrialStore, logs: Path) -> tuple[Claim, Path]:
    """Claim a trial and write the log of its attempt."""
    claim = claimed(store)
    _, number, _ = store.sample(claim)
    path = logs / f"trial-{number}-attempt-{claim.attempt_id}.log"
    path.write_text("printed")
    return claim, path


def test_log_of_a_reaped_agent_is_uploaded(database: Database, study: optuna.Study, tmp_path: Path) -> None:
    first = agent(database, study)
    claim, _ = printing(first, tmp_path)
    database.transaction(lambda c: agents.reap_agent(c, first.agent_id, 3))
    assert clean_up(agent(database, study), tmp_path, seconds=3600.0) == set()
    assert kept(database) == {claim.attempt_id: "printed"}


def test_log_stays_while_its_agent_may_write_to_it(
    database: Database, study: optuna.Study, tmp_path: Path
) -> None:
    first, second = agent(database, study), agent(database, study)
    claim, path = printing(first, tmp_path)
    assert clean_up(second, tmp_path) == {path.name}, "it runs"
    expire_leases(database)
    second.reap_expired()
    assert clean_up(second, tmp_path, seconds=60.0) == {path.name}, "its agent may not know that it has ended"
    assert clean_up(first, tmp_path, held=frozenset({claim.attempt_id})) == {path.name}
    assert kept(database) == {}
    ended = "UPDATE hpo.attempts SET ended_at = ended_at - interval '61 s'"
    database.transaction(lambda c: c.execute(text(ended)))
    assert clean_up(second, tmp_path, seconds=60.0) == set()
    assert kept(database) == {claim.attempt_id: "printed"}


def test_fenced_attempt_changes_nothing(database: Database, study: optuna.Study) -> None:
    """Every write of an attempt whose lease expired fails."""
    first, second = agent(database, study), agent(database, study)
    claim = claimed(first)
    trial_id, number, params = first.sample(claim)
    expire_leases(database)
    second.reap_expired()
    again = claimed(second)
    assert second.sample(again) == (trial_id, number, params)

    for attempt in (
        lambda: first.begin(claim.attempt_id, 1, 0),
        lambda: first.record(claim.attempt_id, trial_id, [EpochRecord(1, {"loss": 9.0}, 0.1)]),
        lambda: first.settle(claim.attempt_id, Outcome.COMPLETE, 9.0),
        lambda: first.check_held(claim.attempt_id),
        lambda: first._closed(claim.attempt_id),
    ):
        with pytest.raises(LeaseLostError) as lost:
            attempt()
        # Not TrialClosedError: no other program closed the trial.
        assert lost.type is LeaseLostError
    first.lose(claim.attempt_id, "late")
    first.release(claim.attempt_id)
    train(second, again)
    assert study.best_value == 0.5
    assert study.best_trial.intermediate_values == {1: 0.5, 2: 0.5}
    times_lost = "SELECT lost FROM hpo.trials"
    assert database.transaction(lambda c: c.execute(text(times_lost)).scalar_one()) == 1


def test_agent_gives_others_time_to_renew_after_an_outage(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("hpo.agent.lease_expiry.time.monotonic", lambda: clock)
    claimed(agent(database, study))
    store = agent(database, study, grace_renewals=2.0)
    store.reap_expired()
    expire_leases(database)
    clock += 100.0
    assert counts(store).running == 1, "this agent was offline itself"
    clock += 19.0
    assert counts(store).running == 1
    clock += 2.0
    assert counts(store).running == 0


def test_lease_expires_after_the_grace_time(database: Database, study: optuna.Study) -> None:
    claimed(agent(database, study))
    expire_leases(database)
    second = agent(database, study, lease_seconds=0.6, grace_renewals=2.0)
    began_at = time.monotonic()
    while counts(second).running:
        assert time.monotonic() - began_at < 30.0
    assert time.monotonic() - began_at >= second.times.grace_seconds / 2


def test_logs_of_unknown_attempts_are_removed_after_a_day(
    database: Database, study: optuna.Study, tmp_path: Path
) -> None:
    """They may belong to a running study of the same name in another database."""
    store = agent(database, study)
    claim, path = printing(store, tmp_path)
    store.release(claim.attempt_id)
    path.rename(tmp_path / f"trial-7-attempt-{claim.attempt_id}.log")
    for name in ("trial-0-attempt-77", f"trial-0-attempt-{'9' * 30}", "trial-0-attempt-x", "retrain-seed-1"):
        (tmp_path / f"{name}.log").write_text("of something else")
    before = {path.name for path in tmp_path.iterdir()}
    assert clean_up(store, tmp_path) == before
    two_days_ago = time.time() - 2 * 86400
    for path in tmp_path.iterdir():
        os.utime(path, (two_days_ago, two_days_ago))
    assert clean_up(store, tmp_path) == before - {
        "trial-0-attempt-77.log",
        f"trial-7-attempt-{claim.attempt_id}.log",
    }
    assert kept(database) == {}


def test_unreadable_orphaned_log_is_ignored(database: Database, study: optuna.Study, tmp_path: Path) -> None:
    store = agent(database, study)
    claim, path = printing(store, tmp_path)
    store.release(claim.attempt_id)
    path.unlink()
    path.mkdir()
    assert clean_up(store, tmp_path) == {path.name}
