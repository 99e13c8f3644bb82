"""Experiments around a study's best trial: created, extended, refused, and what they may cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpo.ablation.cost import cost_of, lines_of
from hpo.ablation.experiment import read_experiment, store
from hpo.errors import NoResultError, StudyConflictError, UnknownParameterError, UnknownStudyError, UsageError
from hpo.options.ablate_request import AblateRequest
from hpo.search.spec import StudySpec
from hpo.search.starting.design import Settings
from hpo.study.catalog import find_study
from hpo.study.definition.launched_study import find
from storage.engine import Database
from tests.integration.rows import StudyRows
from tests.specs import spec

SPACE = {
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
}
BEST = {"learning_rate": 0.01, "optimizer": "adam"}
RECIPE = {"recipe.label_smoothing": "0.1"}


@pytest.fixture
def source(database: Database) -> StudyRows:
    options = {"metric": "val_accuracy", "direction": "maximize", "epochs": 5}
    searched = spec(SPACE, sampler="tpe", pruner="median", patience=3, first=(BEST,), **options)
    return StudyRows(database, "s", spec=searched)


@pytest.fixture
def trial(source: StudyRows) -> int:
    worse = source.trial("complete", 0.8, completed=5, params={**BEST, "optimizer": "sgd"})
    reservation_id = source.trial("complete", 0.9, completed=5, params=BEST)
    attempt = source.attempt(worse, source.agent())
    for epoch in (1, 2, 3):
        source.epoch(worse, attempt, epoch, {"val_accuracy": 0.5})
    return reservation_id


def stored(database: Database, name: str = "s-ablation") -> StudySpec:
    return StudySpec.from_json(find_study(database, name).spec_json)


def create(database: Database, **options: object) -> None:
    store(database, read_experiment(database, AblateRequest(study="s", **options)))


@pytest.mark.usefixtures("trial")
def test_experiment_is_a_study_of_the_same_objective_whose_budget_is_its_runs(database: Database) -> None:
    experiment = read_experiment(database, AblateRequest(study="s", seeds=2, values=3, epochs=2, limit=500))
    lines = lines_of(experiment, cost_of(database, experiment, 2))
    assert lines[0] == "base: trial 1 of s, val_accuracy 0.9000: learning_rate=0.01 optimizer=adam"
    assert "learning_rate: 0.0001, 0.1, instead of 0.01 (0.0001 to 0.1, log)" in lines
    assert "optimizer with learning_rate: all combinations" in lines
    assert "runs: 12 = 6 configurations x 2 seeds, of 2 epochs each" in lines
    assert lines[-1].startswith(
        "in all: 12 runs, 24 epochs, about 12.0s on 2 slots (1s an epoch, 0s to start"
    )
    store(database, experiment)
    found, own = find(database, "s-ablation"), stored(database)
    assert found is not None
    assert (found.budget, own.design) == (12, experiment.design)
    assert (own.epochs, own.data.limit, own.patience, own.pruner, own.first) == (2, 500, None, "none", ())
    assert own.objective_space == StudySpec.from_json(find_study(database, "s").spec_json).objective_space
    with pytest.raises(StudyConflictError, match="already exists"):
        store(database, experiment)


@pytest.mark.usefixtures("trial")
def test_same_command_continues_and_further_options_add_runs(database: Database, source: StudyRows) -> None:
    create(database, parameter=("learning_rate",), values=3, margin=0.01)
    before = stored(database).design
    assert before is not None
    source.trial("complete", 0.95, completed=5, params={**BEST, "learning_rate": 0.02})
    again = read_experiment(database, AblateRequest(study="s"))
    assert (again.design, again.added) == (before, 0)
    more = read_experiment(database, AblateRequest(study="s", seeds=4, values=4, recipe=True), RECIPE)
    assert more.design.points[:3] == before.points
    assert more.added == 5 * 4 - 3 * 3
    store(database, more)
    own = stored(database)
    assert find_study(database, "s-ablation").budget == 20
    assert {*own.space} == {*SPACE, *RECIPE}
    assert own.design is not None
    assert own.design.points[-1].params == {**BEST, "recipe.label_smoothing": "off"}
    expected = Settings(seeds=4, values=4, parameters=("learning_rate",), recipe=True, margin=0.01)
    assert own.design.settings == expected
    # The recipe is known from now on, so that the objective need not be loaded for it.
    assert read_experiment(database, AblateRequest(study="s")).design == own.design
    # Extended by another command meanwhile.
    with pytest.raises(StudyConflictError, match="was changed meanwhile"):
        store(database, again)


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"study": "x"}, UnknownStudyError, "no study 'x'"),
        ({"trial": 7}, NoResultError, "no trial 7, its trials are"),
        ({"parameter": ("learning",)}, UnknownParameterError, "did you mean learning_rate"),
        ({"pairs": ("optimizer",)}, UsageError, "write two parameters"),
        ({"pairs": ("optimizer*lr",)}, UnknownParameterError, "'lr'"),
        ({"name": "s"}, StudyConflictError, "is not an experiment"),
    ],
)
def test_request_that_makes_no_experiment_is_refused(database: Database, options, error, reason) -> None:
    with pytest.raises(error, match=reason):
        read_experiment(database, AblateRequest(**{"study": "s", **options}))


@pytest.mark.usefixtures("trial")
def test_experiment_keeps_its_base_epochs_and_data(database: Database) -> None:
    create(database, values=2, epochs=3)
    for options, reason in (
        ({"epochs": 4}, "created with --epochs 3, not 4"),
        ({"limit": 10}, "created with --limit all, not 10"),
        ({"trial": 0}, "created with --trial 1, not 0"),
    ):
        with pytest.raises(StudyConflictError, match=reason):
            read_experiment(database, AblateRequest(study="s", **options))
    with pytest.raises(UsageError, match="is an experiment itself: name the study s"):
        read_experiment(database, AblateRequest(study="s-ablation"))


def test_study_without_a_result_or_with_an_open_space_is_refused(
    database: Database, source: StudyRows
) -> None:
    with pytest.raises(NoResultError):
        read_experiment(database, AblateRequest(study="s"))
    searched = StudySpec.from_json(find_study(database, "s").spec_json)
    source.set(spec=replace(searched, open_space=True, space={}).to_json())
    with pytest.raises(UsageError, match="has an open space"):
        read_experiment(database, AblateRequest(study="s"))
