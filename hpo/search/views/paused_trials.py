"""A view of a study for its sampler, in which trials that freeze-thaw has paused count as pruned.

In Optuna a paused trial stays open, because a closed one can never go on; but samplers take nothing from open trials.
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpo.search.freeze_thaw import FreezeThaw
from hpo.search.views.subsampled_storage import BEST, MOST, rank
from storage.optuna.proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


class PausedTrials(ForwardingStorage):
    """A storage of one study that shows paused trials as its rule says, and of very many only a part."""

    def __init__(
        self,
        storage: BaseStorage,
        cache: BaseStorage,
        direction: StudyDirection,
        rule: FreezeThaw,
        read_paused: Callable[[], Mapping[int, int]],
    ) -> None:
        """`read_paused` returns the epochs at which trials are paused, by their ids, as the database has them now.

        `cache` is Optuna's storage below `storage`, which reads every open trial again each time.
        """
        super().__init__(storage)
        self._cache = cache if isinstance(cache, _CachedStorage) else None
        self._sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        self._rule = rule
        self._read_paused = read_paused
        self._shown: dict[int, tuple[int, FrozenTrial]] = {}
        """Epoch at which each trial was last seen paused, with the trial as it is shown, by its id."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy:
            # Samplers never ask for a copy.
            return self._storage.get_all_trials(study_id, deepcopy, states)
        # Before the trials: one that is thawed meanwhile is shown as it was.
        paused = self._read_paused()
        self._leave_unread(study_id, paused)
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        shown = self._subsampled([self._as_shown(trial, paused) for trial in trials], paused)
        return shown if states is None else [trial for trial in shown if trial.state in states]

    def _leave_unread(self, study_id: int, paused: Mapping[int, int]) -> None:
        """Let Optuna's cache read no trial again that is paused where it was, and all that were thawed."""
        known = {trial_id for trial_id, (epoch, _) in self._shown.items() if paused.get(trial_id) == epoch}
        thawed = self._shown.keys() - known
        if self._cache is not None and study_id in self._cache._studies:
            with self._cache._lock:
                unread = self._cache._studies[study_id].unfinished_trial_ids
                unread -= known
                unread |= thawed
        for trial_id in thawed:
            del self._shown[trial_id]

    def _as_shown(self, trial: FrozenTrial, paused: Mapping[int, int]) -> FrozenTrial:
        trial_id = trial._trial_id
        if trial_id not in paused or trial.state != TrialState.RUNNING:
            return trial
        if trial_id not in self._shown:
            shown = trial
            if self._rule.shows(paused[trial_id]):
                shown = copy.copy(trial)
                shown.state = TrialState.PRUNED
            self._shown[trial_id] = paused[trial_id], shown
        return self._shown[trial_id][1]

    def _subsampled(self, trials: list[FrozenTrial], paused: Mapping[int, int]) -> list[FrozenTrial]:
        if len(paused) <= MOST:
            return trials
        every = 2 ** math.ceil(math.log2(len(paused) / MOST))
        ranked = ((rank(shown, self._sign), trial_id) for trial_id, (_, shown) in self._shown.items())
        best = {trial_id for _, trial_id in heapq.nsmallest(BEST, ranked)}
        return [
            trial
            for trial in trials
            if (trial_id := trial._trial_id) not in self._shown
            or trial_id in best
            or trial.number % every == 0
        ]
