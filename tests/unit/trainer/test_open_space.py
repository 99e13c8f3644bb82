"""`TrainerRun` of an objective that asks its agent for parameters one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.distributions import FloatDistribution, distribution_to_json

from hpo.outcomes import Outcome
from hpo.trainer.messages import (
    Command,
    Continue,
    Suggest,
    Suggested,
)
from objectives.errors import RunEndedError
from tests.unit.trainer.agent_end import PATIENCE, Agent

UNIT = FloatDistribution(0.0, 1.0)


def test_open_space_gets_its_parameters_from_the_agent(agent: Agent) -> None:
    run = agent.run(epochs=None)
    asked = Suggest("x", distribution_to_json(UNIT))
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(run.suggest, "x", UNIT)
        assert agent.hear() == asked
        agent.say(Suggested("x", 0.5))
        assert value.result(PATIENCE) == 0.5
        refused = pool.submit(run.suggest, "kind", UNIT)
        assert agent.hear() == Suggest("kind", asked.distribution)
        agent.say(Suggested("kind", error="another kind"))
        with pytest.raises(ValueError, match="another kind"):
            refused.result(PATIENCE)


def test_open_space_that_waits_for_a_parameter_is_preempted(agent: Agent) -> None:
    run = agent.run(epochs=None)
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(run.suggest, "x", UNIT)
        assert isinstance(agent.hear(), Suggest)
        agent.say(Command.PREEMPT)
        with pytest.raises(RunEndedError):
            value.result(PATIENCE)
    assert (run.ended_early, run.stop_outcome) == (True, Outcome.PREEMPTED)


def test_open_space_is_only_advised_to_prune(agent: Agent) -> None:
    run = agent.run(epochs=None)
    agent.say(Command.PRUNE)
    epochs = run.epochs()
    next(epochs)
    run.report(loss=1.0)
    assert (run.prune_advised, run.stop_outcome) == (True, None)
    assert next(epochs) == 2
    # The pruner judges each report again.
    agent.say(Continue(2))
    run.report(loss=0.5)
    assert not run.prune_advised
