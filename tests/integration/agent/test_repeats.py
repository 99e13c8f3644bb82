"""Repeats of the best trial, as a measure of noise, by however many agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json

from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import NAME
from hpo.study.definition.goal_text import goal_text, noise_text
from hpo.study.results.trials import trial_rows
from storage import goals, repeats
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, begun, claimed, report
from tests.specs import spec

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def end(agent: TrialStore, value: float, outcome: Outcome = Outcome.COMPLETE, slot: int = 0) -> float:
    """Train a trial to this value; return its parameter."""
    claim = claimed(agent, slot)
    trial_id, _, params = agent.sample(claim)
    agent.begin(claim.attempt_id, 1, 0)
    report(agent, claim, trial_id, value)
    agent.settle(claim.attempt_id, outcome, value)
    return float(next(iter(params.values())))


def ended(agent: TrialStore, values: Sequence[float]) -> list[float]:
    return [end(agent, value) for value in values]


def numbers(database: Database, study: StoredStudy) -> dict[int, int]:
    return database.transaction(lambda c: repeats.originals(c, study.optuna._study_id))


@pytest.mark.parametrize("space", [SPACE, {"n": IntDistribution(1, 100)}])
def test_last_trials_repeat_the_best_one_after_all_others_have_ended(database: Database, space) -> None:
    study = StoredStudy(database, spec(space, repeats=2, pruner="median", startup=1), budget=6)
    first, second = study.agent(), study.agent()
    tried = ended(first, [0.5, 0.2, 0.4])
    claim, _ = begun(second)
    # The last trial of the search still trains, and may be better.
    assert first.claim(0, "cpu:0") is NoWork.ELSEWHERE
    second.settle(claim.attempt_id, Outcome.BUG, None, "failed")
    tried.append(end(first, 0.3))
    assert len({*tried}) == 4
    held = [begun(agent) for agent in (first, second)]
    assert first.claim(1, "cpu:0") is NoWork.ELSEWHERE
    # The pruner does not end them, however bad they are.
    report(first, held[0][0], held[0][1], 100.0)
    assert not first.judgement.should_prune(held[0][0].attempt_id, held[0][1])
    for agent, (claim, _), value in zip((first, second), held, (0.1, 0.3), strict=True):
        agent.settle(claim.attempt_id, Outcome.COMPLETE, value)
    assert first.claim(0, "cpu:0") is NoWork.DONE
    trials = study.optuna.get_trials()
    assert [trial.params == trials[1].params for trial in trials] == [
        False,
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    assert numbers(database, study) == {5: 1, 6: 1}
    (noise,) = database.transaction(lambda c: repeats.read(c, study.optuna._study_id))
    assert noise_text(noise) == "trial 1 with 2 other seeds: mean 0.2000, seeds differ by ±0.1414 (n = 2)"
    shown = [row.why for row in trial_rows(database, "s")]
    assert [text.startswith("repeats trial 1; ended itself") for text in shown] == [False] * 5 + [True] * 2
    # A larger budget searches on, and repeats the best one only if it is another.
    study.change(study.spec, budget=9)
    agent = study.agent()
    ended(agent, [0.6])
    assert len(numbers(database, study)) == 2
    ended(agent, [0.6, 0.6])
    assert len(numbers(database, study)) == 2
    assert agent.claim(0, "cpu:0") is NoWork.DONE


def test_repeat_that_failed_or_died_is_made_up_for(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, repeats=2), budget=4)
    agent = study.agent()
    tried = ended(agent, [0.2, 0.4])
    claim = claimed(agent)
    agent.sample(claim)
    study.expire_leases()
    other = study.agent()
    other.reap_expired()
    # Sampled by a dead agent.
    assert end(other, 0.3) == tried[0]
    assert end(other, 0.3, Outcome.BUG) == tried[0]
    assert end(other, 0.3) == tried[0]
    assert other.claim(0, "cpu:0") is NoWork.DONE
    assert len(numbers(database, study)) == 3


def test_next_repeat_waits_until_the_first_one_has_its_configuration(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, repeats=3), budget=5)
    agents = [study.agent() for _ in range(3)]
    tried = ended(agents[0], [0.2, 0.4])
    found = []
    for agent, others in ((agents[0], agents[1:]), (agents[1], agents[2:]), (agents[2], [])):
        claim = claimed(agent)
        assert {other.claim(0, "cpu:0") for other in others} <= {NoWork.ELSEWHERE}
        found.append(agent.sample(claim)[2]["x"])
    assert found == [tried[0]] * 3
    assert numbers(database, study) == {2: 0, 3: 0, 4: 0}


def test_repeats_do_not_count_towards_patience(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, repeats=3, patience=2), budget=5)
    agent = study.agent()
    ended(agent, [0.2, 0.4, 0.3, 0.3, 0.3])
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    assert numbers(database, study) == {2: 0, 3: 0, 4: 0}
    assert found_goals(database, study).reached == ""


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_best_of_a_finite_space_is_repeated_after_all_of_it(database: Database, sampler: str) -> None:
    study = StoredStudy(database, spec({"n": IntDistribution(1, 3)}, repeats=2, sampler=sampler), budget=50)
    agent, other = study.agent(), study.agent()
    tried = ended(agent, [0.5, 0.4])
    claim, _ = begun(other)
    assert agent.claim(0, "cpu:0") is NoWork.ELSEWHERE
    other.settle(claim.attempt_id, Outcome.COMPLETE, 0.6)
    assert ended(agent, [0.4, 0.4]) == [tried[1]] * 2
    assert agent.claim(0, "cpu:0") is NoWork.DONE


def test_search_without_a_complete_trial_uses_all_of_its_budget(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, repeats=3), budget=4)
    agent = study.agent()
    for _ in range(4):
        end(agent, 0.5, Outcome.PRUNED)
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    assert numbers(database, study) == {}


def test_repeats_are_not_paused_by_freeze_thaw(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, repeats=2, pruner=NAME, epochs=9), budget=5)
    agent = study.agent()
    tried = ended(agent, [0.5, 0.4, 0.3])
    for _ in range(2):
        claim = claimed(agent)
        _, _, params = agent.sample(claim)
        assert params["x"] == tried[2]
        agent.begin(claim.attempt_id, 1, 0)
        assert not agent.judgement.pauses(claim.attempt_id, {3: 9.0})
        agent.settle(claim.attempt_id, Outcome.COMPLETE, 9.0)
    assert agent.claim(0, "cpu:0") is NoWork.DONE


def found_goals(database: Database, study: StoredStudy) -> goals.Goals:
    found = database.transaction(lambda c: goals.read(c, study.optuna._study_id))
    assert found is not None
    return found


def test_search_measures_the_noise_and_ends_once_it_is_flat(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE, stop_when_flat=True), budget=100)
    agent, other = study.agent(), study.agent()
    text = goal_text(found_goals(database, study))
    assert text == "--stop-when-flat: judged once 40 trials or more have finished"
    tried = ended(agent, [0.5] * 9)
    tried.append(end(agent, 0.2))
    ended(agent, [0.5] * 20)
    assert numbers(database, study) == {}
    # Many trials without a better one: the best is repeated three times, by all agents together.
    stores = (agent, agent, other, other)
    claims = [store.claim(slot, "cpu:0") for slot, store in enumerate(stores)]
    sampled = []
    for store, claim in zip(stores, claims, strict=True):
        assert isinstance(claim, Claim)
        sampled.append(store.sample(claim)[2]["x"])
    assert [x == tried[9] for x in sampled] == [True, True, True, False]
    for store, claim, value in zip(stores, claims, (0.19, 0.25, 0.31, 0.5), strict=True):
        assert isinstance(claim, Claim)
        store.settle(claim.attempt_id, Outcome.COMPLETE, value)
    assert numbers(database, study) == {30: 9, 31: 9, 32: 9}
    # Better by less than the noise: it is not measured again.
    ended(agent, [0.18, *[0.5] * 6])
    running, _ = begun(other)
    assert "judged once 40" in goal_text(found_goals(database, study))
    ended(agent, [0.5] * 2)
    assert agent.claim(0, "cpu:0") is NoWork.ELSEWHERE
    assert goal_text(found_goals(database, study)) == (
        "--stop-when-flat: the last 30 of 40 trials gained 0.0200, no more than seeds differ (±0.0600), so no further"
        " trial starts"
    )
    other.settle(running.attempt_id, Outcome.COMPLETE, 0.5)
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    # The goal is removed.
    study.change(replace(study.spec, stop_when_flat=False), budget=50)
    assert isinstance(study.agent().claim(0, "cpu:0"), Claim)


def test_search_that_gains_more_than_the_noise_goes_on_and_measures_again(database: Database) -> None:
    study = StoredStudy(
        database, spec(SPACE, stop_when_flat=True, repeats=2, direction="maximize"), budget=100
    )
    agent = study.agent()
    ended(agent, [*[0.1] * 9, 0.2, *[0.1] * 20])
    ended(agent, [0.19, 0.21])
    better = end(agent, 0.5)
    ended(agent, [0.1] * 9)
    assert goal_text(found_goals(database, study)) == (
        "--stop-when-flat: the last 30 of 40 trials gained 0.3000, and the noise of seeds is not measured yet"
    )
    ended(agent, [0.1] * 2)
    assert ended(agent, [0.49, 0.51]) == [better] * 2
    assert "gained 0.3000, more than seeds differ (±0.0141)" in goal_text(found_goals(database, study))
    # The best of the first half is the best of all.
    ended(agent, [0.1] * 20)
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    assert found_goals(database, study).reached == "flat"


def test_best_of_an_open_space_is_repeated(database: Database) -> None:
    study = StoredStudy(database, spec({}, open_space=True, repeats=2), budget=5)
    agent, found = study.agent(), []
    distribution = distribution_to_json(FloatDistribution(0.0, 1.0))
    for value in (0.5, 0.2, 0.4, 0.3, 0.25):
        claim, trial_id = begun(agent)
        found.append(agent.suggest(claim.attempt_id, trial_id, "x", distribution, {})["x"])
        report(agent, claim, trial_id, value)
        agent.settle(claim.attempt_id, Outcome.COMPLETE, value)
    assert agent.claim(0, "cpu:0") is NoWork.DONE
    assert found[3:] == [found[1]] * 2
    assert numbers(database, study) == {3: 1, 4: 1}
