"""Figures that a study asks its trials for, in a trainer."""

from __future__ import annotations

from contextlib import suppress

import pytest

from hpo.outcomes import Outcome
from hpo.trainer import trainer
from hpo.trainer.messages import Continue, Epoch, Finished, Measure
from hpo.trainer.run import TrainerRun
from hpo.trainer.testing import prepared, start_message
from objectives.base import Objective, Params, Run
from objectives.runs.figures import parse
from objectives.values import ValueRefusedError
from tests.unit.trainer.agent_end import Agent

ASKED = {"figures": ("parameters", "latency_ms"), "constraints": (parse("parameters<=10"),)}


class Measured(Objective):
    """Measures `parameters` before its first epoch, or after it if `late`; `stubborn` code catches the error."""

    def train(self, params: Params, run: Run) -> None:
        if not params.get("late"):
            with suppress(*([Exception] if params.get("stubborn") else [])):
                run.measure(parameters=params["size"], latency_ms=1.5, depth=3)
        for _ in run.epochs():
            run.save({})
            run.report(loss=1.0)
            if params.get("late"):
                run.measure(parameters=params["size"])


def train(run: TrainerRun, **params: float) -> Finished:
    return trainer._outcome(prepared(Measured()), start_message(params=params), run)


def test_figures_that_the_study_asks_for_are_sent_before_the_first_epoch(agent: Agent) -> None:
    run = agent.run(epochs=1, **ASKED)
    agent.say(Continue(1))
    assert train(run, size=10).outcome is Outcome.COMPLETE
    assert agent.received()[0] == Measure({"parameters": 10.0, "latency_ms": 1.5})


@pytest.mark.parametrize("stubborn", [0, 1])
def test_configuration_that_violates_a_constraint_is_never_trained(agent: Agent, stubborn: int) -> None:
    finished = train(agent.run(**ASKED), size=11, stubborn=stubborn)
    assert (finished.outcome, finished.error) == (Outcome.REJECTED, "parameters is 11 > 10 (--constraint)")
    assert not finished.traceback
    assert [type(message) for message in agent.received()] == [Measure]


def test_figure_that_is_measured_after_an_epoch_ends_the_trial_as_infeasible(agent: Agent) -> None:
    run = agent.run(figures=("parameters", "loss"), constraints=ASKED["constraints"])
    run._figures._measured["parameters"] = 1.0
    agent.say(Continue(1))
    assert train(run, size=11, late=1).outcome is Outcome.INFEASIBLE


def test_resumed_trial_was_accepted_already(agent: Agent) -> None:
    first = agent.run(epochs=3, **ASKED)
    agent.say(Continue(1))
    epochs = first.epochs()
    first.measure(parameters=10, latency_ms=1)
    next(epochs)
    first.save({})
    first.report(loss=1.0)
    resumed = agent.run(epochs=3, **ASKED)
    agent.say(Continue(2))
    assert train(resumed, size=11).outcome is Outcome.COMPLETE
    assert isinstance(agent.received()[0], Measure), "the agent may have died before it had them"


def test_figure_that_no_trial_has_fails_the_first_one_with_those_that_there_are(agent: Agent) -> None:
    finished = train(agent.run(figures=("parametres",)), size=1)
    assert finished.outcome is Outcome.BUG
    assert finished.error.startswith("FigureUnknownError: trials have no figure 'parametres'")
    assert finished.error.endswith(", but depth, latency_ms, loss, parameters, seconds_per_epoch")
    assert not any(isinstance(message, Epoch) for message in agent.received())
    finished = train(agent.run(figures=("los", "parameters", "latency_ms")), size=1)
    assert finished.error.endswith(", but depth, latency_ms, loss, parameters, seconds_per_epoch")


def test_figure_that_is_not_finite_is_refused(agent: Agent) -> None:
    with pytest.raises(ValueRefusedError, match=r"run.measure\(\) was given parameters = nan: give finite"):
        agent.run(**ASKED).measure(parameters=float("nan"))


def test_final_run_has_no_constraints(agent: Agent) -> None:
    agent.run(final=True).measure(parameters=10**9)
    assert agent.received() == []
