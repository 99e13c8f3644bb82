"""`hpo copy` creates a study like another, completely or not at all."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.errors import StudyConflictError, UnknownStudyError, UsageError
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study, set_desired_state, study_names
from hpo.study.changes import copy_study as module
from hpo.study.changes.copy_study import Copied, copy_study
from hpo.study.monitoring.status import study_status
from hpo.study.results.trials import trial_rows
from storage import studies
from storage.engine import Database
from tests.integration.stores import StoredStudy, begun, claimed, report, train
from tests.specs import SPACE, spec


def test_copy_has_spec_budget_and_history(database: Database) -> None:
    study = StoredStudy(
        database, spec(seed=7, earlier_samplers=(("tpe", 1),), pruner="freeze-thaw"), budget=5
    )
    agent = study.agent()
    train(agent, claimed(agent))
    paused, trial_id = begun(agent)
    report(agent, paused, trial_id, 0.75, 1)
    assert agent.judgement.pauses(paused.attempt_id, {1: 0.75})
    agent.release(paused.attempt_id)
    study.optuna.add_trial(create_trial(state=TrialState.FAIL))
    study.optuna.add_trial(
        create_trial(
            state=TrialState.PRUNED,
            params={"x": 0.5},
            distributions=SPACE,
            intermediate_values={1: float("inf"), 2: 0.5},
            user_attrs={"hpo_imported": "study old", "hpo_figure_parameters": 5.0, "note": "not copied"},
            system_attrs={"constraints:diverged": 1.0, "fixed_params": {"x": 0.5}},
        )
    )
    study.optuna.ask({"x": FloatDistribution(0, 1)})
    study.optuna.enqueue_trial({"x": 0.25})
    set_desired_state(database, "s", "stop")
    assert copy_study(database, "s", "plain") == Copied(budget=5, history=0)
    assert copy_study(database, "s", "taught", history=True) == Copied(budget=5, history=3)
    original, plain, taught = (find_study(database, name) for name in ("s", "plain", "taught"))
    assert StudySpec.from_json(taught.spec_json) == spec(seed=7, pruner="freeze-thaw")
    assert (plain.desired_state, plain.budget, len({original.uid, plain.uid, taught.uid})) == ("run", 5, 3)
    assert trial_rows(database, "plain") == []
    status = study_status(database, "taught")
    assert (status.finished, status.waiting, status.best_number) == (0, 0, None)
    rows = trial_rows(database, "taught")
    assert [(row.number, row.state, row.why) for row in rows] == [
        (0, "added", "imported from study s, not trained here"),
        (1, "pruned", "imported from study s, not trained here"),
        (2, "pruned", "imported from study old, not trained here"),
    ]
    copied = optuna.load_study(study_name="taught", storage=database.optuna).trials
    trials = study.optuna.trials
    assert (trials[1].state, copied[1].state, copied[1].value) == (
        TrialState.RUNNING,
        TrialState.PRUNED,
        0.75,
    )
    for before, after in zip((trials[0], trials[1], trials[3]), copied, strict=True):
        assert before.params == after.params
        assert before is trials[1] or (before.state, before.value) == (after.state, after.value)
        assert before.intermediate_values == after.intermediate_values
        assert before.datetime_start == after.datetime_start
    assert [{*trial.user_attrs} for trial in copied] == [
        {"hpo_imported"},
        {"hpo_imported"},
        {"hpo_imported", "hpo_figure_parameters"},
    ]
    assert copied[2].system_attrs == {"constraints:diverged": 1.0}


def test_name_that_is_taken_or_invalid_changes_nothing(database: Database) -> None:
    study = StoredStudy(database)
    optuna.create_study(study_name="plain", storage=database.optuna)
    for name, kind in (("s", StudyConflictError), ("plain", StudyConflictError), ("../x", UsageError)):
        with pytest.raises(kind):
            copy_study(database, "s", name)
    with pytest.raises(UnknownStudyError):
        copy_study(database, "t", "u")
    assert study_names(database) == ["s"]
    assert study.scalar("SELECT count(*) FROM public.studies") == 2


def test_failed_copy_leaves_nothing_and_a_repeated_one_is_made_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StoredStudy(database)
    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_history", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copy_study(database, "s", "t", history=True)
    assert study.scalar("SELECT count(*) FROM public.studies") == 1
    transaction = database.transaction

    def twice(work: Any) -> Any:
        transaction(work)
        return transaction(work)

    monkeypatch.setattr(database, "transaction", twice)
    assert copy_study(database, "s", "t").budget == 1
    assert list(transaction(studies.names).values()) == ["s", "t"]
