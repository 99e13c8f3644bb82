"""First trials are drawn around the configurations that a study starts from."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage

from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from hpo.search.starting import belief
from hpo.search.starting.learned import summarized
from objectives.base import Params
from objectives.spaces.choices import categorical
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space
from storage.claiming.claims import Claim
from storage.figures import FIGURE
from tests.searches import sampled
from tests.specs import spec

SPACE = stored_space(
    {
        "x": FloatDistribution(1e-4, 1.0, log=True),
        "n": IntDistribution(2, 100, step=2),
        "kind": categorical(["a", "b", True, 1]),
        "fixed": FloatDistribution(0.5, 0.5),
        "free": FloatDistribution(0.0, 1.0),
        "z": When("kind", "a", IntDistribution(1, 64, log=True)),
    }
)
KNOWN = {"x": 1e-3, "n": 10, "kind": 1, "fixed": 0.5}


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw all first trials around a configuration."""
    monkeypatch.setattr(belief, "SHARE", 1.0)


def proposed(trials: int, **options: Any) -> list[Params]:
    """Return the parameters of the first trials of a study, none of which has ended."""
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    agent = Search(0, spec(SPACE, **{"sampler": "tpe", **options}), storage)
    found = []
    for number in range(trials):
        claim = Claim(reservation_id=number + 1, attempt_id=1, ordinal=number, seed=0, fresh=True)
        found.append(sampled(agent, agent.create(claim)[0]))
    return found


@pytest.mark.usefixtures("certain")
def test_first_trials_lie_around_the_known_good_configuration() -> None:
    first, *others = proposed(200, first=(KNOWN,), startup=200)
    assert first == first | KNOWN
    assert sum(params["kind"] is not True and params["kind"] == 1 for params in others) > 100
    assert {str(params["kind"]) for params in others} == {"a", "b", "True", "1"}
    assert np.median([params["n"] for params in others]) < 35
    assert all(params["n"] % 2 == 0 and 2 <= params["n"] <= 100 for params in others)
    assert 1e-4 <= min(params["x"] for params in others) < 1e-3
    assert 10**-3.2 < np.median([params["x"] for params in others]) < 10**-2.2
    # A parameter without a known value is drawn from its whole range.
    assert 0.4 < np.mean([params["free"] for params in others]) < 0.6
    assert all(("z" in params) == (params["kind"] == "a") for params in others)
    assert {params["fixed"] for params in others} == {0.5}


@pytest.mark.usefixtures("certain")
def test_belief_ends_with_the_trials_before_a_model() -> None:
    believing = proposed(8, first=(KNOWN,), startup=4)
    plain = proposed(8, startup=4)
    for number, (one, other) in enumerate(zip(believing, plain, strict=True)):
        assert (one == other) == (number >= 4)


def test_half_of_the_first_trials_are_drawn_at_random() -> None:
    believing, plain = proposed(60, first=(KNOWN,), startup=60), proposed(60, startup=60)
    assert 20 < sum(one == other for one, other in zip(believing, plain, strict=True)) < 40


def test_samplers_that_learn_nothing_believe_nothing() -> None:
    without, believing = proposed(4, sampler="random"), proposed(4, sampler="random", first=(KNOWN,))
    assert without[1:] == believing[1:]


@pytest.mark.usefixtures("certain")
def test_first_trials_lie_around_the_best_of_earlier_studies_too() -> None:
    best = [KNOWN | {"x": 0.9, "free": 0.99}, KNOWN | {"x": 0.5, "free": 0.95}]
    found = proposed(30, learned=(summarized("before", best),), startup=30)
    assert found[:2] == best
    assert np.median([params["free"] for params in found[2:]]) > 0.6


@pytest.mark.usefixtures("certain")
@pytest.mark.parametrize("front", [{}, {"also_minimize": "size"}])
def test_configuration_whose_own_trial_is_bad_is_not_believed(front: Any, caplog: Any) -> None:
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    good, bad = KNOWN | {"free": 0.05}, KNOWN | {"free": 0.95}
    agent = Search(0, spec(SPACE, sampler="tpe", first=(bad, good), startup=40, **front), storage)
    found = []
    for number in range(40):
        claim = Claim(reservation_id=number + 1, attempt_id=1, ordinal=number, seed=0, fresh=True)
        trial_id, _ = agent.create(claim)
        found.append(sampled(agent, trial_id)["free"])
        storage.set_trial_user_attr(trial_id, f"{FIGURE}size", 1 + found[-1])
        agent.tell(trial_id, number, Outcome.COMPLETE, found[-1])
    assert found[:2] == [0.95, 0.05]
    assert np.median(found[2:]) < 0.35
    assert not caplog.messages


@pytest.mark.usefixtures("certain")
def test_configuration_is_believed_although_one_that_compares_equal_is_bad() -> None:
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    good, bad = KNOWN | {"kind": 1, "free": 0.05}, KNOWN | {"kind": True, "free": 0.05}
    agent = Search(0, spec(SPACE, sampler="tpe", first=(good, bad), startup=40), storage)
    found = []
    for number in range(40):
        claim = Claim(reservation_id=number + 1, attempt_id=1, ordinal=number, seed=0, fresh=True)
        trial_id, _ = agent.create(claim)
        found.append(sampled(agent, trial_id))
        agent.tell(trial_id, number, Outcome.COMPLETE, float(found[-1]["kind"] is True))
    assert np.median([params["free"] for params in found[2:]]) < 0.35
