"""Parameters of an open space, each sampled when the objective asks for it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from hpo.errors import HpoError
from hpo.search.explored import is_countable, tried, untried_value
from objectives.spaces.choices import find, identity
from storage.connection.retry import is_of_database
from storage.optuna.proxy import ForwardingStorage

log = logging.getLogger(__name__)

STARTING_ATTRIBUTE = "hpo_starting_point"
"""System attribute of a trial of an open space whose configuration is of an earlier study, and may not fit."""

QUIET: Mapping[str, Any] = {"over": "ignore", "invalid": "ignore"}
"""NumPy's settings for values near the largest float, whose differences are infinite."""


@dataclass(frozen=True)
class Suggestion:
    """A value that the sampler has proposed for a parameter."""

    value: Any
    """Value in its stored form."""
    internal: float
    """Value in Optuna's internal form."""


class Asking:
    """The trials of an agent that ask, each with the values that its sampler has drawn together."""

    def __init__(self, study: optuna.Study, at_random: Callable[[], optuna.Study]) -> None:
        """Use `at_random`, which returns a study whose sampler cannot fail."""
        self._study = study
        self._at_random = at_random
        self._trials: dict[int, optuna.Trial] = {}
        self._reported_tried = False

    def begin(self, trial_id: int) -> None:
        """Read a trial before its objective waits for its first parameter."""
        # A copy of the study, because it caches the trials that it read first.
        self._trials[trial_id] = unwritten(copy.copy(self._study), trial_id)

    def forget(self, trial_id: int) -> None:
        self._trials.pop(trial_id, None)

    def suggest(self, trial_id: int, name: str, distribution: BaseDistribution) -> Suggestion:
        """Return a value, which is not written."""
        if trial_id not in self._trials:
            self.begin(trial_id)
        try:
            return self._untried(self._trials[trial_id], name, distribution)
        except Exception as exc:
            if isinstance(exc, HpoError) or is_of_database(exc):
                raise
            reason = exc
        found = _suggestion(unwritten(self._at_random(), trial_id), name, distribution)
        log.warning(
            f"the sampler failed ({type(reason).__name__}: {reason}): a parameter is sampled at random"
        )
        return found

    def _untried(self, trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Suggestion:
        """Return a value that leads to a configuration which is not tried, as far as one is left."""
        before = dict(trial._cached_frozen_trial.params)
        found = _suggestion(trial, name, distribution)
        storage = trial.storage
        if not isinstance(storage, Unwritten) or name not in storage.internal or name in trial._fixed_params:
            # It was drawn earlier, or asked for.
            return found
        if not is_countable(distribution):
            return found
        # Read once for all parameters of the trial, as the sampler does.
        others = tried(trial.study._get_trials(deepcopy=False, use_cache=True), trial.number)
        value, left = untried_value(others, before, name, distribution, found.value, trial.number)
        if not left and not before and not self._reported_tried:
            self._reported_tried = True
            log.info(
                "all configurations that the objective asks for are tried, so further trials repeat some"
            )
        if identity(value) == identity(found.value):
            return found
        storage.internal[name] = distribution.to_internal_repr(value)
        trial._cached_frozen_trial.params[name] = value
        return Suggestion(value, storage.internal[name])


class Unwritten(ForwardingStorage):
    """A storage that keeps the parameters of one trial to itself."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        super().__init__(storage)
        self.internal: dict[str, float] = {}

    def set_trial_param(
        self,
        trial_id: int,  # noqa: ARG002 - it has one
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,  # noqa: ARG002 - the caller knows it
    ) -> None:
        self.internal[param_name] = param_value_internal


def unwritten(study: optuna.Study, trial_id: int) -> optuna.Trial:
    """Return a trial that keeps its new parameters to itself."""
    trial = optuna.Trial(study, trial_id)
    trial.storage = Unwritten(trial.storage)
    return trial


def _suggestion(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Suggestion:
    if STARTING_ATTRIBUTE in trial._cached_frozen_trial.system_attrs:
        _fit(trial, name, distribution)
    with np.errstate(**QUIET):
        value = suggested(trial, name, distribution)
    internal = trial.storage.internal.get(name) if isinstance(trial.storage, Unwritten) else None
    # Optuna has the value if it was drawn earlier.
    return Suggestion(value, distribution.to_internal_repr(value) if internal is None else internal)


def _fit(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    """Take a value of an earlier study as the distribution has it; one outside is left to the sampler."""
    fixed = {key: value for key, value in trial._fixed_params.items() if key != name}
    found = find(distribution, trial._fixed_params[name]) if name in trial._fixed_params else None
    trial._fixed_params = fixed if found is None else {**fixed, name: found[0]}


def suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Return the trial's value of a parameter, as the distribution declares it."""
    # Not `suggest_categorical`: it would build a distribution that takes 1 for True.
    return declared(distribution, trial._suggest(name, distribution))


def declared(distribution: BaseDistribution, value: Any) -> Any:
    """Return the choice of a distribution that is this value, or the value itself."""
    found = find(distribution, value)
    return value if found is None else found[0]
