"""The storage as the dashboard sees it: Optuna's studies with pictures of trials and a link to the report.

None of this is stored: pictures are drawn from the database on request, so every host shows the current state.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bottle import HTTPError
from optuna.distributions import CategoricalDistribution

from hpo.dashboard.artifacts import Picture, artifact_id
from hpo.errors import HpoError
from hpo.formatting import in_order, printable
from hpo.search.choice_text import label, labels
from hpo.study.results.trials import OPEN, PAUSED, WAITING
from storage.optuna.proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial, TrialState

    from hpo.dashboard.studies import Facts, OwnStudies

# Keys of optuna-dashboard in the system attributes of trials and studies.
_ARTIFACT = "artifacts:"
_METRIC_NAMES = "study:metric_names"
_NOTE_OF_TRIAL = re.compile(r"dashboard:(\d+):")
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
        names, facts = self._own.names(), self._own.facts()
        return [
            _noted(study, name, facts.get(name))
            if (name := names.get(study._study_id)) is not None
            else study
            for study in self._storage.get_all_studies()
        ]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        with _found():
            attributes = self._storage.get_study_user_attrs(study_id)
        facts = self._own.facts().get(self._own.names().get(study_id, ""))
        return attributes if facts is None else {**facts.attributes, **attributes}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        name = self._own.names().get(study_id)
        with _found():
            attributes = self._storage.get_study_system_attrs(study_id)
        return attributes if name is None else _with_note(attributes, name, self._own.facts().get(name))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with _found():
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
        shown_states, order = self._own.states(study_id), self._own.parameters(study_id)

        def pictures(trial: FrozenTrial) -> list[Picture]:
            available = {
                Picture.CURVES: bool(trial.intermediate_values),
                Picture.CONFUSION: trial.number in with_matrix,
            }
            return [picture for picture, exists in available.items() if exists]

        return [
            _illustrated(trial, pictures(trial), *shown_states.get(trial._trial_id, ("", "")), order)
            for trial in trials
        ]

    # Writing.

    def delete_study(self, study_id: int) -> None:
        self._to_write()
        with _found():
            self._own.delete(study_id)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        trial = _NOTE_OF_TRIAL.match(key)
        with _found():
            known = self._storage.get_all_trials(study_id, deepcopy=False) if trial else ()
            if trial and int(trial[1]) not in {one._trial_id for one in known}:
                raise KeyError(trial[1])
        self._to_write().set_study_system_attr(study_id, key, value)

    def _to_write(self) -> BaseStorage:
        if not self._writable:
            raise ReadOnlyError("the dashboard is read-only: restart it with --allow-changes")
        return self._storage


@contextmanager
def _found() -> Iterator[None]:
    """Answer requests for studies and trials that do not exist as such: the dashboard takes the error for a bug."""
    try:
        yield
    except KeyError as error:
        raise HTTPError(404, "there is no such study or trial") from error


def _illustrated(
    trial: FrozenTrial,
    pictures: Sequence[Picture],
    state: str = "",
    error: str = "",
    order: Sequence[str] = (),
) -> FrozenTrial:
    """Return the trial with pictures, and with outcome and error if it ended without completing.

    Optuna takes a trial that waits for a slot or is paused for a running one. `order` is that of the parameters.
    """
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
    if state in (WAITING, PAUSED) and trial.state.name == "RUNNING":
        shown.state = type(trial.state).WAITING
    reasons = {} if state in OPEN else {"outcome": state, "error": error}
    shown._user_attrs = {
        **trial._user_attrs,
        **{key: printable(text) for key, text in reasons.items() if text},
    }
    _name_choices(shown)
    shown.params = in_order(shown.params, order)
    return shown


def _name_choices(trial: FrozenTrial) -> None:
    """Replace choices that are lists or dicts by texts: Optuna's importances need hashable ones."""
    distributions, params = dict(trial.distributions), dict(trial.params)
    for name, distribution in trial.distributions.items():
        if isinstance(distribution, CategoricalDistribution) and any(
            isinstance(choice, list | dict) for choice in distribution.choices
        ):
            texts = labels(distribution)
            distributions[name] = CategoricalDistribution(texts)
            params[name] = label(distribution, trial.params[name])
    trial.params, trial.distributions = params, distributions


def _noted(study: FrozenStudy, name: str, facts: Facts | None) -> FrozenStudy:
    noted = copy.copy(study)
    noted.system_attrs = _with_note(study.system_attrs, name, facts)
    if facts is not None:
        noted.user_attrs = {**facts.attributes, **study.user_attrs}
    return noted


def _with_note(attributes: dict[str, Any], study: str, facts: Facts | None) -> dict[str, Any]:
    """Add the metric's name, and a note with a link to the report, unless the study has its own."""
    if facts is not None:
        attributes = {_METRIC_NAMES: [facts.metric], **attributes}
    if _NOTE_VERSION in attributes:
        return attributes
    text = f"[Report of this study](/reports/{quote(study, safe='')}/report.html)"
    return {**attributes, _NOTE_VERSION: 0, _NOTE_TEXT: text}
