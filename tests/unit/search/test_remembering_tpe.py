"""TPE that remembers finished trials proposes what Optuna's own TPE does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpo.search.remembering_tpe import Memory, RememberingTPESampler
from objectives.spaces.choices import categorical

SPACE: Mapping[str, BaseDistribution] = {
    "x": FloatDistribution(1e-4, 1.0, log=True),
    "n": IntDistribution(1, 9),
    "kind": categorical(["a", 1, True]),
}


def proposals(storage: InMemoryStorage, sampler: TPESampler) -> dict[str, Any]:
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    trial = study.ask()
    params = {name: trial._suggest(name, distribution) for name, distribution in SPACE.items()}
    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    return params


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("options", [{}, {"group": True, "multivariate": True}, {"multivariate": False}])
@pytest.mark.parametrize("changes", [False, True], ids=["one space", "changing spaces"])
def test_proposals_are_those_of_optuna(
    storage: InMemoryStorage, options: dict[str, Any], changes: bool
) -> None:
    """Among complete, pruned, failed and running trials, and where some lack a parameter or have another range."""
    options = {**options, "n_startup_trials": 5}
    memory = Memory()
    study = optuna.load_study(study_name="s", storage=storage)
    for number in range(24):
        space = dict(SPACE)
        if changes and number % 6 == 4:
            del space["n"]
        if changes and number == 13:
            space["x"] = FloatDistribution(1e-4, 2.0, log=True)
        trial = study.ask(space)
        trial.report(trial.params["x"], 1)
        state = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, None, TrialState.FAIL][
            number % 5
        ]
        if state is not None:
            storage.set_trial_state_values(
                trial._trial_id, state, [trial.params["x"]] if state is TrialState.COMPLETE else None
            )
        plain = proposals(storage, TPESampler(seed=number, **options))
        assert proposals(storage, RememberingTPESampler(memory, seed=number, **options)) == plain
