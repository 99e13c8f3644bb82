"""Parameters that are active only for some values of others: sampled, fixed and narrowed where they are active."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpo.errors import InvalidParameterError
from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from hpo.search.space import params_problem
from hpo.search.space_overrides import narrow_space, one_configuration
from hpo.search.starting.starting_points import known_good_parts
from objectives.spaces.conditions import When, at_least, at_most
from objectives.spaces.space import conditions_of, conditions_text, lies_within, stored_space
from storage.claiming.claims import Claim
from tests.searches import sampled
from tests.specs import spec

SPACE = stored_space(
    {
        "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.99)),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "layers": IntDistribution(1, 3),
        "units_2": When("layers", at_least(2), IntDistribution(1, 9)),
        "units_3": When("layers", at_least(3), IntDistribution(1, 9)),
    }
)


def claim(number: int) -> Claim:
    return Claim(reservation_id=number + 1, attempt_id=number + 1, ordinal=number, seed=0, fresh=True)


def search(storage: InMemoryStorage, sampler: str = "random", **options: Any) -> Search:
    return Search(0, spec(SPACE, sampler=sampler, startup=5, seed=3, **options), storage)


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "qmc"])
def test_sampler_proposes_active_parameters_alone(storage: InMemoryStorage, sampler: str) -> None:
    agent = search(storage, sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(14):
            trial_id, trial_number = agent.create(claim(number))
            params = sampled(agent, trial_id)
            assert lies_within(params, SPACE)
            assert list(params) == [name for name in SPACE if name in params]
            assert storage.get_trial(trial_id).params == params
            agent.tell(trial_id, trial_number, Outcome.COMPLETE, params.get("momentum", 1.0))


def test_tpe_learns_values_of_conditional_parameters(storage: InMemoryStorage) -> None:
    agent = search(storage, "tpe")
    found = []
    for number in range(50):
        trial_id, trial_number = agent.create(claim(number))
        params = sampled(agent, trial_id)
        value = abs(params["momentum"] - 0.9) if "momentum" in params else 2.0
        agent.tell(trial_id, trial_number, Outcome.COMPLETE, value)
        found.append(value)
    # At random, half of the trials lack the momentum, and the others have a mean distance of 0.4.
    assert sum(found[-20:]) / 20 < 0.5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_trial_taken_over_gets_the_parameters_of_its_kept_values(
    storage: InMemoryStorage, optimizer: str
) -> None:
    agent = search(storage)
    trial_id, _ = agent.create(claim(0))
    # The earlier agent has written a part of its parameters.
    distribution = SPACE["optimizer"]
    storage.set_trial_param(trial_id, "optimizer", distribution.to_internal_repr(optimizer), distribution)
    proposal = agent.propose(trial_id)
    assert proposal.params["optimizer"] == optimizer
    assert "optimizer" not in proposal.unwritten
    assert lies_within(proposal.params, SPACE)


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, None),
        ({"layers": 1}, None),
        ({"units_2": 4}, "'units_2' is active only if layers is at least 2: give that value too"),
        (
            {"momentum": 0.9, "optimizer": "adam"},
            "'momentum' is active only if optimizer is sgd: leave it out",
        ),
    ],
)
def test_enqueued_values_are_checked_by_conditions(
    storage: InMemoryStorage, params: dict[str, Any], problem: str | None
) -> None:
    found = params_problem(params, SPACE, partial=True)
    assert found == (problem and f"parameter {problem}")
    waiting = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params})
    trial_id = storage.create_new_trial(0, waiting)
    assert search(storage).refuse_outside(trial_id) == found
    overrides = [f"{name}={value}" for name, value in params.items()]
    if problem is None:
        assert one_configuration(SPACE, overrides) == params
    else:
        with pytest.raises(InvalidParameterError, match=problem):
            one_configuration(SPACE, overrides)


def test_configuration_is_complete_without_inactive_parameters() -> None:
    params = {"optimizer": "adam", "layers": 2, "units_2": 4}
    assert params_problem(params, SPACE) is None
    assert "it lacks parameter 'units_3'" in str(params_problem(params | {"layers": 3}, SPACE))
    assert "'units_2' is active only if" in str(params_problem(params | {"layers": 1}, SPACE))


def test_narrowed_space_keeps_conditions() -> None:
    narrowed = narrow_space(SPACE, ["optimizer=sgd", "momentum=0.5..0.9"])
    assert conditions_of(narrowed) == conditions_of(SPACE)
    assert one_configuration(narrowed, ["momentum=0.6"]) == {"momentum": 0.6}


@pytest.mark.parametrize("override", ["momentum=0.9", "momentum=0.5..0.9"])
def test_override_of_parameter_that_cannot_be_active_is_refused(override: str) -> None:
    with pytest.raises(InvalidParameterError, match="momentum is active only if optimizer is sgd"):
        narrow_space(SPACE, [override, "optimizer=adam"])


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("layers=1..2", {"momentum": 0.9, "optimizer": "sgd"}),
        ("optimizer=adam", {"layers": 3, "units_2": 4, "units_3": 5}),
        ("units_3=1..4", {"momentum": 0.9, "optimizer": "sgd", "layers": 3, "units_2": 4}),
        ("layers=3", {"momentum": 0.9, "optimizer": "sgd", "layers": 3, "units_2": 4, "units_3": 5}),
    ],
)
def test_known_good_configuration_loses_values_whose_conditions_are_open(
    override: str, part: dict[str, Any]
) -> None:
    first = {"momentum": 0.9, "optimizer": "sgd", "layers": 3, "units_2": 4, "units_3": 5}
    assert known_good_parts([first], narrow_space(SPACE, [override])) == (part,)


def test_condition_is_shown_with_the_types_and_digits_of_its_values() -> None:
    space = stored_space(
        {
            "choice": CategoricalDistribution([True, "true", 1, "1", ""]),
            "texts": When("choice", ["true", "1", ""], FloatDistribution(0.0, 1.0)),
            "others": When("choice", [True, 1], FloatDistribution(0.0, 1.0)),
            "steps": IntDistribution(1, 10_000_000),
            "rate": When("steps", at_least(1_234_567), FloatDistribution(0.0, 1.0)),
        }
    )
    assert conditions_text(space, "texts") == 'choice is "true" or "1" or ""'
    assert conditions_text(space, "others") == "choice is True or 1"
    assert conditions_text(space, "rate") == "steps is at least 1234567"


def test_condition_on_a_step_holds_for_its_multiples(storage: InMemoryStorage) -> None:
    # 3 * 0.1 is not 0.3, and 6 * 0.1 is not 0.6.
    written = [0.1, 0.3, 0.4, 0.6]
    space = stored_space(
        {"rate": FloatDistribution(0.0, 0.6, step=0.1)}
        | {f"at_{rate}": When("rate", rate, FloatDistribution(0, 1)) for rate in written}
        | {f"to_{rate}": When("rate", at_most(rate), FloatDistribution(0, 1)) for rate in written}
        | {f"from_{rate}": When("rate", at_least(rate), FloatDistribution(0, 1)) for rate in written}
    )
    agent = Search(0, spec(space, sampler="random", seed=3), storage)
    rates = set()
    for number in range(12):
        params = sampled(agent, agent.create(claim(number))[0])
        rates.add(params["rate"])
        rate = round(params["rate"], 1)
        expected = {*(f"to_{one}" for one in written if one >= rate)}
        expected |= {*(f"from_{one}" for one in written if one <= rate)}
        assert params.keys() - {"rate", f"at_{rate}"} == expected
        assert (f"at_{rate}" in params) == (rate in written)
    assert 3 * 0.1 in rates


def test_conditions_that_meet_in_one_step_can_hold() -> None:
    rate = FloatDistribution(0.0, 1.0, step=0.1)
    narrow = When("rate", at_least(0.3), When("rate", at_most(0.3), FloatDistribution(0, 1)))
    assert "x" in stored_space({"rate": rate, "x": narrow})
    either = When("rate", [0.1 * 3], When("rate", at_most(0.3), FloatDistribution(0, 1)))
    assert "x" in stored_space({"rate": rate, "x": either})
