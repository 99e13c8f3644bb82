"""A study of very many trials as its sampler sees it: so many that one more makes no difference are left out.

TPE models the best 25 trials, and all others, each by a density with one kernel for every trial; to propose a trial it
passes over all of them several times. From thousands of others, an even sample says the same of their density.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage.optuna_proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

MOST = 1000
"""Trials that are all seen; of more, at most so many beside the best and the open ones."""
BEST = 25
"""Of the best, that are always seen: as many as TPE ever counts among the good ones (Optuna's `default_gamma`)."""

Rank = tuple[int, float, float]


class SubsampledStorage(ForwardingStorage):
    """Another storage, of one study, whose finished trials beyond `MOST` are seen only in part.

    Which ones is decided by a trial's number alone, so that all agents see the same.
    """

    def __init__(self, storage: BaseStorage, direction: StudyDirection) -> None:
        super().__init__(storage)
        self._sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        self._finished: set[int] = set()
        self._best: list[tuple[Rank, int]] = []

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy:
            # Not for a sampler.
            return super().get_all_trials(study_id, deepcopy, states)
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        if len(trials) > MOST:
            trials = self._thinned(trials)
        return trials if states is None else [trial for trial in trials if trial.state in states]

    def _thinned(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        self._look_at([trial for trial in trials if trial.number not in self._finished])
        every = 2 ** math.ceil(math.log2(len(trials) / MOST))
        best = {number for _, number in self._best}
        return [
            trial
            for trial in trials
            if (number := trial.number) % every == 0 or number in best or number not in self._finished
        ]

    def _look_at(self, trials: list[FrozenTrial]) -> None:
        finished = [trial for trial in trials if trial.state.is_finished()]
        self._finished.update(trial.number for trial in finished)
        ranked = [
            (_rank(trial, self._sign), trial.number) for trial in finished if trial.state != TrialState.FAIL
        ]
        self._best = heapq.nsmallest(BEST, [*self._best, *ranked])


def _rank(trial: FrozenTrial, sign: float) -> Rank:
    """As TPE ranks: by value if complete, then the pruned by how far they came and how good they were there."""
    infeasible = sum(value for value in trial.constraints.values() if value > 0)
    if infeasible > 0:
        return 2, infeasible, 0.0
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return 0, 0.0, sign * trial.value
    if not trial.intermediate_values:
        return 1, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1, float(-step), math.inf if math.isnan(value) else sign * value
