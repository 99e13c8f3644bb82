"""Which report is the value of a trial."""

from __future__ import annotations

import math

import pytest

from objectives.trial_value import chosen, goal, reported

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "rule", "maximize", "expected"),
    [
        ([3.0, 1.0, 2.0], "last", False, (2.0, 3)),
        ([3.0, 1.0, 2.0], "best", False, (1.0, 2)),
        ([3.0, 1.0, 2.0], "best", True, (3.0, 1)),
        ([1.0, 1.0, 1.0], "best", True, (1.0, 1)),
        ([NAN, 2.0, math.inf], "best", True, (2.0, 2)),
        ([NAN, -math.inf], "best", False, None),
        ([], "last", False, None),
        ([], "best", True, None),
    ],
)
def test_report_is_chosen_by_the_rule(values, rule, maximize, expected) -> None:
    reports = reported({epoch: {"loss": value} for epoch, value in enumerate(values, 1)}, "loss")
    found = chosen(reports, rule, maximize=maximize)
    assert (found and (found.value, found.epoch)) == expected


def test_last_report_of_an_optuna_objective_is_that_of_its_last_step() -> None:
    steps = {1: 4.0, 2: 9.0, 3: 2.0, 4: 0.5}
    epochs = {epoch: {"value": 1.0 / epoch, "step": step} for epoch, step in steps.items()}
    found = chosen(reported(epochs, "value", own_steps=True), "last", maximize=False)
    assert found is not None
    assert (found.epoch, found.step) == (2, 9)
    found = chosen(reported(epochs, "value"), "last", maximize=False)
    assert found is not None
    assert (found.epoch, found.step) == (4, 4)


def test_epochs_without_the_metric_are_left_out() -> None:
    assert reported({2: {"loss": 1.0}, 1: {"accuracy": 0.5}}, "accuracy")[0].epoch == 1
    assert reported({1: {"loss": 1.0}}, "accuracy") == []


def test_goal_names_the_best_epoch() -> None:
    assert goal("minimize", "loss", "last") == "minimize loss"
    assert goal("maximize", "auc", "best") == "maximize auc, best epoch"
