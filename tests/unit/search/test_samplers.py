"""Samplers built from a spec."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "qmc"])
def test_sampler_is_seeded_by_study_and_trial(name: str) -> None:
    def values(seed: int) -> list[float]:
        study = optuna.create_study(sampler=build_sampler(replace(SPEC, sampler=name, seed=seed)))
        return [study.ask(SPACE).params["x"] for _ in range(3)]

    assert values(1) == values(1)
    assert len({*values(1), *values(2)}) == 6


def test_gp_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hpo-service\[gp\]'"):
        build_sampler(replace(SPEC, sampler="gp"))
