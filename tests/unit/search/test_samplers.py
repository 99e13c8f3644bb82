from __future__ import annotations

import warnings
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import FloatDistribution

from hpo.errors import MissingDependencyError
from hpo.search import samplers
from hpo.search.samplers import build_pruner, build_sampler, startup_trials
from hpo.search.spec import PRUNERS, SAMPLERS, StudySpec

SPACE = {"x": FloatDistribution(0.0, 1.0)}
SPEC = StudySpec("q", "loss", "minimize", 9, SPACE, SPACE)


@pytest.mark.parametrize(("trials", "startup"), [(1, 4), (12, 4), (20, 5), (40, 10), (1000, 10)])
def test_a_quarter_of_the_trials_is_random(trials: int, startup: int) -> None:
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
def test_every_sampler_is_seeded_by_study_and_agent(name: str, sampler: type) -> None:
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


def test_gp_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hpo-service\[gp\]'"):
        build_sampler(replace(SPEC, sampler="gp"), 0)


def test_every_name_builds() -> None:
    assert set(SAMPLERS) == {"tpe", "random", "gp", "cmaes", "qmc"}
    for pruner in PRUNERS:
        for epochs in (1, 2, 3, 9, 200):
            assert isinstance(
                build_pruner(replace(SPEC, pruner=pruner, epochs=epochs)), optuna.pruners.BasePruner
            )


@pytest.mark.parametrize(
    ("pruner", "epoch", "pruned"),
    [
        ("none", 8, False),
        ("median", 2, False),
        ("median", 3, True),
        ("asha", 1, True),
        ("hyperband", 8, True),
    ],
)
def test_when_a_hopeless_trial_is_given_up(pruner: str, epoch: int, pruned: bool) -> None:
    study = optuna.create_study(study_name="s", pruner=build_pruner(replace(SPEC, pruner=pruner, startup=4)))
    for _ in range(12):
        good = study.ask(SPACE)
        for step in range(1, 10):
            good.report(1.0 / step, step)
            good.should_prune()
        study.tell(good, 1.0 / 9)
    answers = []
    # Several, for Hyperband spreads them over brackets, one of which prunes nothing.
    for _ in range(6):
        hopeless = study.ask(SPACE)
        for step in range(1, epoch + 1):
            hopeless.report(1000.0, step)
            answers.append(hopeless.should_prune())
    assert any(answers) == pruned
