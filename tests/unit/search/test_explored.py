"""Duplicates in open spaces: values after which something is left to try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpo.search.asking import Asking
from objectives.spaces.choices import categorical

KIND = categorical(["a", "b", None])
Ask = Callable[[str, BaseDistribution], Any]


def plain(ask: Ask) -> None:
    ask("kind", KIND)
    ask("n", IntDistribution(2, 6, step=2))


def branched(ask: Ask) -> None:
    if ask("kind", KIND) == "a" and ask("deep", categorical([True, False])):
        ask("x", FloatDistribution(0.0, 1.0, step=0.25))
    ask("n", IntDistribution(1, 2))


def endless(ask: Ask) -> None:
    if ask("kind", KIND) == "a":
        ask("x", FloatDistribution(0.0, 1.0))


class Study:
    """Trials of an objective that asks."""

    def __init__(self, sampler: optuna.samplers.BaseSampler, objective: Callable[[Ask], None]) -> None:
        self.study = optuna.create_study(sampler=sampler)
        self.asking = Asking(self.study, lambda: self.study)
        self.objective = objective

    def begin(self, **fixed: Any) -> tuple[optuna.Trial, dict[str, Any]]:
        """Begin a trial that has the values in `fixed`."""
        if fixed:
            self.study.enqueue_trial(fixed)
        trial = self.study.ask()
        params: dict[str, Any] = {}

        def ask(name: str, distribution: BaseDistribution) -> Any:
            found = self.asking.suggest(trial._trial_id, name, distribution)
            self.study._storage.set_trial_param(trial._trial_id, name, found.internal, distribution)
            params[name] = found.value
            return found.value

        self.objective(ask)
        return trial, params

    def train(self, state: TrialState = TrialState.COMPLETE, **fixed: Any) -> dict[str, Any]:
        trial, params = self.begin(**fixed)
        self.study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
        return params


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler, optuna.samplers.TPESampler])
@pytest.mark.parametrize(("objective", "number"), [(plain, 9), (branched, 2 * 2 + 2 + 5 * 2)])
def test_each_configuration_is_tried_once(
    objective: Callable[[Ask], None], number: int, sampler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    study = Study(sampler(seed=1), objective)
    with caplog.at_level("INFO"):
        found = [study.train() for _ in range(number)]
        assert len({repr(sorted(params.items())) for params in found}) == number
        assert not [text for text in caplog.messages if "are tried" in text]
        assert study.train() in found
        assert study.train() in found
    assert [text for text in caplog.messages if "are tried" in text] == [
        "all configurations that the objective asks for are tried, so further trials repeat some"
    ]


def test_failed_and_enqueued_configurations_are_tried_again() -> None:
    study = Study(optuna.samplers.RandomSampler(seed=1), plain)
    assert study.train(kind="b", n=4) == study.train(kind="b", n=4) == {"kind": "b", "n": 4}
    for kind in ("a", "b"):
        for n in (2, 4, 6):
            study.train(kind=kind, n=n)
    study.train(TrialState.FAIL, kind=None, n=2)
    assert len({repr(study.train()) for _ in range(3)}) == 3


def test_branch_with_a_continuous_parameter_has_no_end() -> None:
    study = Study(optuna.samplers.RandomSampler(seed=1), endless)
    found = [study.train() for _ in range(10)]
    assert [params["kind"] for params in found].count("b") == 1
    assert [params["kind"] for params in found].count(None) == 1


def test_configuration_of_a_running_trial_is_not_begun_again() -> None:
    study = Study(optuna.samplers.RandomSampler(seed=1), plain)
    found = []
    for _ in range(9):
        trial, params = study.begin()
        trial.report(0.5, 1)
        found.append(repr(params))
    assert len({*found}) == 9
