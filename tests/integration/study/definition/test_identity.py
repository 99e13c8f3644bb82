"""A study that has begun keeps the declarations of its objective; another one follows them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from hpo.errors import StudyConflictError, UsageError
from hpo.report.study_report import report_files
from hpo.study.definition.launched_study import find
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.study.definition.launches import CHANGED, begin, launch


@pytest.mark.parametrize("change", CHANGED)
def test_launch_refuses_a_changed_declaration_of_a_study_that_has_begun(
    database: Database, change: str
) -> None:
    begin(database, launch(database))
    with pytest.raises(StudyConflictError, match=change):
        launch(database, CHANGED[change])
    found = find(database, "s")
    assert found is not None
    assert (found.spec.metric, found.spec.direction, found.spec.epochs) == ("loss", "minimize", 4)


@pytest.mark.parametrize("change", CHANGED)
def test_study_that_has_not_begun_follows_its_objective(database: Database, change: str) -> None:
    launch(database, params=("x=1..2",))
    spec = launch(database, CHANGED[change]).spec
    assert {name: getattr(spec, name) for name in CHANGED[change]} == CHANGED[change]
    narrowed = {} if spec.open_space else {"x": FloatDistribution(1.0, 2.0)}
    assert spec.space == narrowed, "the narrowed space is kept, unless none is declared any more"
    directions = optuna.load_study(study_name="s", storage=database.optuna).directions
    assert [direction.name.lower() for direction in directions] == [spec.direction]


def test_direction_of_a_class_with_an_open_space_is_checked_and_that_of_a_function_is_the_study_s(
    database: Database,
) -> None:
    is_open = {"open_space": True, "epochs": None, "space": {}}
    begin(database, launch(database, is_open))
    assert launch(
        database, {**is_open, "declares_direction": False, "direction": "maximize"}
    ).spec.direction == ("minimize")
    with pytest.raises(StudyConflictError, match="direction: was minimize, is maximize"):
        launch(database, {**is_open, "direction": "maximize"})
    with pytest.raises(UsageError, match="--direction maximize: the objective declares"):
        launch(database, is_open, direction="maximize")


def test_narrowed_space_of_a_study_that_has_not_begun_is_not_dropped(database: Database) -> None:
    launch(database, params=("x=1..2",))
    with pytest.raises(StudyConflictError, match="search space has changed"):
        launch(database, {"space": {"x": FloatDistribution(0.0, 9.0)}})


def test_changed_epochs_are_settled_by_the_option(database: Database) -> None:
    begin(database, launch(database))
    assert launch(database, {"epochs": 7}, epochs=4).spec.epochs == 4
    assert launch(database, {"epochs": 7}).spec.epochs == 4, "it was settled"


def test_changed_value_is_settled_by_the_option(database: Database) -> None:
    begin(database, launch(database))
    assert launch(database, {"value": "best"}, value="last").spec.value == "last"
    assert launch(database, {"value": "best"}).spec.value == "last", "it was settled"
    with pytest.raises(StudyConflictError, match="was created with --value last, not best"):
        launch(database, {"value": "best"}, value="best")


def test_value_of_the_class_does_not_matter_next_to_the_option(database: Database) -> None:
    begin(database, launch(database, value="best"))
    assert launch(database).spec.value == "best"


def test_value_does_not_apply_to_a_function_that_returns_it(database: Database) -> None:
    function = {"open_space": True, "epochs": None, "space": {}, "declares_direction": False}
    with pytest.raises(UsageError, match="--value does not apply to an Optuna objective"):
        launch(database, function, value="best")


def test_folds_stay_in_a_study_that_has_begun(database: Database) -> None:
    begin(database, launch(database, {"takes_folds": True}, folds=5))
    assert launch(database, {"takes_folds": True}).spec.data.folds == 5
    with pytest.raises(StudyConflictError, match="was created with --folds 5, not 3"):
        launch(database, {"takes_folds": True}, folds=3)


@pytest.mark.parametrize("declared", [{}, {"open_space": True, "epochs": None, "space": {}}])
def test_folds_do_not_apply_to_an_objective_with_code_of_its_own(
    database: Database, declared: Mapping[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"--folds does not apply to .*leave it out"):
        launch(database, declared, folds=5)


def test_epochs_of_the_class_do_not_matter_next_to_the_option(database: Database) -> None:
    begin(database, launch(database, epochs=9))
    assert launch(database, {"epochs": 7}).spec.epochs == 9


def test_sampler_may_change_in_a_study_that_has_begun(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    begin(database, launch(database, sampler="tpe"))
    with caplog.at_level(logging.INFO):
        spec = launch(database, sampler="random").spec
    assert "random proposes the trials from now on instead of tpe" in caplog.messages[0]
    assert (spec.sampler, spec.earlier_samplers) == ("random", (("tpe", 1),))
    assert launch(database).spec == spec
    markdown = report_files(read_history(database, "s"))["report.md"].decode()
    assert "tpe for the first 1 trial, then random" in markdown
