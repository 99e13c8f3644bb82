"""Create a study with its spec, or check that a request fits the existing study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from sqlalchemy import Connection

from hpo.errors import StudyConflictError
from hpo.options import LaunchDefaults, LaunchRequest
from hpo.search.optuna_study import known_good_parts
from hpo.search.samplers import startup_trials
from hpo.search.space_changes import with_space
from hpo.search.space_overrides import narrow_space
from hpo.search.spec import StudySpec
from objectives.base import DataOptions, Description
from storage import budget, studies
from storage.engine import Database
from storage.studies import StoredStudy


@dataclass(frozen=True, kw_only=True)
class LaunchedStudy(StoredStudy):
    """A stored study with its parsed spec and its progress, as a launch or an agent finds it."""

    spec: StudySpec
    finished: int
    open: int
    """Trials that were started and have no outcome yet."""
    begun: bool
    """Whether it has trials, with which later ones must stay comparable, or an agent about to start one."""


def find(database: Database, name: str) -> LaunchedStudy | None:
    """Return the study of that name, or None."""

    def read(c: Connection) -> LaunchedStudy | None:
        study = studies.find(c, name)
        if study is None:
            return None
        progress = studies.progress(c, study.study_id)
        return LaunchedStudy(
            **vars(study),
            spec=StudySpec.from_json(study.spec_json),
            finished=progress.finished,
            open=progress.open,
            begun=progress.trials > 0 or progress.has_agents,
        )

    return database.transaction(read)


def data_options(request: LaunchRequest, existing: LaunchedStudy | None) -> DataOptions:
    """Return the part of the data that the study trains on; each host has its own data folder."""
    if existing is not None and (existing.begun or request.limit is None):
        return existing.spec.data
    return DataOptions(limit=request.limit)


def create_or_continue(
    database: Database,
    request: LaunchRequest,
    reference: str,
    description: Description,
    existing: LaunchedStudy | None,
) -> LaunchedStudy:
    """Create the requested study, or continue it with the requested budget.

    With `--no-run`, a paused or stopped study stays so.

    Raises:
        StudyConflictError: the study exists with other options or another search space.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    existing = existing or _create(database, request, reference, description)
    while True:
        spec = _agreed_spec(database, existing, request, reference, description)
        kept = _update(database, existing, spec, request.trials, resume=request.run)
        if kept is not None:
            return replace(
                existing,
                spec=spec,
                budget=kept,
                desired_state="run" if request.run else existing.desired_state,
            )
        # Another launch has changed the study since it was read: check the request against the new state.
        found = find(database, request.study)
        if found is None:
            raise StudyConflictError(
                f"study {request.study!r} was deleted meanwhile: run the same command again"
            )
        existing = found


def _agreed_spec(
    database: Database,
    existing: LaunchedStudy,
    request: LaunchRequest,
    reference: str,
    description: Description,
) -> StudySpec:
    """Return the spec that the study and the request agree on."""
    try:
        spec = with_space(database, existing.study_id, existing.spec, request, description)
        check_options(existing, request, reference)
    except StudyConflictError:
        if existing.begun or existing.spec.direction != description.direction:
            raise
        # A launch failed before its first trial, so no trial has to stay comparable.
        spec = _new_spec(_with_stored(request, existing.spec, reference), reference, description)
    return replace(
        spec,
        startup=startup_trials(request.trials or existing.budget),
        max_failed=request.max_failed or spec.max_failed,
        max_lost=request.max_lost or spec.max_lost,
        checkpoint_quota_bytes=request.checkpoint_quota_bytes or spec.checkpoint_quota_bytes,
    )


def _create(
    database: Database, request: LaunchRequest, reference: str, description: Description
) -> LaunchedStudy:
    spec = _new_spec(request, reference, description)
    trials = request.trials or LaunchDefaults.trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = database.retried(
        lambda: optuna.create_study(
            study_name=request.study,
            storage=database.optuna,
            direction=description.direction,
            load_if_exists=True,
        )
    )
    study_id = database.optuna.get_study_id_from_name(request.study)
    _insert(database, study_id, request.study, spec, trials, foreign=bool(study.get_trials(deepcopy=False)))
    created = find(database, request.study)
    assert created is not None
    return created


def _new_spec(request: LaunchRequest, reference: str, description: Description) -> StudySpec:
    defaults = LaunchDefaults()
    space = narrow_space(description.space, request.params)
    trials = request.trials or defaults.trials
    return StudySpec(
        objective=reference,
        metric=description.metric,
        direction=description.direction,
        epochs=request.epochs or description.epochs,
        space=space,
        objective_space=description.space,
        first=known_good_parts(description.first, space),
        sampler=request.sampler or defaults.sampler,
        pruner=request.pruner or defaults.pruner_for(trials),
        seed=defaults.seed if request.seed is None else request.seed,
        data=DataOptions(limit=request.limit),
        startup=startup_trials(trials),
        max_failed=request.max_failed or defaults.max_failed,
        max_lost=request.max_lost or defaults.max_lost,
        checkpoint_quota_bytes=request.checkpoint_quota_bytes,
    )


def _with_stored(request: LaunchRequest, stored: StudySpec, reference: str) -> LaunchRequest:
    """Fill the options that the request leaves open from the stored spec, as far as they fit its objective."""
    same = reference == stored.objective
    return replace(
        request,
        epochs=request.epochs or (stored.epochs if same else None),
        limit=request.limit or stored.data.limit,
        sampler=request.sampler or stored.sampler,
        pruner=request.pruner or stored.pruner,
        seed=stored.seed if request.seed is None else request.seed,
    )


def _insert(
    database: Database, study_id: int, name: str, spec: StudySpec, trials: int, foreign: bool
) -> None:
    """Store the spec, unless a simultaneous launch has stored it."""

    def write(c: Connection) -> bool:
        if foreign and not studies.is_stored(c, study_id):
            return False
        studies.insert(c, study_id, name, spec.to_json(), trials)
        return True

    if not database.transaction(write):
        raise StudyConflictError(
            f"study {name!r} was created with plain Optuna and has trials: choose another name with --study"
        )


def _update(
    database: Database, existing: LaunchedStudy, spec: StudySpec, trials: int | None, resume: bool
) -> int | None:
    """Store the spec and a requested budget; return the budget, or None if the stored spec has changed."""
    study_id = existing.study_id

    def write(c: Connection) -> int | None:
        if not studies.update_spec(c, study_id, existing.spec_json, spec.to_json()):
            return None
        if trials is not None:
            # Preparation alone never lowers the budget: containers prepare the study at every start.
            least = 0 if resume else budget.count(c, study_id).budget
            budget.set_budget(c, study_id, max(trials, least))
        if resume:
            studies.set_desired_state(c, study_id, "run")
        return budget.count(c, study_id).budget

    return database.transaction(write)


def check_options(existing: LaunchedStudy, request: LaunchRequest, reference: str) -> None:
    """Raise StudyConflictError if the request has other options than the study was created with."""
    spec = existing.spec
    requested: Sequence[tuple[str, Any, Any]] = (
        ("--objective", request.objective and reference, spec.objective),
        ("--epochs", request.epochs, spec.epochs),
        ("--limit", request.limit, spec.data.limit),
        ("--sampler", request.sampler, spec.sampler),
        ("--pruner", request.pruner, spec.pruner),
        ("--seed", request.seed, spec.seed),
    )
    for option, wanted, stored in requested:
        if wanted is not None and wanted != stored:
            original = f"{option} {stored}" if stored is not None else f"no {option}"
            raise StudyConflictError(
                f"study {existing.name!r} was created with {original}, not {wanted}, and its trials must stay"
                f" comparable: leave {option} out to continue it, or create another study with --study"
            )
