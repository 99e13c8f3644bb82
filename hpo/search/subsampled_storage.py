"""A view of a study with very many trials for its sampler, which leaves out some of the trials.

TPE models the best 25 trials and all others by two densities with one kernel per trial, and passes over all trials
several times for each proposal. An even sample of thousands of others gives nearly the same density.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage.optuna.proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

MOST = 1000
"""Number of trials that are all visible; of more, at most this many plus the best and the open ones."""
BEST = 25
"""Number of best trials that are always visible: the most that TPE counts as good (Optuna's `default_gamma`)."""

Rank = tuple[int, float, float]


class SubsampledStorage(ForwardingStorage):
    """A storage of one study that shows only a part of its finished trials beyond `MOST`.

    A trial's number decides whether it is shown, so that all agents see the same trials.
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
            # Samplers never ask for a copy.
            return self._storage.get_all_trials(study_id, deepcopy, states)
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        if len(trials) > MOST:
            trials = self._subsampled(trials)
        return trials if states is None else [trial for trial in trials if trial.state in states]

    def _subsampled(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        self._update([trial for trial in trials if trial.number not in self._finished])
        every = 2 ** math.ceil(math.log2(len(trials) / MOST))
        best = {number for _, number in self._best}
        return [
            trial
            for trial in trials
            if (number := trial.number) % every == 0 or number in best or number not in self._finished
        ]

    def _update(self, trials: list[FrozenTrial]) -> None:
        finished = [trial for trial in trials if trial.state.is_finished()]
        self._finished.update(trial.number for trial in finished)
        ranked = [
            (rank(trial, self._sign), trial.number) for trial in finished if trial.state != TrialState.FAIL
        ]
        self._best = heapq.nsmallest(BEST, [*self._best, *ranked])


def rank(trial: FrozenTrial, sign: float, objective: int = 0) -> Rank:
    """Return the rank that TPE gives a trial: complete ones by value, then pruned ones by their last step and value."""
    infeasible = sum(value for value in trial.constraints.values() if value > 0)
    if infeasible > 0:
        return 2, infeasible, 0.0
    if trial.state == TrialState.COMPLETE:
        assert trial.values is not None
        return 0, 0.0, sign * trial.values[objective]
    if not trial.intermediate_values:
        return 1, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1, float(-step), math.inf if math.isnan(value) else sign * value
