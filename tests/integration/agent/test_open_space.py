"""Studies whose objective names its parameters while it runs."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import TrialState
from sqlalchemy import event, text

from hpo.agent.store.trial_store import TrialStore
from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.outcomes import Outcome
from hpo.search.repeatable import RepeatableSampler
from hpo.search.space_changes import with_space
from hpo.search.spec import StudySpec
from hpo.search.starting.learned import summarized
from hpo.study.catalog import find_study
from hpo.trainer.messages import Annotate, Constrain, EpochRecord
from storage.attempts import LeaseLostError
from storage.claiming.claims import Claim
from storage.engine import Database
from tests.integration.stores import StoredStudy, begun, claimed
from tests.specs import spec

OPEN = spec({}, open_space=True, epochs=None, metric="value", direction="maximize")


def ask(store: TrialStore, claim: Claim, trial_id: int, name: str, distribution: BaseDistribution) -> object:
    known = store._session.statement(
        lambda c: c.execute(
            text("SELECT params FROM hpo.trials WHERE trial_id = :t"), {"t": trial_id}
        ).scalar_one()
    )
    return store.suggest(claim.attempt_id, trial_id, name, distribution_to_json(distribution), known)[name]


def reported(store: TrialStore, claim: Claim, trial_id: int, *values: float) -> None:
    """Report values at the steps 0, 10, 20 and so on."""
    records = [
        EpochRecord(place + 1, {"value": value, "step": 10.0 * place}, 0.1)
        for place, value in enumerate(values)
    ]
    store.record(claim.attempt_id, trial_id, records)


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return StoredStudy(database, OPEN, budget=3)


def test_parameters_are_sampled_once_and_in_both_tables(study: StoredStudy) -> None:
    store = study.agent()
    claim, trial_id = begun(store)
    unit, kind = FloatDistribution(0, 1), CategoricalDistribution(["a", [1, 2], None, True, 1])
    found = {"x": ask(store, claim, trial_id, "x", unit), "kind": ask(store, claim, trial_id, "kind", kind)}
    assert [ask(store, claim, trial_id, name, dist) for name, dist in (("x", unit), ("kind", kind))] == list(
        found.values()
    )
    assert study.optuna.get_trials()[0].params == found
    assert json.loads(study.scalar("SELECT params::text FROM hpo.trials")) == found


def test_lost_trial_goes_on_elsewhere_with_its_values(study: StoredStudy) -> None:
    store, other = study.agent(), study.agent()
    claim, trial_id = begun(store)
    value = ask(store, claim, trial_id, "x", FloatDistribution(0, 1))
    reported(store, claim, trial_id, 0.5, 0.6)
    study.expire_leases()
    other.reap_expired()
    again = claimed(other)
    assert (again.reservation_id, other.sample(again)) == (claim.reservation_id, (trial_id, 0, {"x": value}))
    other.begin(again.attempt_id, 1, 0)
    # The function begins again, so its reports do too.
    assert study.optuna.get_trials()[0].intermediate_values == {}
    assert ask(other, again, trial_id, "x", FloatDistribution(0, 1)) == value
    with pytest.raises(LeaseLostError):
        ask(store, claim, trial_id, "y", FloatDistribution(0, 1))
    with pytest.raises(LeaseLostError):
        store.annotate(claim.attempt_id, Annotate("a", 1))
    reported(other, again, trial_id, 0.7)
    other.settle(again.attempt_id, Outcome.COMPLETE, 0.9)
    trial = study.optuna.get_trials()[0]
    assert (trial.params, trial.intermediate_values, trial.value) == ({"x": value}, {0: 0.7}, 0.9)


def test_reports_reach_optuna_at_the_steps_of_the_function(study: StoredStudy) -> None:
    store = study.agent()
    claim, trial_id = begun(store)
    reported(store, claim, trial_id, 0.1, 0.2, 0.3)
    store.settle(claim.attempt_id, Outcome.PRUNED, 0.3)
    trial = study.optuna.get_trials()[0]
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {0: 0.1, 10: 0.2, 20: 0.3})


def test_metric_called_step_that_is_none_leaves_the_number_of_the_epoch(study: StoredStudy) -> None:
    store = study.agent()
    claim, trial_id = begun(store)
    steps = (3e9, math.nan, -1.0, 0.5, 7.0)
    records = [EpochRecord(epoch, {"value": 1.0, "step": step}, 0.1) for epoch, step in enumerate(steps, 1)]
    store.record(claim.attempt_id, trial_id, records)
    assert sorted(study.optuna.get_trials()[0].intermediate_values) == [1, 2, 3, 4, 7]


def test_another_kind_of_distribution_is_refused_and_nothing_lost(study: StoredStudy) -> None:
    store = study.agent()
    for slot, distribution in enumerate((CategoricalDistribution(["a", "b"]), FloatDistribution(0, 1))):
        claim, trial_id = begun(store, slot)
        ask(store, claim, trial_id, "x", distribution) if slot == 0 else None
    with pytest.raises(
        ValueError, match=r"'x' was one of a, b when the study first .* and is now 0 to 1: give"
    ):
        ask(store, claim, trial_id, "x", FloatDistribution(0, 1))
    with pytest.raises(
        ValueError, match=r"'x' was one of a, b when the study first .* and is now one of a, c: give"
    ):
        ask(store, claim, trial_id, "x", CategoricalDistribution(["a", "c"]))
    assert ask(store, claim, trial_id, "y", FloatDistribution(0, 1)) is not None


def test_first_trials_take_the_values_of_earlier_studies_that_fit(database: Database) -> None:
    best = {"x": 0.25, "kind": [1, 2], "gone": 3, "n": 77}
    study = StoredStudy(database, replace(OPEN, learned=(summarized("before", [best]),)), budget=2)
    asked = {
        "x": FloatDistribution(0, 1),
        "kind": CategoricalDistribution(["a", [1, 2], True, 1]),
        "n": IntDistribution(1, 9),
        "new": FloatDistribution(0, 1),
    }
    store, other = study.agent(), study.agent()
    claim, trial_id = begun(store)
    found = {"x": ask(store, claim, trial_id, "x", asked["x"])}
    # Its agent dies: another one reads the trial from the database.
    study.expire_leases()
    other.reap_expired()
    claim, trial_id = begun(other)
    found |= {name: ask(other, claim, trial_id, name, dist) for name, dist in asked.items()}
    assert (found["x"], found["kind"]) == (0.25, [1, 2])
    assert 1 <= found["n"] <= 9  # type: ignore[operator]
    assert study.optuna.get_trials()[0].params == found
    claim, trial_id = begun(other, 1)
    assert ask(other, claim, trial_id, "x", asked["x"]) != 0.25


def test_failing_sampler_is_replaced_by_chance(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = study.agent()
    claim, trial_id = begun(store)
    sampler = store._search._study.sampler

    def fail(*_: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(sampler, "sample_independent", fail)
    assert isinstance(sampler, RepeatableSampler)
    with caplog.at_level(logging.WARNING):
        assert 1 <= ask(store, claim, trial_id, "n", IntDistribution(1, 3)) <= 3  # type: ignore[operator]
    assert "the sampler failed (OverflowError: too large)" in caplog.text


def test_suggestion_and_report_cost_one_round_trip(study: StoredStudy) -> None:
    store, trips = study.agent(), 0
    engines = study.database._engines()

    def count(*_: object) -> None:
        nonlocal trips
        trips += 1

    def count_transaction(*_: object) -> None:
        nonlocal trips
        trips += 2

    def cost(call: Callable[[], object]) -> int:
        before = trips
        call()
        return trips - before

    for engine in engines:
        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count_transaction)
    costs = []
    for slot in (0, 1):
        claim, trial_id = begun(store, slot)
        asked = partial(store.suggest, claim.attempt_id, trial_id)
        unit = distribution_to_json(FloatDistribution(0, 1))
        costs.append(
            [cost(partial(asked, name, unit, params)) for name, params in (("x", {}), ("y", {"x": 0.5}))]
        )
        costs[-1].append(cost(partial(store.annotate, claim.attempt_id, Annotate("a", 1))))
        costs[-1].append(cost(partial(reported, store, claim, trial_id, 0.5)))
    # In the first trial, the distribution that other trials have is looked up.
    assert costs == [[2, 2, 1, 1], [1, 1, 1, 1]]


def test_enqueued_values_are_used(study: StoredStudy) -> None:
    study.optuna.enqueue_trial({"x": 0.25, "unused": 3})
    store = study.agent()
    claim, trial_id = begun(store)
    assert ask(store, claim, trial_id, "x", FloatDistribution(0, 1)) == 0.25


def test_attributes_and_constraints_reach_optuna(study: StoredStudy) -> None:
    store = study.agent()
    claim, _ = begun(store)
    store.annotate(claim.attempt_id, Annotate("matrix", [[1.0]]))
    for value in (1.0, 2.0):
        store.annotate(claim.attempt_id, Constrain("size", value))
    trial = study.optuna.get_trials()[0]
    assert (trial.user_attrs["matrix"], trial.constraints) == ([[1.0]], {"size": 1.0})


def test_space_of_the_study_is_that_of_its_trials(study: StoredStudy, database: Database) -> None:
    assert find_study(database, "s").spec_json["space"] == {}
    store = study.agent()
    asked = (
        {"x": FloatDistribution(0, 1), "n": IntDistribution(1, 3)},
        {"x": FloatDistribution(0.5, 2), "n": IntDistribution(2, 8, step=2), "late": FloatDistribution(0, 1)},
    )
    for slot, space in enumerate(asked):
        claim, trial_id = begun(store, slot)
        for name, distribution in space.items():
            ask(store, claim, trial_id, name, distribution)
        reported(store, claim, trial_id, *[0.0] * (slot + 1))
    found = StudySpec.from_json(find_study(database, "s").spec_json)
    assert list(found.space.items()) == [
        ("x", FloatDistribution(0, 2)),
        ("n", IntDistribution(1, 8)),
        ("late", FloatDistribution(0, 1)),
    ]
    assert (found.epochs, found.open_space) == (2, True)


def test_narrowing_changes_by_request_and_never_in_choices(database: Database) -> None:
    study = StoredStudy(database, replace(OPEN, narrowing=("x=0.1..0.2", "kind=a")), budget=2)
    described = OPEN.describe("o")

    def wanted(*params: str, space: str | None = None) -> tuple[str, ...]:
        request = LaunchRequest(study="s", params=params, space=space)
        return with_space(database, study.optuna._study_id, study.spec, request, described).narrowing

    # No trial has to stay comparable yet.
    assert wanted("x=0.3") == ("x=0.3",)
    store = study.agent()
    claim, trial_id = begun(store)
    assert 0.1 <= float(str(ask(store, claim, trial_id, "x", FloatDistribution(0, 1)))) <= 0.2
    assert ask(store, claim, trial_id, "kind", CategoricalDistribution(["a", "b"])) == "a"
    reported(store, claim, trial_id, 1.0)
    store.settle(claim.attempt_id, Outcome.COMPLETE, 1.0)
    assert wanted() == wanted("kind=a", "x=0.1..0.2") == study.spec.narrowing
    assert wanted('kind="a"', "x = 1e-1 .. 0.20") == study.spec.narrowing
    assert wanted("x=0.3", space="keep") == study.spec.narrowing
    assert wanted("x=0.3", "kind=a", space="change") == ("x=0.3", "kind=a")
    with pytest.raises(StudyConflictError, match=r"has trials with --param x=0\.1\.\.0\.2 --param kind=a"):
        wanted("x=0.3", "kind=a")
    for params in (("x=0.3",), ("x=0.3", "kind=a,b"), ("x=0.3,0.4", "kind=a")):
        with pytest.raises(StudyConflictError, match=r"choices \((kind|x)\) cannot change"):
            wanted(*params, space="change")
