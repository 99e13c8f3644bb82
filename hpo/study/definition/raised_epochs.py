"""`--epochs` of a study that has begun is raised: its trials go on after their last epoch with a new schedule."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select

from hpo import formatting
from hpo.errors import StudyConflictError
from hpo.options.defaults import CURVES, LaunchDefaults
from hpo.options.launch_request import LaunchRequest
from hpo.process.identity import is_dead
from hpo.search import freeze_thaw
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.predicates import alive_agent
from objectives.description import Description
from storage.freeze_thaw import pauses
from storage.tables import agents


def with_raised_epochs(
    study: LaunchedStudy, request: LaunchRequest, description: Description | None = None
) -> LaunchedStudy:
    """Return the study with the requested number of epochs, if it has begun with fewer.

    The end of a trial becomes a rung, after which the best go on: see docs/how-to/extend.md. Without the description,
    which takes longer to get, the objective is not checked.

    Raises:
        StudyConflictError: its trials cannot go on.
    """
    spec, rule = study.spec, freeze_thaw_of(study.spec)
    epochs = request.epochs or 0
    if not study.begun or spec.epochs is None or epochs <= spec.epochs:
        return study
    obstacle = (
        f"--pruner {spec.pruner} ends trials for good, and only {freeze_thaw.NAME} lets them go on"
        if rule is None
        else "its objective does not begin its schedule again after its last epoch (Objective.takes_restarts)"
        if description is not None and not description.takes_restarts
        else ""
    )
    if rule is None or obstacle:
        raise StudyConflictError(
            f"study {study.name!r} was created with --epochs {spec.epochs}, not {request.epochs}, and its trials cannot"
            f" go on, because {obstacle}: leave --epochs out to continue it, or create another study with --study"
        )
    ended = (spec.epochs, freeze_thaw.LEVELS[-1].one_in)
    ranked = freeze_thaw.FreezeThaw(epochs=spec.epochs) if rule.modelled else rule
    raised = replace(
        spec,
        epochs=epochs,
        restarts=(*spec.restarts, spec.epochs),
        rungs=(*ranked.one_in.items(), ended),
    )
    if rule.modelled:
        raised = _without_model(raised, study.reserved)
    return replace(study, spec=raised)


def _without_model(spec: StudySpec, reserved: int) -> StudySpec:
    """Return a spec that ranks trials: of the complete ones, only the best third have kept their checkpoints."""
    spec = replace(spec, curve_model=False)
    if spec.sampler != CURVES:
        return spec
    earlier = (*spec.earlier_samplers, (CURVES, reserved))
    return replace(spec, sampler=LaunchDefaults.sampler, earlier_samplers=earlier)


def extend_trials(connection: Connection, study: LaunchedStudy, spec: StudySpec) -> int:
    """Pause the trials that have completed the epochs that `spec` raises, so that the best go on; return their number.

    Raises:
        StudyConflictError: agents train the study with the epochs that it has.
    """
    stored = StudySpec.from_json(study.spec_json)
    if spec.restarts == stored.restarts or stored.epochs is None:
        return 0
    query = select(agents.c.process).where(agents.c.study_id == study.study_id, alive_agent())
    living = [process for process in connection.execute(query).scalars() if not is_dead(process)]
    if living:
        raise StudyConflictError(
            f"--epochs cannot be raised while agents ({len(living)}) train trials of"
            f" {formatting.counted(stored.epochs, 'epoch')}: stop study {study.name!r} first (hpo stop --study"
            f" {study.name})"
        )
    if stored.curve_model:
        pauses.leave_model(connection, study.study_id)
    return pauses.extend(connection, study.study_id, stored.epochs)
