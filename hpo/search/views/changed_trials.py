"""The trials of a study that may have changed since they were last read, so that a large study is passed over once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna.storages._cached_storage import _CachedStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


class ChangedTrials:
    """Reads a study through Optuna's cache, which reads open trials and new ones from the database."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._seen = 0
        """Number of trials that have been read."""
        self._open: set[int] = set()
        """Numbers of trials that were open when they were last read: others read through the same cache."""

    def read(self, study_id: int) -> tuple[list[FrozenTrial], bool]:
        """Return the trials that may have changed since the last call, and whether these are all of the study.

        Without a cache, they always are.
        """
        cache = self._storage
        if not isinstance(cache, _CachedStorage):
            return cache.get_all_trials(study_id, deepcopy=False), True
        known = cache._studies.get(study_id)
        with cache._lock:
            # Also trials that were closed, and have been opened since.
            reread = set() if known is None else set(known.unfinished_trial_ids)
        cache._read_trials_from_remote_storage(study_id)
        with cache._lock:
            trials = cache._studies[study_id].trials
            complete = self._seen == 0
            # The cache keeps trials in the order in which it first read them; their numbers may have gaps.
            new = islice(trials, self._seen, None)
            changed = {cache._trial_id_to_study_id_and_number[trial_id][1] for trial_id in reread}
            found = [trials[number] for number in sorted({*changed, *self._open, *new})]
            self._seen = len(trials)
        self._open = {trial.number for trial in found if not trial.state.is_finished()}
        return found, complete

    def restart(self) -> None:
        """Return all trials at the next call."""
        self._seen = 0
