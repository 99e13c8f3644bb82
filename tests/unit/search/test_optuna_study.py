"""A study in Optuna: its samplers and pruners learn from reported trials."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import InMemoryStorage

from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from objectives.spaces.choices import categorical
from storage.claiming.claims import Claim
from tests.searches import sampled
from tests.specs import spec

SPACE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


def search(sampler: str, pruner: str, storage: InMemoryStorage) -> Search:
    options = spec(SPACE, epochs=4, sampler=sampler, pruner=pruner, startup=5, seed=3)
    return Search(0, options, storage)


def report(agent: Search, trial_id: int, epoch: int, loss: float) -> None:
    """Report as an agent does: its statement, then a note for its pruner."""
    agent._storage.set_trial_intermediate_value(trial_id, epoch, loss)
    agent.note(trial_id, epoch, loss)


def claim(number: int) -> Claim:
    return Claim(reservation_id=number + 1, attempt_id=number + 1, ordinal=number, seed=0, fresh=True)


@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband"])
def test_tpe_learns_from_completed_trials(storage: InMemoryStorage, pruner: str) -> None:
    agent = search("tpe", pruner, storage)
    proposed = []
    for number in range(40):
        trial_id, trial_number = agent.create(claim(number))
        params = sampled(agent, trial_id)
        distance = abs(params["x"] - 0.3) + abs(params["y"] - 0.8)
        report(agent, trial_id, 4, distance)
        agent.tell(trial_id, trial_number, Outcome.COMPLETE, distance)
        proposed.append(distance)
    # At random the mean is about 0.6.
    assert sum(proposed[-15:]) / 15 < 0.35


def begin(agent: Search, number: int, *losses: float) -> tuple[int, int]:
    """Create a trial and report the losses of its epochs; return Optuna's id and number."""
    trial_id, trial_number = agent.create(claim(number))
    sampled(agent, trial_id)
    for epoch, loss in enumerate(losses, 1):
        report(agent, trial_id, epoch, loss)
    return trial_id, trial_number


def test_trial_that_reports_nan_alone_is_pruned_without_a_warning(storage: InMemoryStorage) -> None:
    agent = search("random", "median", storage)
    for number in range(6):
        trial_id, trial_number = begin(agent, number, 1.0, 1.0, 1.0)
        agent.tell(trial_id, trial_number, Outcome.COMPLETE, 1.0)
    # Warnings are errors in tests.
    assert agent.should_prune(begin(agent, 6, math.nan, math.nan)[0])


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_bad_trial_is_pruned_and_good_one_is_not(storage: InMemoryStorage, pruner: str) -> None:
    agent = search("random", pruner, storage)
    for number in range(12):
        loss = float(number % 6)
        trial_id, trial_number = begin(agent, number, *[loss] * 4)
        # Stores the rung, if the pruner has rungs.
        agent.should_prune(trial_id)
        agent.tell(trial_id, trial_number, Outcome.COMPLETE, loss)
    verdicts = [
        agent.should_prune(begin(agent, number, loss, loss)[0]) for number, loss in ((12, 99.0), (13, -1.0))
    ]
    assert verdicts == [True, False]


def test_pruner_sees_reports_of_other_agents_after_take_over(storage: InMemoryStorage) -> None:
    first, second = (search("random", "median", storage) for _ in range(2))
    for number in range(6):
        first.tell(*begin(first, number, *[1.0] * 4), Outcome.COMPLETE, 1.0)
    trial_id, _ = begin(first, 6, 5.0)
    first.should_prune(trial_id)
    # Too good at its second epoch to be pruned at its third.
    report(second, trial_id, 2, 0.5)
    first.take_over(trial_id)
    report(first, trial_id, 3, 5.0)
    assert not first.should_prune(trial_id)


def test_sampler_fills_parameters_missing_from_first(storage: InMemoryStorage) -> None:
    agent = search("random", "none", storage)
    agent._spec = replace(agent._spec, first=({"x": 0.25},))
    trial_id, _ = agent.create(claim(0))
    params = sampled(agent, trial_id)
    assert params["x"] == 0.25
    assert params.keys() == agent._spec.space.keys()


def test_cmaes_does_not_warn_of_categorical_parameters(
    storage: InMemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    agent = search("cmaes", "none", storage)
    agent._spec = replace(
        agent._spec, space={**agent._spec.space, "kind": CategoricalDistribution(["a", "b"])}
    )
    optuna.logging.enable_propagation()
    try:
        for number in range(14):
            agent.tell(*begin(agent, number), Outcome.COMPLETE, 1.0 + number)
    finally:
        optuna.logging.disable_propagation()
    assert caplog.text == ""


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_choices_that_compare_equal_are_learned_apart(storage: InMemoryStorage, sampler: str) -> None:
    choices = [1, "a", True, 1.0]
    options = spec({"c": categorical(choices)}, sampler=sampler, startup=8, seed=3)
    agent = Search(0, options, storage)
    values = {}
    for number in range(40):
        trial_id, _ = agent.create(claim(number))
        value = values[number] = sampled(agent, trial_id)["c"]
        agent.tell(trial_id, number, Outcome.COMPLETE, 0.0 if value is True else 1.0)
    stored = [trial.params["c"] for trial in optuna.load_study(study_name="s", storage=storage).trials]
    assert [repr(value) for value in stored] == [repr(value) for value in values.values()]
    if sampler == "tpe":
        assert sum(value is True for value in stored[8:]) > 16


@pytest.mark.parametrize("error", [OverflowError("too large"), ValueError("a\0b"), RuntimeError()])
def test_trial_is_sampled_at_random_if_the_sampler_fails(
    storage: InMemoryStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    agent = search("tpe", "none", storage)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(agent._proposing.sampler, "infer_relative_search_space", fail)
    with caplog.at_level("WARNING"):
        params = sampled(agent, agent.create(claim(0))[0])
    assert params.keys() == SPACE.keys()
    assert f"the sampler failed ({type(error).__name__}" in caplog.text


def test_error_of_the_database_is_not_one_of_the_sampler(
    storage: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = search("tpe", "none", storage)

    def fail(*_: object) -> None:
        raise StorageInternalError("lost")

    monkeypatch.setattr(agent._proposing.sampler, "infer_relative_search_space", fail)
    with pytest.raises(StorageInternalError):
        sampled(agent, agent.create(claim(0))[0])


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_sampler_goes_on_after_values_near_the_largest_float(storage: InMemoryStorage, sampler: str) -> None:
    agent = search(sampler, "median", storage)
    for number in range(12):
        trial_id, trial_number = begin(agent, number, 1e308, (-1.7e308, 1.7e308)[number % 2])
        assert agent.should_prune(trial_id) in (True, False)
        agent.tell(trial_id, trial_number, Outcome.COMPLETE, (-1.7e308, 1.7e308)[number % 2])


def test_diverged_trial_is_infeasible_whatever_its_objective_has_called_so(storage: InMemoryStorage) -> None:
    agent = search("tpe", "none", storage)
    trial_id, number = begin(agent, 0, 1.0)
    storage.set_trial_system_attr(trial_id, "constraints:diverged", -1.0)
    agent.tell(trial_id, number, Outcome.DIVERGED, None)
    assert storage.get_trial(trial_id).constraints == {"diverged": 1.0}
