"""Optuna's TPE, which remembers from proposal to proposal the parts of finished trials that it models.

Its proposals are those of Optuna's own: only what takes longer the more trials there are is done once for each trial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Row = tuple[float, ...]
"""Values of the modelled parameters in a trial, in Optuna's internal form."""


class Memory:
    """The spaces of finished trials, and their rows by the parameters that are modelled together."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}
        self._rows: dict[tuple[str, ...], dict[int, tuple[FrozenTrial, Row | None]]] = {}
        self._distinct: list[dict[str, BaseDistribution]] = []
        self._of_trials: dict[int, tuple[FrozenTrial, dict[str, BaseDistribution]]] = {}

    def space_of(self, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of a finished trial: the same object for all trials of equal ones."""
        seen, space = self._of_trials.get(trial.number, (None, {}))
        if seen is not trial:
            space = next((one for one in self._distinct if one == trial.distributions), trial.distributions)
            if space is trial.distributions:
                self._distinct.append(space)
            self._of_trials[trial.number] = trial, space
        return space

    def rows(self, space: dict[str, BaseDistribution]) -> dict[int, tuple[FrozenTrial, Row | None]]:
        """Return the rows that are known of a space, by number, each with its trial; None: it lacks a parameter."""
        names = tuple(space)
        if self._spaces.get(names) != space:
            self._spaces[names], self._rows[names] = dict(space), {}
        return self._rows[names]


class _RememberedSpace(IntersectionSearchSpace):
    """The parameters that all trials share, whose distributions are compared once for each trial."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(include_pruned=True)
        self._memory = memory

    def calculate(self, study: Study, use_cache: bool = False) -> dict[str, BaseDistribution]:
        spaces = {
            id(space): space
            for trial in study._get_trials(deepcopy=False, use_cache=use_cache)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            for space in [self._memory.space_of(trial)]
        }
        found, *others = spaces.values() or [{}]
        for space in others:
            found = {name: one for name, one in found.items() if space.get(name) == one}
        return dict(sorted(found.items()))


class RememberingTPESampler(TPESampler):
    """TPE with a memory that outlives it."""

    def __init__(self, memory: Memory, **options: Any) -> None:
        super().__init__(**options)
        self._memory = memory
        self._search_space = _RememberedSpace(memory)

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, np.ndarray]:
        known = self._memory.rows(search_space)
        rows: list[Row] = []
        for trial in trials:
            seen, row = known.get(trial.number, (None, None))
            if seen is not trial:
                row = self._row(trial, search_space, study)
                if trial.state.is_finished():
                    known[trial.number] = trial, row
            if row is not None:
                rows.append(row)
        values = np.array(rows, dtype=float).reshape(len(rows), len(search_space))
        return {name: values[:, place] for place, name in enumerate(search_space)}

    def _row(self, trial: FrozenTrial, search_space: dict[str, BaseDistribution], study: Study) -> Row | None:
        params = self._get_params(trial, study)
        if not search_space.keys() <= params.keys():
            return None
        return tuple(one.to_internal_repr(params[name]) for name, one in search_space.items())
