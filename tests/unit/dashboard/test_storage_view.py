"""The dashboard gets trials in a form that its charts can show."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpo.dashboard.storage_view import _illustrated
from objectives.spaces.choices import categorical


def test_choices_that_are_lists_are_shown_as_texts() -> None:
    space: dict[str, Any] = {"kernel": categorical([[3, 3], [5, 5], None]), "x": FloatDistribution(0, 1)}
    choices = space["kernel"].choices
    trials = [
        create_trial(params={"kernel": choices[n % 3], "x": n / 12}, distributions=space, value=n % 3)
        for n in range(12)
    ]
    shown = [_illustrated(trial, ()) for trial in trials]
    assert [trial.params["kernel"] for trial in shown[:3]] == ["[3, 3]", "[5, 5]", "None"]
    assert trials[0].params["kernel"] == [3, 3]
    study = optuna.create_study()
    study.add_trials(shown)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    assert optuna.importance.get_param_importances(study, evaluator=evaluator).keys() == space.keys()


def test_parameters_follow_the_order_of_the_space() -> None:
    space = {name: FloatDistribution(0, 1) for name in "abc"}
    trial = create_trial(params=dict.fromkeys(space, 0.5), distributions=space, value=0.0)
    assert list(_illustrated(trial, (), order="cbax").params) == ["c", "b", "a"]
    assert list(trial.params) == ["a", "b", "c"]
