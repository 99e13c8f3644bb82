"""Each configuration of a finite space is trained once, by however many agents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from hpo.search.proposing import Proposal
from hpo.study.definition.goal_text import goal_text
from objectives.spaces.choices import categorical
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space
from storage import goals
from storage.claiming.claims import NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, report, train
from tests.specs import spec

SPACE = {"kind": categorical(["a", "b", "c"]), "x": FloatDistribution(0.0, 0.5, step=0.5)}
SPEC = spec(SPACE, sampler="grid", first=({"kind": "b", "x": 0.5}, {"kind": "a"}))


@pytest.mark.parametrize("sampler", ["grid", "tpe", "random", "qmc"])
def test_all_configurations_are_trained_once_by_several_agents(database: Database, sampler: str) -> None:
    study = StoredStudy(database, replace(SPEC, sampler=sampler), budget=50)
    study.optuna.enqueue_trial({"kind": "c"})
    agents = [study.agent() for _ in range(3)]
    # All configurations but one are sampled before any is trained, and one trial fails.
    claims = [claimed(agents[n % 3], n) for n in range(5)]
    sampled = {n: agents[n % 3].sample(claim) for n, claim in reversed([*enumerate(claims)])}
    assert (sampled[0][2], sampled[1][2]["kind"]) == ({"kind": "b", "x": 0.5}, "a")
    last = claimed(agents[2], 9)
    # The sixth may be the last configuration: no other agent begins a seventh trial.
    assert agents[0].claim(7, "cpu:0") is NoWork.ELSEWHERE
    train(agents[2], last)
    agents[0].settle(claims[0].attempt_id, Outcome.BUG, None, "failed")
    for n, claim in [*enumerate(claims)][1:]:
        agents[n % 3].begin(claim.attempt_id, 1, 0)
        report(agents[n % 3], claim, sampled[n][0])
        agents[n % 3].settle(claim.attempt_id, Outcome.COMPLETE, 0.5)
    train(agents[1], claimed(agents[1]))
    assert agents[0].claim(0, "cpu:0") is NoWork.DONE
    trials = [trial for trial in study.optuna.get_trials() if trial.values]
    assert sorted((trial.params["kind"], trial.params["x"]) for trial in trials) == [
        (kind, x) for kind in "abc" for x in (0.0, 0.5)
    ]
    assert trials[0].params["kind"] == "c"
    found = database.transaction(lambda c: goals.read(c, study.optuna._study_id))
    assert found is not None
    assert goal_text(found) == "all 6 configurations of the space are trained once"


def test_configuration_that_was_asked_for_again_is_repeated_next_to_all_others(database: Database) -> None:
    study = StoredStudy(database, SPEC, budget=50)
    agent = study.agent()
    for _ in range(2):
        study.optuna.enqueue_trial({"kind": "b", "x": 0.5})
    for _ in range(8):
        train(agent, claimed(agent))
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    trained = [(trial.params["kind"], trial.params["x"]) for trial in study.optuna.get_trials()]
    assert len(trained) == 8
    assert len({*trained}) == 6


def test_agent_that_died_before_it_sampled_leaves_the_configuration_to_the_next(database: Database) -> None:
    study = StoredStudy(database, SPEC, budget=50)
    dead, other = study.agent(), study.agent()
    for _ in range(5):
        train(dead, claimed(dead))
    claimed(dead)
    study.expire_leases()
    other.reap_expired()
    train(other, claimed(other))
    assert other.claim(0, "cpu:0") is NoWork.DONE
    assert len({(trial.params["kind"], trial.params["x"]) for trial in study.optuna.get_trials()}) == 6


def test_agents_that_propose_the_same_at_once_train_different_configurations(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose, same = Search.propose, Proposal({"kind": "c", "x": 0.5}, {})
    monkeypatch.setattr(
        Search, "propose", lambda self, trial, *_: propose(self, trial) if self.fixed(trial) else same
    )
    study = StoredStudy(database, spec(SPACE), budget=6)
    agents = [study.agent() for _ in range(6)]
    claims = [claimed(agent) for agent in agents]
    with ThreadPoolExecutor(6) as pool:
        sampled = list(pool.map(lambda agent, claim: agent.sample(claim)[2], agents, claims))
    assert len({(params["kind"], params["x"]) for params in sampled}) == 6
    # The first one got the proposal.
    assert {"kind": "c", "x": 0.5} in sampled


def test_search_of_a_part_of_a_space_repeats_nothing(database: Database) -> None:
    space = stored_space(
        {"kind": categorical(["plain", "deep"]), "n": When("kind", "deep", FloatDistribution(0.0, 1.0))}
    )
    study = StoredStudy(database, spec(space, seed=1), budget=8)
    agent = study.agent()
    for _ in range(8):
        train(agent, claimed(agent))
    trained = [tuple(trial.params.values()) for trial in study.optuna.get_trials()]
    assert trained.count(("plain",)) == 1
    assert len({*trained}) == 8


def test_enqueued_configuration_is_trained_again_after_all_others(database: Database) -> None:
    study = StoredStudy(database, SPEC, budget=50)
    agent = study.agent()
    for _ in range(6):
        train(agent, claimed(agent))
    study.optuna.enqueue_trial({"kind": "a", "x": 0.0})
    train(agent, claimed(agent))
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    assert study.optuna.get_trials()[-1].params == {"kind": "a", "x": 0.0}


def test_space_that_was_changed_is_trained_where_it_is_new(database: Database) -> None:
    study = StoredStudy(database, spec({"n": IntDistribution(1, 4)}), budget=50)
    agent = study.agent()
    for _ in range(4):
        train(agent, claimed(agent))
    study.change(replace(study.spec, space={"n": IntDistribution(3, 6)}, space_changed=True), budget=50)
    other = study.agent()
    for _ in range(2):
        train(other, claimed(other))
    assert other.claim(0, "cpu:0") is NoWork.DONE
    assert sorted(trial.params["n"] for trial in study.optuna.get_trials()) == [1, 2, 3, 4, 5, 6]


def test_rejected_configuration_of_a_finite_space_is_not_tried_again(database: Database) -> None:
    study = StoredStudy(database, SPEC, budget=5)
    agent = study.agent()
    for rejected in (True, False, True, True, True, False):
        claim = claimed(agent)
        if rejected:
            agent.sample(claim)
            agent.settle(claim.attempt_id, Outcome.REJECTED, None, "too large")
        else:
            train(agent, claim)
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    trained = [(trial.params["kind"], trial.params["x"]) for trial in study.optuna.get_trials()]
    assert len({*trained}) == len(trained) == 6
    counts = agent.refresh().counts
    assert (counts.finished, counts.budget, counts.rejected) == (2, 2, 4)
