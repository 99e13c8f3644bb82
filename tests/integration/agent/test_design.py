"""Runs of an experiment, by however many agents: each configuration once from each seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpo.agent.store.trial_store import TrialStore
from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.outcomes import Outcome
from hpo.search.starting.design import Design, PlannedPoint, Settings
from hpo.study.changes.enqueue import enqueue
from hpo.study.definition.launch_options import check_design
from objectives.runs.switches import CHOICES
from storage.claiming.claims import NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, report
from tests.specs import spec

SPACE = {"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(["a", "b"])}
BASE = {"x": 0.5, "kind": "a"}
SWITCH = "recipe.label_smoothing"


def design(*points: dict, seeds: int = 2) -> Design:
    return Design(
        study="source",
        trial=0,
        points=tuple(PlannedPoint(params=params) for params in (BASE, *points)),
        seeds=tuple(range(70, 70 + seeds)),
        settings=Settings(),
        recipe={},
    )


def designed(database: Database, planned: Design) -> StoredStudy:
    return StoredStudy(database, spec(SPACE, design=planned), budget=planned.size)


def run(agent: TrialStore, outcome: Outcome = Outcome.COMPLETE) -> tuple[dict, int]:
    """Train a run; return its parameters and its seed."""
    claim = claimed(agent)
    trial_id, _, params = agent.sample(claim)
    agent.begin(claim.attempt_id, 1, 0)
    report(agent, claim, trial_id)
    agent.settle(claim.attempt_id, outcome, 0.5)
    return params, claim.seed


def test_each_configuration_is_trained_once_from_each_seed(database: Database) -> None:
    other = {"x": 0.25, "kind": "b"}
    study = designed(database, design(other))
    first, second = study.agent(), study.agent()
    lost = claimed(first)
    assert run(second) == (BASE, 70)
    # A failed run is made up for, and one whose agent died before it had its configuration.
    assert run(second, Outcome.BUG) == (BASE, 71)
    study.expire_leases()
    third = study.agent()
    third.reap_expired()
    assert [run(third) for _ in range(3)] == [(other, 70), (BASE, 71), (other, 71)]
    assert third.claim(0, "cpu:0") is NoWork.DONE
    assert lost.seed == 70
    assert [trial.params for trial in study.optuna.get_trials()].count(other) == 2


def test_extended_design_trains_what_is_new_alone(database: Database) -> None:
    study = designed(database, design())
    agent = study.agent()
    assert [run(agent) for _ in range(2)] == [(BASE, 70), (BASE, 71)]
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    new = {"x": 0.75, "kind": "a"}
    planned = design(new, seeds=3)
    study.change(replace(study.spec, design=planned), budget=planned.size)
    # An agent that was running all the time trains it too.
    assert [run(agent) for _ in range(4)] == [(new, 70), (new, 71), (BASE, 72), (new, 72)]
    assert agent.claim(0, "cpu:0") is NoWork.DONE


def test_agent_that_does_not_know_a_parameter_of_an_extended_design_ends(database: Database) -> None:
    study = designed(database, design(seeds=1))
    agent = study.agent()
    planned = design({**BASE, SWITCH: "off"}, seeds=1)
    study.change(replace(study.spec, design=planned, space={**SPACE, SWITCH: CHOICES}), budget=planned.size)
    run(agent)
    with pytest.raises(StudyConflictError, match="run the same command again"):
        agent.sample(claimed(agent))
    agent.leave()
    assert run(study.agent()) == ({**BASE, SWITCH: "off"}, 70)


def test_runs_of_a_design_are_neither_enqueued_nor_extended_by_launch(database: Database) -> None:
    study = designed(database, design())
    with pytest.raises(StudyConflictError, match="hpo ablate --study source"):
        enqueue(database, "s", ["x=0.1"])
    check_design(study.spec, LaunchRequest(study="s", workers=2))
    with pytest.raises(StudyConflictError, match="leave --trials out"):
        check_design(study.spec, LaunchRequest(study="s", trials=9))
