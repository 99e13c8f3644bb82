"""`hpo enqueue`: a configuration, or a part of one, that is trained next."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState, create_trial

from hpo.errors import StudyConflictError
from hpo.search.open_overrides import open_configuration
from hpo.search.space_overrides import one_configuration
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study
from hpo.study.definition.twin import optuna_twin
from hpo.study.monitoring.status import study_status
from objectives.spaces.choices import identity

if TYPE_CHECKING:
    import optuna

    from storage.engine import Database

_ONCE = "hpo_enqueued"
"""User attribute of an enqueued trial: a random text by which it is found if the answer to its creation was lost."""


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """A trial that waits for a slot."""

    number: int
    params: Mapping[str, Any]
    """The given values; the sampler draws the others."""
    new: bool
    """Whether it was enqueued now; False: a trial with these values waits already."""
    unknown: tuple[str, ...]
    """Parameters that no trial of an open space has had."""
    left: int
    """Trials of the budget that have not finished; 0: the budget is spent."""


def enqueue(database: Database, study: str, overrides: Sequence[str]) -> Enqueued:
    """Enqueue one trial with values such as `lr=0.1`.

    Raises:
        UnknownStudyError: no study has that name.
        UnknownParameterError, InvalidParameterError: a value does not fit the study's space.
        StudyConflictError: the study is an experiment, or was deleted or changed with plain Optuna.
    """
    stored = find_study(database, study)
    spec = StudySpec.from_json(stored.spec_json)
    if spec.design is not None:
        raise StudyConflictError(
            f"study {study!r} is an experiment, whose runs are planned: add values with hpo ablate --study"
            f" {spec.design.study}"
        )
    if spec.open_space:
        params, unknown = open_configuration(spec.space, overrides)
    else:
        params, unknown = one_configuration(spec.space, overrides), []
    twin = optuna_twin(database, stored)
    waiting = {
        _key(trial): trial.number for trial in twin.get_trials(deepcopy=False, states=[TrialState.WAITING])
    }
    known = waiting.get(identity(params))
    number = _create(database, twin, params) if known is None else known
    status = study_status(database, study)
    return Enqueued(
        number=number,
        params=params,
        new=known is None,
        unknown=tuple(unknown),
        left=max(0, status.budget - status.finished),
    )


def _key(trial: optuna.trial.FrozenTrial) -> str | None:
    try:
        return identity(trial.system_attrs.get("fixed_params"))
    except ValueError:
        # Programs that use Optuna may enqueue anything.
        return None


def _create(database: Database, twin: optuna.Study, params: Mapping[str, Any]) -> int:
    """Create a waiting trial, once, and return its number."""
    mark = secrets.token_hex(8)
    template = create_trial(
        state=TrialState.WAITING, system_attrs={"fixed_params": dict(params)}, user_attrs={_ONCE: mark}
    )

    def once() -> int:
        for trial in twin.get_trials(deepcopy=False):
            if trial.user_attrs.get(_ONCE) == mark:
                return trial.number
        trial_id = database.optuna.create_new_trial(twin._study_id, template_trial=template)
        return database.optuna.get_trial_number_from_id(trial_id)

    return database.retried(once)
