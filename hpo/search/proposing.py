"""Proposals of a sampler for all parameters of a trial, which reads the study once and writes nothing."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.samplers._tpe.sampler import _RELATIVE_PARAMS_KEY
from optuna.trial import TrialState

from hpo.search.asking import unwritten
from objectives.base import Params
from storage.optuna.proxy import ForwardingStorage

if TYPE_CHECKING:
    from typing import Any

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Proposal:
    """A configuration for a trial."""

    params: Params
    """Values of all active parameters."""
    unwritten: Mapping[str, float]
    """Values that the trial does not have yet, in Optuna's internal form."""


class _ReadOnce(ForwardingStorage):
    """A storage of one study that keeps the trials it has read: TPE reads them for each of its steps."""

    def __init__(self, storage: BaseStorage, known: FrozenTrial | None) -> None:
        super().__init__(storage)
        self._known = known
        self._trials: list[FrozenTrial] | None = None

    def get_trial(self, trial_id: int) -> FrozenTrial:
        known = self._known
        return (
            known if known is not None and known._trial_id == trial_id else self._storage.get_trial(trial_id)
        )

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy:
            return self._storage.get_all_trials(study_id, deepcopy, states)
        if self._trials is None:
            self._trials = self._storage.get_all_trials(study_id, deepcopy=False)
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        # TPE shows its choice to other processes until the parameters are written, which is at once.
        if not key.startswith(_RELATIVE_PARAMS_KEY):
            self._storage.set_trial_system_attr(trial_id, key, value)


def proposing(study: optuna.Study, trial_id: int, known: FrozenTrial | None = None) -> optuna.Trial:
    """Return a trial for the parameters that a sampler proposes now; it need not be read if it is `known`."""
    # A copy of the study, because it caches the trials that it read first.
    view = copy.copy(study)
    view._storage = _ReadOnce(study._storage, copy.deepcopy(known))
    return unwritten(view, trial_id)
