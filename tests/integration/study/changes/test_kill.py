"""Trials that are ended by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.trial import TrialState

from hpo.outcomes import Outcome
from hpo.study.changes.kill import REASON, Killed, TrialNotOpenError, kill_trial
from hpo.study.results.trials import trial_rows
from storage.attempts import LeaseLostError
from storage.engine import Database
from storage.freeze_thaw import pauses
from storage.optuna import trials as optuna_trials
from tests.integration.rows import StudyRows
from tests.integration.stores import SPEC, StoredStudy, begun, claimed, report, train


@pytest.mark.parametrize(("rule", "value"), [("last", 0.25), ("best", 0.125)])
def test_killed_trial_is_pruned_with_its_value_and_its_attempt_is_fenced(
    database: Database, rule: str, value: float
) -> None:
    study = StoredStudy(database, replace(SPEC, value=rule))
    store = study.agent()
    claim, trial_id = begun(store)
    report(store, claim, trial_id, 0.125, 1)
    report(store, claim, trial_id, 0.25, 2)
    assert kill_trial(database, "s", 0) == Killed(was_running=True)
    (row,) = trial_rows(database, "s")
    assert (row.state, row.value, row.why) == (Outcome.PRUNED, value, f"pruned after epoch 2: {REASON}")
    assert study.states == [TrialState.PRUNED]
    with pytest.raises(LeaseLostError):
        store.settle(claim.attempt_id, Outcome.COMPLETE, 0.1)
    assert store.refresh().counts.finished == 1


@pytest.mark.parametrize("paused", [False, True])
def test_waiting_or_paused_trial_can_be_killed(database: Database, paused: bool) -> None:
    study = StoredStudy(database, replace(SPEC, pruner="freeze-thaw"), budget=2)
    store = study.agent()
    claim, trial_id = begun(store)
    report(store, claim, trial_id, 0.25, 1)
    assert not paused or store.judgement.pauses(claim.attempt_id, {1: 0.25})
    store.release(claim.attempt_id)
    (row,) = trial_rows(database, "s")
    found = ("paused", 0.25, "paused after epoch 1") if paused else ("waiting", None, "")
    assert (row.state, row.value, row.why) == found
    assert kill_trial(database, "s", 0) == Killed()
    assert study.states == [TrialState.PRUNED]
    assert (store.refresh().counts.waiting, store.refresh().counts.paused) == (0, 0)
    # What a user has ended does not go on when the budget grows.
    assert database.transaction(lambda c: pauses.reopen(c, study.optuna._study_id)) == 0


def test_enqueued_trial_is_withdrawn(database: Database) -> None:
    study = StoredStudy(database)
    for x in (0.25, 0.5):
        study.optuna.enqueue_trial({"x": x})
    store = study.agent()
    claim = claimed(store)
    assert kill_trial(database, "s", 0).withdrawn
    # An agent that read it before does not get it.
    take = optuna_trials.take_enqueued
    ids = [trial._trial_id for trial in study.optuna.get_trials()]
    study_id = study.optuna._study_id
    assert not database.transaction(lambda c: take(c, study_id, claim.attempt_id, ids[0], 0))
    train(store, claim)
    row, trained = trial_rows(database, "s")
    assert (row.state, row.why) == ("fail", f"enqueued, but not trained: {REASON}")
    assert (trained.number, trained.params) == (1, {"x": 0.5})
    assert store.refresh().counts.finished == 1
    with pytest.raises(TrialNotOpenError):
        kill_trial(database, "s", 0)


def test_trial_that_has_ended_or_does_not_exist_is_refused(database: Database) -> None:
    StudyRows(database).trial("complete", 0.5)
    with pytest.raises(TrialNotOpenError, match="trial 0 of study 'demo' has ended: hpo trials --study demo"):
        kill_trial(database, "demo", 0)
    with pytest.raises(TrialNotOpenError, match="no trial 7: hpo trials --study demo"):
        kill_trial(database, "demo", 7)
