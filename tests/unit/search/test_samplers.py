"""Samplers built from a spec."""

from __future__ import annotations

import warnings
from dataclasses import replace

import optuna
import pytest

from hpo.errors import MissingDependencyError
from hpo.search import samplers
from hpo.search.samplers import build_sampler, startup_trials
from tests.specs import SPACE, spec

SPEC = spec(epochs=9)


@pytest.mark.parametrize(("trials", "startup"), [(1, 4), (12, 4), (20, 5), (40, 10), (1000, 10)])
def test_quarter_of_small_budget_is_random(trials: int, startup: int) -> None:
    assert startup_trials(trials) == startup


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("random", optuna.samplers.RandomSampler),
        ("cmaes", optuna.samplers.CmaEsSampler),
        ("qmc", optuna.samplers.QMCSampler),
    ],
)
def test_sampler_is_seeded_by_study_and_agent(name: str, sampler: type) -> None:
    def first(seed: int, agent: int) -> float:
        built = build_sampler(replace(SPEC, sampler=name, seed=seed), agent)
        assert isinstance(built, sampler)
        study = optuna.create_study(sampler=built)
        return study.ask(SPACE).params["x"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        assert first(1, 0) == first(1, 0)
        if name != "qmc":
            # Its agents draw from one sequence, kept in the study.
            assert first(1, 0) != first(1, 1)
            assert first(1, 0) != first(2, 0)


def test_gp_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hpo-service\[gp\]'"):
        build_sampler(replace(SPEC, sampler="gp"), 0)
