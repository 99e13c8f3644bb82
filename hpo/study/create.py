"""Creates a study with its spec, or checks that a request fits the study that exists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from sqlalchemy import Connection, text

from hpo.errors import StudyConflictError
from hpo.options import LaunchDefaults, LaunchRequest
from hpo.outcomes import COUNTED
from hpo.search.optuna_study import known_good_parts
from hpo.search.samplers import startup_trials
from hpo.search.space_changes import with_space
from hpo.search.space_overrides import narrow_space
from hpo.search.spec import StudySpec
from hpo.suggestions import folder_name
from objectives.base import DataOptions, Description
from storage import budget, control
from storage.engine import Database


@dataclass(frozen=True)
class Enrolled:
    """A study as it is stored."""

    study_id: int
    name: str
    uid: str
    spec: StudySpec
    stored: Mapping[str, Any]
    """The spec as it is in the database, which may be of another version."""
    budget: int
    desired_state: str
    finished: int = 0
    open: int = 0
    """Trials that have begun and are not decided."""
    begun: bool = False
    """Whether it has a trial, with which others must stay comparable, or an agent about to begin one."""

    @property
    def folder(self) -> str:
        """What its folders are called."""
        return folder_name(self.name, self.uid)


def find(database: Database, name: str) -> Enrolled | None:
    """The study of that name, or None."""

    def read(c: Connection) -> Enrolled | None:
        row = c.execute(
            text(
                "SELECT s.study_id, s.name, s.uid, s.spec, s.budget, s.desired_state,"
                " count(t.reservation_id) AS trials,"
                " count(t.reservation_id) FILTER (WHERE t.outcome IS NULL) AS open,"
                " count(t.reservation_id) FILTER (WHERE t.outcome = ANY(:counted)) AS finished"
                ", EXISTS (SELECT 1 FROM hpo.agents a WHERE a.study_id = s.study_id AND a.ended_at IS NULL"
                "   AND a.seen_at > clock_timestamp() - coalesce(a.lease_seconds, 120) * interval '1 second')"
                " AS agents"
                " FROM hpo.studies s LEFT JOIN hpo.trials t USING (study_id) WHERE s.name = :n GROUP BY s.study_id"
            ),
            {"n": name, "counted": list(COUNTED)},
        ).one_or_none()
        if row is None:
            return None
        spec = StudySpec.from_json(row.spec)
        return Enrolled(
            row.study_id,
            row.name,
            row.uid,
            spec,
            row.spec,
            row.budget,
            row.desired_state,
            row.finished,
            row.open,
            row.trials > 0 or row.agents,
        )

    return database.transaction(read)


def data_options(request: LaunchRequest, existing: Enrolled | None) -> DataOptions:
    """Which part of the data the study trains on; the folder it lies in is each host's own affair."""
    if existing is not None and (existing.begun or request.limit is None):
        return existing.spec.data
    return DataOptions(limit=request.limit)


def enroll(
    database: Database,
    request: LaunchRequest,
    reference: str,
    description: Description,
    existing: Enrolled | None,
) -> Enrolled:
    """The study that the request asks for: made now, or continued with its budget as asked.

    One that is only prepared stays paused or stopped, if it is.

    Raises:
        StudyConflictError: it exists with other options or another search space.
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
        # Another launch has changed it since we looked: what we ask for must fit what it is now.
        found = find(database, request.study)
        if found is None:
            raise StudyConflictError(
                f"study {request.study!r} was deleted meanwhile: run the same command again"
            )
        existing = found


def _agreed_spec(
    database: Database, existing: Enrolled, request: LaunchRequest, reference: str, description: Description
) -> StudySpec:
    """What the study's spec becomes."""
    try:
        spec = with_space(database, existing.study_id, existing.spec, request, description)
        check_options(existing, request, reference)
    except StudyConflictError:
        if existing.begun or existing.spec.direction != description.direction:
            raise
        # Left by a launch that failed before its first trial: nothing must stay comparable with it.
        spec = _new_spec(_with_stored(request, existing.spec, reference), reference, description)
    return replace(
        spec,
        startup=startup_trials(request.trials or existing.budget),
        max_failed=request.max_failed or spec.max_failed,
        max_lost=request.max_lost or spec.max_lost,
        checkpoint_quota_bytes=request.checkpoint_quota_bytes or spec.checkpoint_quota_bytes,
    )


def _create(database: Database, request: LaunchRequest, reference: str, description: Description) -> Enrolled:
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
    """The request with what it leaves open as stored, as far as that is not another objective's."""
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
    """Store the spec, unless another launch of the same moment has."""

    def write(c: Connection) -> bool:
        known = c.execute(
            text("SELECT 1 FROM hpo.studies WHERE study_id = :s"), {"s": study_id}
        ).one_or_none()
        if known is None and foreign:
            return False
        c.execute(
            text(
                "INSERT INTO hpo.studies (study_id, name, spec, budget)"
                " VALUES (:s, :n, CAST(:spec AS json), :b) ON CONFLICT DO NOTHING"
            ),
            {"s": study_id, "n": name, "spec": json.dumps(spec.to_json()), "b": trials},
        )
        return True

    if not database.transaction(write):
        raise StudyConflictError(
            f"study {name!r} was made with plain Optuna and has trials: choose another name with --study"
        )


def _update(
    database: Database, existing: Enrolled, spec: StudySpec, trials: int | None, resume: bool
) -> int | None:
    """Store the spec and the budget asked for, if any; returns the budget, or None where the spec is not as it was."""
    study_id = existing.study_id

    def write(c: Connection) -> int | None:
        stored = c.execute(
            text(
                "UPDATE hpo.studies SET spec = CAST(:spec AS json) WHERE study_id = :s"
                " AND CAST(spec AS jsonb) IN (CAST(:before AS jsonb), CAST(:spec AS jsonb))"
            ),
            {
                "s": study_id,
                "spec": json.dumps(spec.to_json()),
                "before": json.dumps(existing.stored),
            },
        )
        if not stored.rowcount:
            return None
        if trials is not None:
            # What is only prepared is not made smaller: containers prepare at every start.
            least = 0 if resume else budget.count(c, study_id).budget
            budget.set_budget(c, study_id, max(trials, least))
        if resume:
            control.resume(c, study_id)
        return budget.count(c, study_id).budget

    return database.transaction(write)


def check_options(existing: Enrolled, request: LaunchRequest, reference: str) -> None:
    """Raise StudyConflictError where the request asks for other options than the study began with."""
    spec = existing.spec
    asked: Sequence[tuple[str, Any, Any]] = (
        ("--objective", request.objective and reference, spec.objective),
        ("--epochs", request.epochs, spec.epochs),
        ("--limit", request.limit, spec.data.limit),
        ("--sampler", request.sampler, spec.sampler),
        ("--pruner", request.pruner, spec.pruner),
        ("--seed", request.seed, spec.seed),
    )
    for option, wanted, stored in asked:
        if wanted is not None and wanted != stored:
            began = f"{option} {stored}" if stored is not None else f"no {option}"
            raise StudyConflictError(
                f"study {existing.name!r} began with {began}, not {wanted}, and its trials must stay"
                f" comparable: leave {option} out to continue it, or start another with --study"
            )
