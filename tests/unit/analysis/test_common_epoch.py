from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from hpo.analysis.common_epoch import compare_trials
from hpo.study.history import StudyHistory


def history(*trials: tuple[str, list[float]], rule: str = "last") -> Any:
    """Return a study of trials with ten epochs at most, by outcome and losses."""
    rows = [
        SimpleNamespace(number=number, state=state, epochs=len(losses), params={"x": 0.5})
        for number, (state, losses) in enumerate(trials)
    ]
    curves = {
        number: [SimpleNamespace(epoch=epoch, metrics={"loss": loss}) for epoch, loss in enumerate(losses, 1)]
        for number, (_, losses) in enumerate(trials)
    }
    study = SimpleNamespace(metric="loss", maximize=False, spec_json={"epochs": 10}, value_rule=rule)
    space = {"x": FloatDistribution(0.0, 1.0)}
    found = SimpleNamespace(study=study, space=space, trials=rows, curves=curves)
    found.judged = partial(StudyHistory.judged, found)
    return found


@pytest.mark.parametrize(
    ("trials", "epoch", "values"),
    [
        (
            [("complete", [9.0] * 9 + [1.0]), ("complete", [5.0, 2.0]), ("complete", [3.0])],
            10,
            [1.0, 2.0, 3.0],
        ),
        ([("complete", [4.0] * 10), ("complete", [3.0]), ("pruned", [6.0, 5.0, 7.0])], 3, [4.0, 3.0, 7.0]),
        ([("complete", [4.0] * 10)] * 18 + [("pruned", [5.0])], 10, [4.0] * 18),
    ],
    ids=["own lengths", "next to a pruned one", "a pruned one is left out"],
)
def test_trial_that_ended_itself_is_compared_by_its_last_value(
    trials: list[tuple[str, list[float]]], epoch: int, values: list[float]
) -> None:
    found = compare_trials(history(*trials))
    assert found.epoch == epoch
    assert [one.value for one in found.trials] == values


def test_trials_that_count_by_their_best_epoch_are_compared_by_it() -> None:
    trials = [("complete", [4.0, 2.0, 6.0, 1.0]), ("complete", [3.0]), ("pruned", [6.0, 5.0, 7.0])]
    found = compare_trials(history(*trials, rule="best"))
    assert [one.value for one in found.trials] == [2.0, 3.0, 5.0]
    assert found.subject == "best loss up to epoch 3"
    assert found.describe() == (
        "3 trials compared by their best value up to epoch 3 of 10, which nearly all trials reached."
    )
