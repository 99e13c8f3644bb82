"""Candidates of `hpo retrain --top`: the best configurations of the search and the objective's default one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.options.retrain_request import RetrainRequest
from hpo.retrain.plan import make_plan
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.rows import StudyRows

DEFAULT = {"learning_rate": 0.05}


@pytest.fixture
def rows(database: Database) -> StudyRows:
    rows = StudyRows(database)
    rows.set(spec={**read_history(database, rows.name).study.spec_json, "first": [DEFAULT]})
    for value in (0.9, 0.8, 0.7):
        rows.trial("complete", value, completed=5)
    return rows


def plan(rows: StudyRows, top: int) -> list[tuple[int | None, float | None]]:
    request = RetrainRequest(study=rows.name, top=top)
    configs = make_plan(rows.database, request, Path("results")).configs
    assert len({str(config.params) for config in configs}) == len(configs)
    return [(config.trial, config.value) for config in configs]


def test_default_that_is_not_among_the_best_trials_competes_too(rows: StudyRows) -> None:
    rows.trial("complete", 0.5, completed=5, params=DEFAULT)
    rows.trial("complete", 0.6, completed=5, params=DEFAULT)
    assert plan(rows, 2) == [(0, 0.9), (1, 0.8), (4, 0.6)]


@pytest.mark.parametrize("outcome", ["pruned", None])
def test_default_without_a_complete_trial_competes_too(rows: StudyRows, outcome: str | None) -> None:
    rows.trial(outcome, 0.95, completed=1, params=DEFAULT)
    assert plan(rows, 2) == [(0, 0.9), (1, 0.8), (None, None)]


def test_default_among_the_best_trials_competes_once(rows: StudyRows) -> None:
    rows.trial("complete", 0.85, completed=5, params=DEFAULT)
    assert plan(rows, 2) == [(0, 0.9), (3, 0.85)]


def test_no_default_competes_where_there_is_no_choice_or_none_in_the_space(rows: StudyRows) -> None:
    assert plan(rows, 1) == [(0, 0.9)]
    rows.set(
        spec={**read_history(rows.database, rows.name).study.spec_json, "first": [{"learning_rate": 7.0}]}
    )
    assert plan(rows, 2) == [(0, 0.9), (1, 0.8)]


@pytest.mark.parametrize("outcome", ["rejected", "infeasible", None])
def test_default_that_may_violate_a_constraint_does_not_compete(rows: StudyRows, outcome: str | None) -> None:
    stored = read_history(rows.database, rows.name).study.spec_json
    rows.set(spec={**stored, "constraints": ["parameters<=10"]})
    if outcome:
        rows.trial(outcome, 0.95, params=DEFAULT)
    assert plan(rows, 2) == [(0, 0.9), (1, 0.8)]
    rows.trial("complete", 0.5, completed=5, params=DEFAULT)
    assert plan(rows, 2)[2][1] == 0.5
