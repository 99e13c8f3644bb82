"""Trials of a contestant in an Optuna study in memory, and the sampler that proposes them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from objectives.base import Direction
from storage.optuna.proxy import ForwardingStorage

View = Callable[[list[FrozenTrial]], list[FrozenTrial]]
"""Function that returns the trials as a sampler shall see them."""


class Trials:
    """The trials of one search."""

    def __init__(
        self,
        *,
        space: Mapping[str, BaseDistribution],
        direction: Direction,
        sampler: BaseSampler,
        first: Mapping[str, Any],
        name: str,
        pruner: BasePruner | None = None,
    ) -> None:
        """`first` is tried first; `name` is that of the study, on which Optuna's Hyperband builds its brackets."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._first, self._sampler = space, first, sampler
        self.pruner = pruner or NopPruner()
        self._storage = InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._storage, sampler=sampler, pruner=self.pruner, direction=direction, study_name=name
        )
        self._shown = self.study
        self._ids: list[int] = []

    def show_as(self, view: View) -> None:
        """Let the sampler see the trials through a view."""
        self._shown = optuna.load_study(
            study_name=self.study.study_name,
            storage=_View(self._storage, view),
            sampler=self._sampler,
            pruner=self.pruner,
        )

    def propose(self) -> Mapping[str, Any]:
        """Begin a trial and return the sampler's proposal for it."""
        self._ids.append(self._storage.create_new_trial(self.study._study_id))
        if len(self._ids) == 1 and self._first:
            return self._first
        # As `Study.ask` does: it would keep the trials that it read first.
        self._shown._thread_local.cached_all_trials = None
        trial = self._storage.get_trial(self._ids[-1])
        study = optuna.pruners._filter_study(self._shown, trial)
        self._sampler.before_trial(study, trial)
        relative = self._sampler.infer_relative_search_space(study, trial)
        values = self._sampler.sample_relative(study, trial, relative)
        return {
            name: values[name]
            if name in values
            else self._sampler.sample_independent(study, trial, name, dist)
            for name, dist in self._space.items()
        }

    def start(self, params: Mapping[str, Any]) -> None:
        """Store the configuration that the new trial trains."""
        for name, dist in self._space.items():
            internal = dist.to_internal_repr(params[name])
            self._storage.set_trial_param(self._ids[-1], name, internal, dist)

    def report(self, number: int, epoch: int, value: float) -> None:
        self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)

    def should_stop(self, number: int) -> bool:
        """Return the pruner's decision."""
        trial = self._storage.get_trial(self._ids[number])
        return self.pruner.prune(optuna.pruners._filter_study(self.study, trial), trial)

    def end(self, number: int, state: Literal["complete", "pruned"], value: float) -> None:
        self._storage.set_trial_state_values(self._ids[number], TrialState[state.upper()], [value])


class _View(ForwardingStorage):
    """A storage that changes how trials appear."""

    def __init__(self, storage: InMemoryStorage, view: View) -> None:
        super().__init__(storage)
        self._view = view

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        shown = self._view(self._storage.get_all_trials(study_id, deepcopy=deepcopy))
        return shown if states is None else [trial for trial in shown if trial.state in states]
