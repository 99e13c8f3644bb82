"""The same trials of the same seed, whoever samples them and however often they are interrupted."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage

from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from objectives.base import Params
from objectives.spaces.choices import categorical
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space
from storage.claiming.claims import Claim
from tests.searches import sampled
from tests.specs import spec

PLAIN = {
    "x": FloatDistribution(0.0, 1.0),
    "n": IntDistribution(1, 64, log=True),
    "kind": categorical(["a", "b", "c"]),
    "y": FloatDistribution(1e-4, 1.0, log=True),
}
CONDITIONAL = PLAIN | {"z": When("kind", "a", FloatDistribution(0.0, 1.0))}
SAMPLERS = ["tpe", "random", "cmaes", "qmc", *(["gp"] if find_spec("torch") else [])]


class Interrupted(InMemoryStorage):
    """A storage that fails after some parameters of each trial."""

    left = 10**9

    def set_trial_param(self, *args: Any) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().set_trial_param(*args)


def loss(params: Params) -> float:
    return abs(params["x"] - 0.3) + abs(params["y"] - 0.5) + params["n"] / 64


def trained(
    sampler: str, space: Any, trials: int, begin: Callable[[int, Callable[[], Search], Interrupted], Search]
) -> list[Params]:
    """Return the parameters of trials that one slot trains; `begin` returns the agent of each trial."""
    storage = Interrupted()
    optuna.create_study(study_name="s", storage=storage, direction="minimize")
    options = spec(stored_space(space), sampler=sampler, startup=5, seed=3, first=({"x": 0.5},))
    agents: list[Search] = []

    def restarted() -> Search:
        agents.append(Search(0, options, storage))
        return agents[-1]

    found = []
    for number in range(trials):
        agent = begin(number, restarted, storage)
        claim = Claim(reservation_id=number + 1, attempt_id=1, ordinal=number, seed=0, fresh=True)
        trial_id, _ = agent.create(claim)
        try:
            params = sampled(agent, trial_id)
        except KeyboardInterrupt:
            storage.left = 10**9
            agent = restarted()
            agent.take_over(trial_id)
            params = sampled(agent, trial_id)
        agent.tell(trial_id, number, Outcome.COMPLETE, loss(params))
        found.append(params)
    return found


@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_interrupted_search_gives_the_same_trials(sampler: str, space: Any) -> None:
    only: list[Search] = []

    def one_agent(number: int, restart: Callable[[], Search], storage: Interrupted) -> Search:  # noqa: ARG001
        return (only or [only.append(restart()) or only[0]])[0]

    def killed(number: int, restart: Callable[[], Search], storage: Interrupted) -> Search:
        # Between any two of its parameters, and before each trial.
        storage.left = number % 4
        return restart()

    undisturbed = trained(sampler, space, 18, one_agent)
    assert trained(sampler, space, 18, killed) == undisturbed
    assert len({repr(params) for params in undisturbed}) == 18


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_sampler_that_does_not_learn_gives_the_same_trials_with_any_number_of_agents(sampler: str) -> None:
    def params(order: list[int]) -> dict[int, Params]:
        storage = InMemoryStorage()
        optuna.create_study(study_name="s", storage=storage, direction="minimize")
        agents = [Search(0, spec(PLAIN, sampler=sampler, seed=3), storage) for _ in range(2)]
        claims = [Claim(reservation_id=n + 1, attempt_id=1, ordinal=n, seed=0, fresh=True) for n in range(6)]
        ids = [agents[n % 2].create(claim)[0] for n, claim in enumerate(claims)]
        for agent in agents:
            agent._storage.get_all_trials(0)
        return {n: sampled(agents[n % 2], ids[n]) for n in order}

    assert params([5, 0, 3, 1, 4, 2]) == params([0, 1, 2, 3, 4, 5])
