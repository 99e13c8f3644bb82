"""Constraints and a second objective of a study, as a launch requests them."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.errors import StudyConflictError, UsageError
from hpo.study.definition.launched_study import find
from storage.engine import Database
from tests.integration.study.definition.launches import begin, launch

KERAS = {"builds_models": True, "metrics": {"val_auc": "maximize"}}
OPTUNA = {"epochs": None, "open_space": True, "declares_direction": False}


def test_study_keeps_its_constraints_and_second_objective(database: Database) -> None:
    asked: dict[str, Any] = {
        "constraint": ("parameters <= 5e5", "parameters<=500000"),
        "also_minimize": "latency_ms",
    }
    study = launch(database, **asked)
    assert study.spec.constraints == ("parameters<=500000",)
    assert study.spec.figures == ("latency_ms", "parameters")
    assert study.spec.pruner == "none"
    begin(database, study)
    assert launch(database).spec == launch(database, **asked).spec == study.spec
    found = find(database, "s")
    assert found is not None
    assert found.spec == study.spec


def test_constraints_of_a_study_that_has_begun_stay(database: Database) -> None:
    begin(database, launch(database, constraint=("parameters<=5",)))
    with pytest.raises(
        StudyConflictError, match="created with --constraint parameters<=5, and its trials must stay"
    ):
        launch(database, constraint=("parameters<=6",))
    with pytest.raises(StudyConflictError, match="created with no --also-minimize, not parameters"):
        launch(database, also_minimize="parameters")


def test_launch_that_failed_before_its_first_trial_may_change_them(database: Database) -> None:
    launch(database, constraint=("parameters<=5",))
    assert launch(database, constraint=("parameters<=6",)).spec.constraints == ("parameters<=6",)
    assert launch(database, seed=3).spec.constraints == ("parameters<=6",)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"constraint": ("parameters",)}, "--constraint 'parameters' is not a bound of a figure: write"),
        (KERAS, {"constraint": ("parametres<=5",)}, "no figure 'parametres': did you mean parameters?"),
        (KERAS, {"also_minimize": "size"}, "--also-minimize size: trials have no figure 'size': use one of"),
        ({}, {"also_minimize": " "}, "--also-minimize ' ' names no figure: name one, such as"),
        ({}, {"also_minimize": "loss"}, "--also-minimize loss: it is the metric of the study already"),
        (
            {},
            {"also_minimize": "a", "pruner": "median"},
            "--pruner median does not apply to a study with --also",
        ),
        ({}, {"also_minimize": "a", "sampler": "cmaes"}, "--sampler cmaes minimizes one objective"),
        (
            {},
            {"constraint": ("a<=1",), "sampler": "curves", "pruner": "freeze-thaw"},
            "--sampler curves learns nothing",
        ),
        (OPTUNA, {"constraint": ("a<=1",)}, "--constraint does not apply to an Optuna objective: set its"),
        (OPTUNA, {"also_minimize": "a"}, "--also-minimize does not apply to an Optuna objective"),
    ],
)
def test_figures_that_no_trial_can_have_are_refused(
    database: Database, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        launch(database, changes, **options)
    assert message in str(refused.value)
    assert find(database, "s") is None


def test_figures_of_a_keras_objective_are_accepted(database: Database) -> None:
    asked = ("val_auc>=0.5", "seconds_per_epoch<=9", "images_per_second>=1", "val_own>=1")
    assert launch(database, KERAS, constraint=asked).spec.constraints == asked


def test_tpe_proposes_where_trials_pause_and_configurations_are_bounded(database: Database) -> None:
    spec = launch(database, constraint=("parameters<=5",), pruner="freeze-thaw").spec
    assert (spec.sampler, spec.pruner, spec.curve_model) == ("tpe", "freeze-thaw", True)


def test_sampler_of_one_objective_is_refused_later_too(database: Database) -> None:
    begin(database, launch(database, also_minimize="parameters"))
    with pytest.raises(UsageError, match="--sampler cmaes minimizes one objective"):
        launch(database, sampler="cmaes")
