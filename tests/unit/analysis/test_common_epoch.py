from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from hpo.analysis.common_epoch import compare_trials


def history(*trials: tuple[str, list[float]]) -> Any:
    """Return a study of trials with ten epochs at most, by outcome and losses."""
    rows = [
        SimpleNamespace(number=number, state=state, epochs=len(losses), params={"x": 0.5})
        for number, (state, losses) in enumerate(trials)
    ]
    curves = {
        number: [SimpleNamespace(epoch=epoch, metrics={"loss": loss}) for epoch, loss in enumerate(losses, 1)]
        for number, (_, losses) in enumerate(trials)
    }
    study = SimpleNamespace(metric="loss", maximize=False, spec_json={"epochs": 10})
    space = {"x": FloatDistribution(0.0, 1.0)}
    return SimpleNamespace(study=study, space=space, trials=rows, curves=curves)


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
