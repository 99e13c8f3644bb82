"""An Optuna objective runs unchanged as an objective of this service."""

from __future__ import annotations

import functools
import math
import random
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection

from objectives.adapters import optuna_objective
from objectives.adapters.optuna_objective import ObjectiveTrial
from objectives.base import Objective, Params, Run
from objectives.errors import DivergedError, Infeasible, MetricMissingError
from objectives.local_run import LocalRun
from objectives.values import ValueRefusedError

FOREVER = sys.maxsize


class SearchRun(LocalRun):
    """Gives the values of `answers`, and prunes after `prune_after` reports."""

    answers: Params = {}
    asked: list[str] = []
    prune_after: int | None = None

    def _sample(self, name: str, distribution: Any) -> Any:
        self.asked = [*self.asked, name]
        return self.answers[name] if name in self.answers else super()._sample(name, distribution)

    @property
    def prune_advised(self) -> bool:
        return self.prune_after is not None and len(self.history) >= self.prune_after


def train(function: Callable[..., Any], run: Run | None = None, params: Params | None = None) -> Any:
    run = run or SearchRun(FOREVER)
    optuna_objective.wrap(function, "objective")().train(params or {}, run)
    return run


def test_parameters_are_suggested_once_with_every_option() -> None:
    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        assert trial.suggest_float("lr", 1e-5, 1e-1, log=True) == lr
        assert trial.suggest_float("momentum", 0.0, 1.0, step=0.25) in (0, 0.25, 0.5, 0.75, 1)
        units = [trial.suggest_int(f"n_units_l{i}", 4, 128, log=True) for i in range(2)]
        assert all(isinstance(unit, int) for unit in units)
        assert trial.suggest_int("even", 2, 8, step=2) % 2 == 0
        assert trial.suggest_categorical("kind", ("a", None, True, 2)) in ("a", None, True, 2)
        assert trial.suggest_uniform("u", 0, 1) <= 1
        assert trial.suggest_loguniform("l", 1, 2) >= 1
        assert trial.suggest_discrete_uniform("d", 0, 1, 0.5) in (0, 0.5, 1)
        assert list(trial.params) == list(trial.distributions)
        assert trial.params["lr"] == lr
        assert trial.distributions["lr"] == FloatDistribution(1e-5, 1e-1, log=True)
        return lr

    run = train(objective)
    assert run.asked == ["lr", "momentum", "n_units_l0", "n_units_l1", "even", "kind", "u", "l", "d"]
    assert [entry["step"] for entry in run.history] == [0.0]


@pytest.mark.parametrize("choice", [(64, 32), [1, 2], {"a": 1}, np.int64(3), 1, True, 1.0])
def test_choice_arrives_as_it_was_declared(choice: Any) -> None:
    def objective(trial: optuna.Trial) -> float:
        found = trial.suggest_categorical("x", ["other", choice])
        assert repr(found) == repr(choice)
        return 0.0

    stored = (
        choice.item()
        if isinstance(choice, np.generic)
        else list(choice)
        if isinstance(choice, tuple)
        else choice
    )
    run = SearchRun(FOREVER)
    run.answers = {"x": stored}
    train(objective, run)


def test_choice_that_cannot_be_stored_is_refused_by_name() -> None:
    with pytest.raises(
        ValueRefusedError, match=r"'x' has the choice Decimal\('1'\), an object of type Decimal"
    ):
        train(lambda trial: trial.suggest_categorical("x", [Decimal(1)]))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda trial: trial.suggest_float("", 0, 1), "the name of a parameter is the text ''"),
        (lambda trial: trial.suggest_float("a\0", 0, 1), r"the name of a parameter is the text 'a\\x00'"),
        (lambda trial: trial.suggest_float("a\nb", 0, 1), "use 1 to 512 printable characters"),
        (lambda trial: trial.suggest_float("a" * 513, 0, 1), "use 1 to 512 printable characters"),
        (lambda trial: trial.suggest_float(3, 0, 1), "the name of a parameter is the number 3"),
        (lambda trial: trial.suggest_int("n", 0, 2**60), r"parameter 'n' must lie within ±2\*\*53"),
        (lambda trial: trial.suggest_categorical("c", [(1,), [1]]), "choices .* which are stored the same"),
        (lambda trial: trial.report(1.0, 2**31), "was given step 2147483648"),
        (lambda trial: trial.set_user_attr("a\0", 1), r"'a\\x00'"),
        (
            lambda trial: trial.set_user_attr("model", object()),
            "the attribute 'model' is of type object: .*file$",
        ),
        (lambda trial: trial.set_user_attr("hpo_reservation", 1), "the service's own"),
        (lambda trial: trial.set_constraint("a\0", 1), r"the name of a constraint is 'a\\x00'"),
        (lambda trial: trial.set_constraint("c", math.nan), "the constraint 'c' is nan"),
        (lambda trial: trial.set_constraint("c", math.inf), "the constraint 'c' is inf"),
    ],
)
def test_call_that_cannot_be_stored_is_refused_by_name(ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueRefusedError, match=message):
        train(ask)


class Open(Objective):
    """Asks for its parameters itself."""

    open_space, epochs, direction = True, None, "maximize"
    choices: Any = ((1, 2), (3,))

    def train(self, params: Params, run: Run) -> None:  # noqa: ARG002
        found = run.suggest("c", CategoricalDistribution(self.choices))
        assert found in self.choices
        for epoch in run.epochs():
            run.report(loss=float(sum(found)))
            if epoch == 2:
                return


def test_class_gets_its_choices_as_declared_and_those_of_a_retrain() -> None:
    run = SearchRun(FOREVER)
    run.answers = {"c": [1, 2]}
    Open().train({}, run)
    final = SearchRun(FOREVER, final=True)
    Open().train({"c": [3]}, final)
    assert [each.history[-1]["loss"] for each in (run, final)] == [3.0, 3.0]
    assert (run.asked, final.asked) == (["c"], [])
    with pytest.raises(ValueError, match="no value for the parameter 'c'"):
        Open().train({}, SearchRun(FOREVER, final=True))


def test_class_that_declares_its_space_may_not_ask_for_parameters() -> None:
    declared = type("Declared", (Open,), {"open_space": False, "epochs": 2})
    with pytest.raises(ValueRefusedError, match="'c', but the objective declares its space"):
        declared().train({}, SearchRun(2))


def test_class_declares_a_direction_and_a_function_none() -> None:
    assert Open.describe("o").declares_direction
    assert not optuna_objective.wrap(lambda _: 0.0, "o").describe("o").declares_direction


def test_changed_kind_of_a_parameter_is_refused_as_in_optuna() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        return trial.suggest_int("x", 0, 1)

    with pytest.raises(ValueError, match="Cannot set different distribution kind"):
        train(objective)


def test_reports_keep_their_steps_and_the_returned_value_decides() -> None:
    def objective(trial: optuna.Trial) -> np.float32:
        for step in (0, 10, 20):
            trial.report(1.0 / (step + 1), step)
            assert not trial.should_prune()
        with pytest.warns(UserWarning, match="already reported"):
            trial.report(5.0, 20)
        return np.float32(0.25)

    run = train(objective)
    assert [(entry["step"], entry["value"]) for entry in run.history] == [(0, 1), (10, 1 / 11), (20, 1 / 21)]
    assert run.value == 0.25


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("x", 0), TypeError), ((1.0, "x"), TypeError), ((1.0, -1), ValueError), ((None, 0), TypeError)],
)
def test_report_refuses_what_optuna_refuses(arguments: tuple[Any, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        train(lambda trial: trial.report(*arguments))


def test_pruned_objective_raises_and_one_that_goes_on_completes() -> None:
    def polite(trial: optuna.Trial) -> float:
        for step in range(10):
            trial.report(1.0, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 1.0

    def deaf(trial: optuna.Trial) -> float:
        for step in range(4):
            trial.report(1.0, step)
        return 2.0

    runs = [SearchRun(FOREVER) for _ in range(2)]
    for run in runs:
        run.prune_after = 2
    with pytest.raises(optuna.TrialPruned):
        train(polite, runs[0])
    train(deaf, runs[1])
    assert [len(run.history) for run in runs] == [2, 4]
    assert runs[1].value == 2.0


def test_stopped_run_leaves_the_function_whatever_it_catches() -> None:
    steps = []

    def objective(trial: optuna.Trial) -> float:
        for step in range(10):
            try:
                trial.report(1.0, step)
            except Exception:  # noqa: BLE001
                steps.append("caught")
            steps.append(step)
        return 0.0

    run = train(objective, SearchRun(FOREVER, stop_after=3))
    assert (steps, run.ended_early, run.value) == ([0, 1], True, None)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None"),
        ((1.0, 2.0), "returned 2 values"),
        ("good", "the value that the objective returned is the text 'good'"),
        (1j, "the value that the objective returned is of type complex"),
    ],
)
def test_returned_value_that_is_no_number_is_named(returned: object, message: str) -> None:
    with pytest.raises((MetricMissingError, ValueRefusedError), match=message):
        train(lambda _: returned)


@pytest.mark.parametrize("reports", [0, 1])
def test_returned_nan_diverges(reports: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        for step in range(reports):
            trial.report(1.0, step)
        return math.nan

    with pytest.raises(DivergedError):
        train(objective)


def test_attributes_constraints_and_facts_of_the_trial() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("matrix", np.eye(2))
        trial.set_constraint("size", 2)
        with pytest.warns(UserWarning, match="already set"):
            trial.set_constraint("size", 3)
        assert trial.user_attrs == {"matrix": [[1.0, 0.0], [0.0, 1.0]]}
        assert trial.constraints == {"size": 2.0}
        assert (trial.number, trial.study.study_name, trial.study.direction) == (
            7,
            "mine",
            StudyDirection.MAXIMIZE,
        )
        assert trial.datetime_start is not None
        return 0.0

    run = SearchRun(FOREVER)
    run.number, run.study, run.direction = 7, "mine", "maximize"
    train(objective, run)
    assert run.attributes == {"matrix": [[1.0, 0.0], [0.0, 1.0]]}
    assert run.constraints == {"size": 2.0}


@pytest.mark.parametrize("use", ["optimize", "best_value", "trials", "stop"])
def test_study_of_a_trial_refuses_the_rest_in_one_line(use: str) -> None:
    with pytest.raises(ValueRefusedError, match=rf"trial\.study\.{use} is not available"):
        train(lambda trial: getattr(trial.study, use))


def test_final_run_uses_the_given_parameters_and_records_the_value() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1) * 2

    run = SearchRun(FOREVER, final=True)
    train(objective, run, {"x": 0.25})
    assert (run.results, run.asked) == ({"value": 0.5}, [])
    with pytest.raises(ValueError, match="no value for the parameter 'x'"):
        train(objective, SearchRun(FOREVER, final=True), {"y": 1})
    with pytest.warns(UserWarning, match="out of the range"):
        train(objective, SearchRun(FOREVER, final=True), {"x": 5.0})


def test_run_seeds_the_generators_of_the_objective() -> None:
    def objective(_: optuna.Trial) -> float:
        return random.random() + float(np.random.rand())

    runs = [SearchRun(FOREVER, seed=seed) for seed in (3, 3, 4)]
    values = [train(objective, run).history[-1]["value"] for run in runs]
    assert values[0] == values[1] != values[2]


class Callback:
    """Called with a trial."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def __call__(self, trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1) + self.offset


class NeedsData(Callback):
    def __init__(self, data: object) -> None:
        super().__init__()
        self.data = data


def two(trial: optuna.Trial, other: int) -> float:
    return trial.suggest_float("x", 0, 1) + other


def defaulted(trial: optuna.Trial, other: int = 1) -> float:
    return trial.suggest_float("x", 0, 1) + other


@pytest.mark.parametrize("found", [Callback(1.0), Callback, functools.partial(two, other=2), defaulted])
def test_anything_that_is_called_with_a_trial_is_an_objective(found: Any) -> None:
    assert train(found).history[-1]["step"] == 0


async def coroutine(trial: optuna.Trial) -> float:  # noqa: ARG001
    return 0.0


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (two, "must take one argument, the trial"),
        (NeedsData, "needs arguments .* name an object of it"),
        (Colour, "."),
        (str, "cannot be called with a trial"),
        (coroutine, "must return a number"),
    ],
)
def test_other_callables_are_refused_with_a_reason(found: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optuna_objective.wrap(found, "objective")


def test_infeasible_passes_through() -> None:
    def objective(_: optuna.Trial) -> float:
        raise Infeasible("too large")

    with pytest.raises(Infeasible):
        train(objective)


def test_trial_is_one_of_optuna() -> None:
    assert issubclass(ObjectiveTrial, optuna.Trial)
    # An inherited method would ask a storage, which a trial here does not have.
    assert {name for name in vars(optuna.Trial) if not name.startswith("_")} <= vars(ObjectiveTrial).keys()
