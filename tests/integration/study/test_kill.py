"""Trials that are ended by hand."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from hpo.outcomes import Outcome
from hpo.study.kill import REASON, TrialNotOpenError, kill_trial
from hpo.study.trials import trial_rows
from storage.attempts import LeaseLostError
from storage.engine import Database
from tests.integration.rows import StudyRows
from tests.integration.stores import StoredStudy, begun, report


def test_killed_trial_is_pruned_with_its_last_value_and_its_attempt_is_fenced(database: Database) -> None:
    study = StoredStudy(database)
    store = study.agent()
    claim, trial_id = begun(store)
    report(store, claim, trial_id, 0.5, 1)
    report(store, claim, trial_id, 0.25, 2)
    kill_trial(database, "s", 0)
    (row,) = trial_rows(database, "s")
    assert (row.state, row.value, row.why) == (Outcome.PRUNED, 0.25, f"pruned after epoch 2: {REASON}")
    assert study.states == [TrialState.PRUNED]
    with pytest.raises(LeaseLostError):
        store.settle(claim.attempt_id, Outcome.COMPLETE, 0.1)
    assert store.refresh().counts.finished == 1


def test_waiting_trial_can_be_killed(database: Database) -> None:
    study = StoredStudy(database)
    store = study.agent()
    store.release(begun(store)[0].attempt_id)
    kill_trial(database, "s", 0)
    assert study.states == [TrialState.PRUNED]
    assert store.refresh().counts.waiting == 0


def test_trial_that_has_ended_or_does_not_exist_is_refused(database: Database) -> None:
    StudyRows(database).trial("complete", 0.5)
    with pytest.raises(TrialNotOpenError, match="trial 0 of study 'demo' has ended: hpo trials --study demo"):
        kill_trial(database, "demo", 0)
    with pytest.raises(TrialNotOpenError, match="no trial 7: hpo trials --study demo"):
        kill_trial(database, "demo", 7)
