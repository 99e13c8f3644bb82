"""Create a study with its spec, or check that a request fits the existing study."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection

from hpo.errors import (
    HpoError,
    InvalidParameterError,
    StorageUnreachableError,
    StudyConflictError,
    StudyLostError,
)
from hpo.options.fields import NONE
from hpo.options.requests import LaunchDefaults, LaunchRequest
from hpo.search.open_overrides import checked
from hpo.search.optuna_study import known_good_parts
from hpo.search.samplers import startup_trials
from hpo.search.space_changes import with_space
from hpo.search.space_overrides import narrow_space
from hpo.search.spec import StudySpec
from hpo.study.catalog import delete_study
from hpo.study.definition import identity, twin, versions
from hpo.study.definition.launch_options import check_open_space, check_options
from hpo.study.definition.selected_metric import kept_metric, selected
from hpo.study.definition.study_data import check_images, requested_data
from objectives.base import DataOptions, Direction
from objectives.description import Description
from objectives.spaces.space import Space, same_space
from objectives.trial_value import ValueRule
from storage import budget, studies
from storage.engine import Database
from storage.optuna import studies as optuna_studies
from storage.studies import StoredStudy

log = logging.getLogger(__name__)

LIMITS = ("checkpoint_quota_bytes", "trial_timeout_seconds", "target", "patience")
"""Limits and goals of a study, which any launch may set, change or remove."""


@dataclass(frozen=True, kw_only=True)
class LaunchedStudy(StoredStudy):
    """A stored study with its parsed spec and its progress, as a launch or an agent finds it."""

    spec: StudySpec
    reserved: int
    """Trials that were reserved, those that failed included."""
    finished: int
    open: int
    """Trials that were started and have no outcome yet."""
    begun: bool
    """Whether it has trials, with which later ones must stay comparable, or an agent about to start one."""


def find(database: Database, name: str) -> LaunchedStudy | None:
    """Return the study of that name, or None.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """

    def read(c: Connection) -> LaunchedStudy | None:
        study = studies.find(c, name)
        if study is None:
            return None
        spec = StudySpec.from_json(study.spec_json)
        twin.check_optuna(name, spec.direction, optuna_studies.find_by_id(c, study.study_id))
        progress = studies.progress(c, study.study_id)
        return LaunchedStudy(
            **vars(study),
            spec=spec,
            reserved=progress.trials,
            finished=progress.finished,
            open=progress.open,
            begun=progress.trials > 0 or progress.has_agents,
        )

    return database.transaction(read)


def data_of(request: LaunchRequest, existing: LaunchedStudy | None, digest: str = "") -> DataOptions:
    """Return the data that the study trains on; `digest` is that of its own images as they are now."""
    stored = existing.spec.data if existing is not None else DataOptions()
    begun = existing is not None and existing.begun
    return replace(requested_data(request, stored, begun=begun), digest=digest)


def requested_space(request: LaunchRequest, description: Description, digest: str = "") -> Space:
    """Return the space of the study that the request would create.

    Raises:
        UsageError: an option does not apply to the objective.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    check_open_space(request, selected(description, request.metric))
    check_images(request, description, data_of(request, None, digest))
    return Space() if description.open_space else narrow_space(description.space, request.params)


def create_or_continue(
    database: Database,
    request: LaunchRequest,
    reference: str,
    description: Description,
    existing: LaunchedStudy | None,
    digest: str = "",
) -> LaunchedStudy:
    """Create the requested study, or continue it with the requested budget.

    With `--no-run`, a paused or stopped study stays so. `digest` is that of the study's own images as they are now.

    Raises:
        StudyConflictError: the study exists with other options or another search space.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    check_open_space(request, _with_metric(description, request, existing))
    data = data_of(request, existing, digest)
    check_images(request, description, data)
    existing = existing or _create(database, request, reference, description, data)
    while True:
        now = versions.Trained(description.code, digest)
        # With --code, agents may train with either.
        versions.check_agents(database, existing, now if request.code is None else now._replace(code=""))
        spec = _agreed_spec(database, existing, request, reference, description)
        spec = replace(spec, data=data_of(request, existing, digest))
        kept = _update(database, existing, spec, request.trials, resume=request.run)
        if kept is not None:
            if existing.begun and spec.sampler != existing.spec.sampler:
                log.info(
                    f"{spec.sampler} proposes the trials from now on instead of {existing.spec.sampler}; agents that"
                    " are running keep theirs"
                )
            versions.report_changes(database, existing, existing.spec, now)
            versions.report_interrupted(database, existing, description.code, request.code)
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


def _with_metric(
    description: Description, request: LaunchRequest, existing: LaunchedStudy | None
) -> Description:
    """Return the description with the requested metric, or the one that the study has selected before."""
    if request.metric is None and existing is not None and existing.spec.selects_metric:
        return kept_metric(description, existing.spec.metric)
    return selected(description, request.metric)


@contextmanager
def discarded_if_refused(
    database: Database, study: LaunchedStudy, folders: Sequence[Path] = ()
) -> Iterator[None]:
    """Delete a new study if the block fails before any process has trained one of its trials.

    A `--param` of an open space is refused once a trial asks for the parameter: no epoch must have ended then, and the
    study's folders in `folders` are deleted too.
    """
    try:
        yield
    except (StorageUnreachableError, StudyLostError):
        raise
    except InvalidParameterError:
        with suppress(HpoError):
            if not database.transaction(lambda c: studies.has_results(c, study.study_id)):
                delete_study(database, study.name, folders=folders)
        raise
    except HpoError:
        with suppress(HpoError):
            if not database.transaction(lambda c: studies.is_in_use(c, study.study_id)):
                delete_study(database, study.name)
        raise


def _agreed_spec(
    database: Database,
    existing: LaunchedStudy,
    request: LaunchRequest,
    reference: str,
    description: Description,
) -> StudySpec:
    """Return the spec that the study and the request agree on."""
    try:
        identity.check_declarations(existing.name, existing.spec, description, request)
        spec = with_space(database, existing.study_id, existing.spec, request, description)
        check_options(existing.name, existing.spec, request, reference)
    except StudyConflictError:
        keeps_narrowing = existing.spec.narrowed and not request.params
        changed_space = not same_space(description.space, existing.spec.objective_space)
        if existing.begun or (keeps_narrowing and changed_space):
            raise
        # A launch failed before its first trial, so no trial has to stay comparable.
        spec = _new_spec(_with_stored(request, existing.spec, reference), reference, description)
        if spec.open_space:
            spec = replace(spec, narrowing=spec.narrowing or existing.spec.narrowing)
        elif keeps_narrowing:
            space = existing.spec.space
            spec = replace(spec, space=space, first=known_good_parts(description.first, space))
    sampler, earlier = request.sampler or spec.sampler, spec.earlier_samplers
    if existing.begun and sampler != spec.sampler:
        earlier += ((spec.sampler, existing.reserved),)
    return replace(
        spec,
        objective_epochs=description.epochs,
        objective_value=description.value,
        objective_metric=description.metric,
        code=description.code or spec.code,
        sampler=sampler,
        earlier_samplers=earlier,
        startup=startup_trials(request.trials or existing.budget),
        max_failed=request.max_failed or existing.spec.max_failed,
        max_lost=request.max_lost or existing.spec.max_lost,
        **_limits(request, existing.spec),
    )


def _limits(request: LaunchRequest, stored: StudySpec | None = None) -> dict[str, Any]:
    """Return the requested limits and goals, else the stored ones."""
    requested = {name: getattr(request, name) for name in LIMITS}
    kept = {name: getattr(stored, name, None) for name, value in requested.items() if value is None}
    return {name: None if value == NONE else value for name, value in requested.items()} | kept


def _create(
    database: Database, request: LaunchRequest, reference: str, description: Description, data: DataOptions
) -> LaunchedStudy:
    """Create the study in Optuna's tables and ours at once, so that a failure leaves neither behind."""
    spec = replace(_new_spec(request, reference, description), data=data)
    trials = request.trials or LaunchDefaults.trials

    def write(c: Connection) -> None:
        new = optuna_studies.create(c, request.study, spec.direction)
        found = optuna_studies.find(c, request.study)
        assert found is not None
        stored = studies.names(c).get(found.study_id)
        if stored == request.study:
            # By a simultaneous launch, or by this one before the answer was lost.
            return
        if not new:
            twin.check_twin(found, spec.direction, stored)
        studies.insert(c, found.study_id, request.study, spec.to_json(), trials)

    database.transaction(write)
    created = find(database, request.study)
    assert created is not None
    return created


def _new_spec(request: LaunchRequest, reference: str, description: Description) -> StudySpec:
    defaults = LaunchDefaults()
    space = Space() if description.open_space else narrow_space(description.space, request.params)
    trials = request.trials or defaults.trials
    judged = selected(description, request.metric)
    return StudySpec(
        objective=reference,
        metric=judged.metric,
        # `check_open_space` has accepted it.
        direction=cast("Direction | None", request.direction) or judged.direction,
        value=cast("ValueRule | None", request.value) or description.value,
        epochs=request.epochs or description.epochs,
        space=space,
        objective_space=description.space,
        open_space=description.open_space,
        narrowing=checked(request.params) if description.open_space else (),
        objective_epochs=description.epochs,
        objective_value=description.value,
        objective_metric=description.metric,
        code=description.code,
        first=known_good_parts(description.first, space),
        sampler=request.sampler or defaults.sampler,
        pruner=request.pruner or defaults.pruner_for(trials),
        seed=defaults.seed if request.seed is None else request.seed,
        startup=startup_trials(trials),
        max_failed=request.max_failed or defaults.max_failed,
        max_lost=request.max_lost or defaults.max_lost,
        **_limits(request),
    )


def _with_stored(request: LaunchRequest, stored: StudySpec, reference: str) -> LaunchRequest:
    """Fill the options that the request leaves open from the stored spec, as far as they fit its objective."""
    # What is the objective's own changes with it.
    same = reference == stored.objective
    return replace(
        request,
        metric=request.metric or (stored.metric if same and stored.selects_metric else None),
        epochs=request.epochs
        or (stored.epochs if same and stored.epochs != stored.objective_epochs else None),
        value=request.value or (stored.value if same and stored.value != stored.objective_value else None),
        limit=request.limit or stored.data.limit,
        folds=request.folds or (stored.data.folds if same else None),
        sampler=request.sampler or stored.sampler,
        pruner=request.pruner or stored.pruner,
        seed=stored.seed if request.seed is None else request.seed,
    )


def _update(
    database: Database, existing: LaunchedStudy, spec: StudySpec, trials: int | None, resume: bool
) -> int | None:
    """Store the spec and a requested budget; return the budget, or None if the stored spec has changed."""
    study_id = existing.study_id

    def write(c: Connection) -> int | None:
        if not studies.update_spec(c, study_id, existing.spec_json, spec.to_json()):
            return None
        if spec.direction != existing.spec.direction:
            optuna_studies.set_direction(c, study_id, spec.direction)
        if trials is not None:
            # Preparation alone never lowers the budget: containers prepare the study at every start.
            least = 0 if resume else budget.count(c, study_id).budget
            budget.set_budget(c, study_id, max(trials, least))
        if resume:
            studies.set_desired_state(c, study_id, "run")
        return budget.count(c, study_id).budget

    return database.transaction(write)
