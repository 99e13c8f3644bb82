"""A stored CMA-ES state continues the search, and runs no code of its author."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import optuna
import pytest

from hpo.search.cmaes_state import StoredCmaEsSampler


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> object:
        return os.mkdir, (self.path,)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", -1, 1) ** 2


def test_state_is_continued_from_the_storage(caplog: pytest.LogCaptureFixture) -> None:
    studies = []
    for again in (optuna.samplers.CmaEsSampler, StoredCmaEsSampler):
        study = optuna.create_study(sampler=again(seed=1, n_startup_trials=2))
        study.optimize(objective, n_trials=15)
        study.sampler = again(seed=2, n_startup_trials=2)
        study.optimize(objective, n_trials=15)
        studies.append([trial.params for trial in study.trials])
    assert studies[0] == studies[1]
    assert caplog.records == [one for one in caplog.records if one.levelno < logging.WARNING]


def test_state_of_other_classes_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sampler = StoredCmaEsSampler(seed=1, n_startup_trials=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=3)
    victim = tmp_path / "made"
    state = pickle.dumps(Malicious(victim)).hex()
    trial = study.ask()
    objective(trial)
    study._storage.set_trial_system_attr(trial._trial_id, f"{sampler._attr_key_optimizer}:0", state)
    study.tell(trial, 0.5)
    study.optimize(objective, n_trials=2)
    assert not victim.exists()
    assert "is ignored" in caplog.text
