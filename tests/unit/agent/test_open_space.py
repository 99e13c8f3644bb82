"""An agent whose objective names its parameters while it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import FloatDistribution, distribution_to_json

from hpo.agent.store.testing.study import FakeStudy
from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.errors import InvalidParameterError
from hpo.outcomes import Outcome
from hpo.trainer.messages import (
    Annotate,
    Command,
    Constrain,
    Continue,
    Epoch,
    EpochRecord,
    Finished,
    Started,
    Suggest,
    Suggested,
)
from tests.specs import spec
from tests.unit.agent.world import World, events

UNIT = distribution_to_json(FloatDistribution(0.25, 1.0))


@pytest.fixture
def opened(world: World) -> World:
    world.study = FakeStudy(
        spec=spec({}, open_space=True, epochs=None, metric="value", pruner="median"), budget=1
    )
    world.store = FakeTrialStore(world.study)
    return world


def step(number: int, value: float) -> Epoch:
    return Epoch(EpochRecord(number, {"value": value, "step": number - 1.0}, 0.01))


def test_parameters_are_answered_and_the_returned_value_decides(opened: World) -> None:
    opened.pool.scripts = [
        events(
            Started(1, 0),
            Suggest("x", UNIT),
            Annotate("note", "a"),
            Constrain("size", -1.0),
            step(1, 0.5),
            Finished(Outcome.COMPLETE, value=0.125),
        )
    ]
    opened.run()
    assert opened.pool.sent == [(0, Suggested("x", 0.25)), (0, Continue(1))]
    (trial,) = opened.study.trials
    assert (trial.outcome, trial.value, trial.params) == (Outcome.COMPLETE, 0.125, {"x": 0.25})
    assert trial.annotations == {"note": "a", "size": -1.0}
    assert opened.progress.ended[0].params == {"x": 0.25}
    assert opened.pool.starts[0].epochs is None


def test_pruned_trial_has_the_value_of_its_last_step(opened: World) -> None:
    opened.pool.scripts = [
        events(
            Started(1, 0),
            Epoch(EpochRecord(1, {"value": 0.9, "step": 8.0}, 0.01)),
            Epoch(EpochRecord(2, {"value": 0.1, "step": 3.0}, 0.01)),
            Finished(Outcome.PRUNED),
        )
    ]
    opened.run()
    assert [(trial.outcome, trial.value) for trial in opened.study.trials] == [(Outcome.PRUNED, 0.9)]


def test_override_outside_the_space_ends_the_agent_and_releases_the_trial(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(*_: object) -> None:
        raise InvalidParameterError("--param x=5: 5 lies outside 0..1")

    monkeypatch.setattr(opened.store, "suggest", refuse)
    opened.pool.scripts = [events(Started(1, 0), Suggest("x", UNIT), Finished(Outcome.PREEMPTED))]
    with pytest.raises(InvalidParameterError, match="lies outside"):
        opened.run()
    assert not any(isinstance(message, Suggested) for _, message in opened.pool.sent)
    assert [trial.outcome for trial in opened.study.trials] == [None]


@pytest.mark.parametrize("name", ["x", "y"])
def test_override_that_the_first_trial_does_not_use_is_named(
    opened: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    opened.study = FakeStudy(spec=replace(opened.study.spec, narrowing=(f"{name}=0.5",)), budget=2)
    opened.store = FakeTrialStore(opened.study)
    opened.pool.scripts = [
        events(Started(1, 0), Suggest("x", UNIT), step(1, 0.5), Finished(Outcome.COMPLETE))
    ] * 2
    opened.run()
    warnings = [record.getMessage() for record in caplog.records if "--param" in record.getMessage()]
    assert [text.partition(" has no effect")[0] for text in warnings] == (
        ["--param y=0.5"] if name == "y" else []
    )


def test_refused_parameter_is_answered_with_the_reason(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(*_: object) -> None:
        raise ValueError("another kind")

    monkeypatch.setattr(opened.store, "suggest", refuse)
    opened.pool.scripts = [events(Started(1, 0), Suggest("x", UNIT), Finished(Outcome.PRUNED))]
    opened.run()
    assert opened.pool.sent == [(0, Suggested("x", error="another kind"))]


def test_objective_that_ignores_the_pruner_completes(opened: World) -> None:
    opened.pool.endings = {Command.PRUNE: [step(2, 0.4), Finished(Outcome.COMPLETE, value=0.3)]}
    opened.study.prunes = lambda _number, epoch: epoch == 1
    opened.pool.scripts = [events(Started(1, 0), step(1, 0.5), Finished(Outcome.PRUNED))]
    opened.run()
    assert opened.pool.sent[0] == (0, Command.PRUNE)
    assert [(trial.outcome, trial.value) for trial in opened.study.trials] == [(Outcome.COMPLETE, 0.3)]
