"""Trials that violate a constraint, in an agent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hpo.agent import failure_policy
from hpo.agent.store.testing.study import FakeStudy
from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.errors import ObjectiveFailedError
from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Constrain, Epoch, EpochRecord, Finished, Measure, Start, Started
from objectives.runs.figures import parse
from tests.specs import spec
from tests.unit.agent.world import World, events

SMALL = "parameters<=10"


@pytest.fixture
def bounded(world: World) -> World:
    found = spec(constraints=(SMALL, "recall>=0.5"), epochs=1)
    world.study = FakeStudy(spec=found, budget=2)
    world.store = FakeTrialStore(world.study)
    return world


def rejected_with(size: int) -> Callable[[Start], list[Event]]:
    error = f"parameters is {size} > 10 (--constraint)"
    return events(Started(1, 0), Measure({"parameters": float(size)}), Finished(Outcome.REJECTED, error))


def trained(recall: float, *before: Event) -> list[Event]:
    record = EpochRecord(1, {"loss": 0.5, "recall": recall}, 0.01)
    return [Started(1, 0), *before, Epoch(record), Finished(Outcome.COMPLETE)]


def test_rejected_configurations_do_not_count(bounded: World) -> None:
    small, rejected = Measure({"parameters": 9.0}), rejected_with(11)
    bounded.pool.scripts = [rejected, events(*trained(0.9, small)), rejected, events(*trained(0.5, small))]
    bounded.run()
    rejected_one, complete = Outcome.REJECTED, Outcome.COMPLETE
    assert bounded.outcomes == [rejected_one, complete, rejected_one, complete]
    assert bounded.study.trials[0].figures == {"parameters": 11.0}
    assert bounded.study.trials[1].figures == {"parameters": 9.0, "recall": 0.9}
    start = bounded.pool.starts[0]
    assert (start.figures, start.constraints[0]) == (("parameters", "recall"), parse(SMALL))


def test_trained_trial_that_violates_a_constraint_counts_and_is_infeasible(bounded: World) -> None:
    bounded.pool.scripts = [events(*trained(0.25)), events(*trained(0.75))]
    bounded.run()
    first, second = bounded.study.trials
    assert (first.outcome, first.error, first.value) == (
        Outcome.INFEASIBLE,
        "recall is 0.25 < 0.5 (--constraint)",
        0.5,
    )
    assert second.outcome is Outcome.COMPLETE
    best = bounded.store.refresh().best
    assert best is not None
    assert best[0] == 1


def test_constraint_that_the_objective_sets_itself_excludes_the_trial_from_the_best(world: World) -> None:
    world.study.budget = 2
    world.study.spec = spec(epochs=1)
    world.pool.scripts = [
        events(*trained(0.0, Constrain("size", 1.5))),
        events(*trained(0.0, Constrain("size", 0.0))),
    ]
    world.run()
    assert world.outcomes == [Outcome.INFEASIBLE, Outcome.COMPLETE]
    assert world.study.trials[0].error == "the constraint 'size' is 1.5, above 0"


@pytest.mark.parametrize(
    ("limit", "sizes", "message"),
    [
        (
            "MOST_REJECTED",
            (11, 12),
            "3 configurations in a row violate a constraint, .* parameters is 11 > 10",
        ),
        (
            "SAME_REJECTED",
            (11,),
            "3 configurations in a row were rejected with the same figure: parameters is 11",
        ),
    ],
)
def test_study_stops_if_no_configuration_fulfils_its_constraints(
    bounded: World, monkeypatch: pytest.MonkeyPatch, limit: str, sizes: tuple[int, ...], message: str
) -> None:
    monkeypatch.setattr(failure_policy, limit, 3)
    bounded.pool.scripts = [rejected_with(sizes[index % len(sizes)]) for index in range(9)]
    with pytest.raises(ObjectiveFailedError, match=message):
        bounded.run()
    assert bounded.outcomes[:3] == [Outcome.REJECTED] * 3
    assert len(bounded.outcomes) <= 4
