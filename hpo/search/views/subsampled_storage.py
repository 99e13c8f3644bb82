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

from hpo.search.views.changed_trials import ChangedTrials
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
        self._changed = ChangedTrials(storage)
        self._forget()

    def _forget(self) -> None:
        self._trials = 0
        """Number of trials of the study."""
        self._every = 1
        self._sample: dict[int, FrozenTrial] = {}
        """Finished trials whose number is a multiple of `_every`, by number."""
        self._open: dict[int, FrozenTrial] = {}
        self._best: list[tuple[Rank, int, FrozenTrial]] = []

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy:
            # Samplers never ask for a copy.
            return self._storage.get_all_trials(study_id, deepcopy, states)
        self._update(study_id)
        best = {number: trial for _, number, trial in self._best} if self._every > 1 else {}
        shown = sorted({**self._sample, **best, **self._open}.items())
        return [trial for _, trial in shown if states is None or trial.state in states]

    def _update(self, study_id: int) -> None:
        trials, complete = self._changed.read(study_id)
        if not complete and any(
            not trial.state.is_finished() and self._was_closed(trial) for trial in trials
        ):
            # It was opened again, and may have been among the best.
            self._changed.restart()
            trials, complete = self._changed.read(study_id)
        if complete:
            self._forget()
        ended = []
        for trial in trials:
            number = trial.number
            self._trials = max(self._trials, number + 1)
            if not trial.state.is_finished():
                self._open[number] = trial
                continue
            self._open.pop(number, None)
            if number % self._every == 0:
                self._sample[number] = trial
            if trial.state != TrialState.FAIL:
                ended.append((rank(trial, self._sign), number, trial))
        # A trial that is read again replaces itself.
        again = {number for _, number, _ in ended}
        kept = [one for one in self._best if one[1] not in again]
        self._best = heapq.nsmallest(BEST, [*kept, *ended], key=lambda one: one[:2])
        self._thin_out()

    def _was_closed(self, trial: FrozenTrial) -> bool:
        return trial.number < self._trials and trial.number not in self._open

    def _thin_out(self) -> None:
        """Keep an even sample of at most `MOST` trials."""
        every = 2 ** max(0, math.ceil(math.log2(max(self._trials, 1) / MOST)))
        if every != self._every:
            self._every = every
            self._sample = {number: trial for number, trial in self._sample.items() if number % every == 0}


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
