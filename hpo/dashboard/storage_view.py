"""The storage as the dashboard sees it: Optuna's studies with pictures of trials and a link to the report.

None of this is stored: pictures are drawn from the database on request, so every host shows the current state.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpo.dashboard.artifacts import Picture, artifact_id
from hpo.errors import HpoError
from storage.optuna_proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial, TrialState

    from hpo.dashboard.studies import OwnStudies

# Keys of optuna-dashboard in the system attributes of trials and studies.
_ARTIFACT = "artifacts:"
_NOTE_VERSION, _NOTE_TEXT = "dashboard:note_ver", "dashboard:note_str:0"


class ReadOnlyError(HpoError):
    """The dashboard is read-only and was asked to change a study."""


class StorageView(ForwardingStorage):
    """Reads from another storage and adds pictures and notes; writes only if allowed."""

    def __init__(self, storage: BaseStorage, own: OwnStudies, writable: bool) -> None:
        super().__init__(storage)
        self._own = own
        self._writable = writable

    # Reading.

    def get_all_studies(self) -> list[FrozenStudy]:
        names = self._own.names()
        return [
            _noted(study, names[study._study_id]) if study._study_id in names else study
            for study in self._storage.get_all_studies()
        ]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        name = self._own.names().get(study_id)
        attributes = self._storage.get_study_system_attrs(study_id)
        return attributes if name is None else _with_note(attributes, name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._storage.get_trial(trial_id)
        # The study is unknown here; requests for a missing picture get 404.
        return _illustrated(trial, (Picture.CURVES, Picture.CONFUSION))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy, states)
        if study_id not in self._own.names():
            return trials
        with_matrix = set(self._own.retrained(study_id))

        def pictures(trial: FrozenTrial) -> list[Picture]:
            available = {
                Picture.CURVES: bool(trial.intermediate_values),
                Picture.CONFUSION: trial.number in with_matrix,
            }
            return [picture for picture, exists in available.items() if exists]

        return [_illustrated(trial, pictures(trial)) for trial in trials]

    # Writing.

    def delete_study(self, study_id: int) -> None:
        self._to_write()
        self._own.delete(study_id)

    def _to_write(self) -> BaseStorage:
        if not self._writable:
            raise ReadOnlyError("the dashboard is read-only: restart it with --allow-changes")
        return self._storage


def _illustrated(trial: FrozenTrial, pictures: Sequence[Picture]) -> FrozenTrial:
    artifacts = {
        _ARTIFACT + name: json.dumps(
            {"artifact_id": name, "mimetype": "image/png", "encoding": None, "filename": picture.file_name}
        )
        for picture in pictures
        for name in [artifact_id(trial._trial_id, picture)]
    }
    # The storage caches its objects, so they must not be changed.
    shown = copy.copy(trial)
    shown._system_attrs = {**trial._system_attrs, **artifacts}
    return shown


def _noted(study: FrozenStudy, name: str) -> FrozenStudy:
    noted = copy.copy(study)
    noted.system_attrs = _with_note(study.system_attrs, name)
    return noted


def _with_note(attributes: dict[str, Any], study: str) -> dict[str, Any]:
    """Add a note with a link to the report, unless the study has a note."""
    if _NOTE_VERSION in attributes:
        return attributes
    text = f"[Report of this study](/reports/{quote(study, safe='')}/report.html)"
    return {**attributes, _NOTE_VERSION: 0, _NOTE_TEXT: text}
