"""A study's own study in Optuna's tables: adopted, created, renamed or deleted with plain Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from sqlalchemy import text

from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.launched_study import find
from storage.engine import Database
from tests.integration.study.definition.launches import DESCRIPTION, launch


def optuna_study(database: Database, **options: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="s", storage=database.optuna, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "maximize"}, "has the direction maximize in Optuna's tables"),
        ({"directions": ["minimize", "maximize"]}, r"has 2 objectives \(minimize, maximize\)"),
    ],
)
def test_study_of_plain_optuna_with_other_directions_is_refused(
    database: Database, options: Mapping[str, Any], message: str
) -> None:
    made = optuna_study(database, **options)
    with pytest.raises(StudyConflictError, match=f"{message}.*choose another name"):
        launch(database)
    assert find(database, "s") is None
    assert len(optuna.load_study(study_name="s", storage=database.optuna).directions) == len(made.directions)


def test_empty_study_of_plain_optuna_is_adopted(database: Database) -> None:
    made = optuna_study(database, direction="minimize")
    assert launch(database).study_id == made._study_id


def test_refused_launch_leaves_no_study_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StudyConflictError("refused")

    with monkeypatch.context() as patch:
        patch.setattr("storage.studies.insert", refuse)
        with pytest.raises(StudyConflictError):
            launch(database)
    assert optuna.get_all_study_names(database.optuna) == []
    assert launch(database).spec.metric == "loss"


def test_created_study_is_as_optuna_would_create_it(database: Database) -> None:
    launch(database, {"direction": "maximize"})
    study = optuna.load_study(study_name="s", storage=database.optuna)
    assert (study.direction.name, study.user_attrs, study.trials) == ("MAXIMIZE", {}, [])


def test_study_deleted_with_plain_optuna_is_refused_with_a_way_out(database: Database) -> None:
    launch(database)
    optuna.delete_study(study_name="s", storage=database.optuna)
    with pytest.raises(StudyConflictError, match=r"deleted with plain Optuna.*hpo delete --study s"):
        find(database, "s")
    optuna_study(database)
    with pytest.raises(StudyConflictError, match="deleted with plain Optuna"):
        find(database, "s")


def test_study_renamed_with_plain_optuna_keeps_its_own_name(database: Database) -> None:
    study = launch(database)
    database.transaction(lambda c: c.execute(text("UPDATE public.studies SET study_name = 't'")))
    assert launch(database).study_id == study.study_id
    with pytest.raises(StudyConflictError, match="is study 's', renamed with plain Optuna: use --study s"):
        create_or_continue(database, LaunchRequest(study="t"), "q", DESCRIPTION, None)


def test_study_that_holds_only_enqueued_trials_may_be_launched(database: Database) -> None:
    study = optuna.create_study(study_name="s", storage=database.optuna)
    study.enqueue_trial({"x": 0.25})
    assert launch(database).spec.direction == "minimize"
    study.add_trial(optuna.trial.create_trial(value=0.0))
    optuna.create_study(study_name="t", storage=database.optuna).add_trials(study.trials[1:])
    with pytest.raises(StudyConflictError, match="has trials"):
        create_or_continue(database, LaunchRequest(study="t"), "q", DESCRIPTION, None)
