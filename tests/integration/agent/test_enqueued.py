"""Trials that plain Optuna enqueued are trained first, within the budget."""

from __future__ import annotations

import logging

import pytest
from optuna.trial import TrialState

from hpo.study.monitoring.status import study_status
from storage.claiming.claims import NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train
from tests.specs import spec


def test_enqueued_trials_are_trained_within_the_budget(database: Database) -> None:
    study = StoredStudy(database, spec(first=({"x": 0.125},)), budget=3)
    for x in (0.25, 0.5, 0.75):
        study.optuna.enqueue_trial({"x": x})
    assert study_status(database, "s").waiting == 3
    agents = [study.agent(), study.agent()]
    for number in range(3):
        train(agents[number % 2], claimed(agents[number % 2]))
    assert agents[0].claim(0, "cpu:0") is NoWork.DONE
    trials = study.optuna.get_trials()
    complete = [trial.params["x"] for trial in trials if trial.state is TrialState.COMPLETE]
    assert sorted(complete) == [0.125, 0.25, 0.5]
    assert len(trials) == 4
    assert study_status(database, "s").waiting == 1


def test_enqueued_trial_of_a_dead_agent_is_trained_by_another(database: Database) -> None:
    study = StoredStudy(database)
    study.optuna.enqueue_trial({"x": 0.25})
    dead, other = study.agent(), study.agent()
    claim = claimed(dead)
    assert dead._optuna_trials._take_enqueued(claim) == dead._optuna_trials._take_enqueued(claim)
    study.expire_leases()
    other.reap_expired()
    train(other, claimed(other))
    assert [(trial.state, trial.params) for trial in study.optuna.get_trials()] == [
        (TrialState.COMPLETE, {"x": 0.25})
    ]


@pytest.mark.parametrize("params", [{"x": 9.0}, {"x": "0.5"}, {"x": True}, {"z": 0.5}, {"x": float("nan")}])
def test_enqueued_trial_outside_the_space_is_refused_by_name(
    database: Database, params: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    study = StoredStudy(database)
    study.optuna.enqueue_trial(params)
    study.optuna.enqueue_trial({"x": 1})
    agent = study.agent()
    with caplog.at_level(logging.WARNING):
        train(agent, claimed(agent))
    refused, trained = study.optuna.get_trials()
    assert (refused.state, trained.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert repr(trained.params["x"]) == "1.0"
    assert f"'{next(iter(params))}'" in refused.user_attrs["hpo_refused"]
    assert "trial 0, which was enqueued, is not trained" in caplog.text
