"""Create a study, or continue it: its rows in Optuna's tables and ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from hpo import formatting
from hpo.errors import (
    HpoError,
    InvalidParameterError,
    StorageUnreachableError,
    StudyConflictError,
    StudyLostError,
)
from hpo.options.defaults import GRID, LaunchDefaults
from hpo.options.launch_request import LaunchRequest
from hpo.search.spec import StudySpec
from hpo.study.catalog import delete_study
from hpo.study.definition import learn_from, twin, versions
from hpo.study.definition.launch_options import (
    check_curves,
    check_design,
    check_figures,
    check_front,
    check_grid,
    check_open_space,
    check_repeats,
)
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.definition.raised_epochs import extend_trials, with_raised_epochs
from hpo.study.definition.requested_spec import agreed_spec, data_of, new_spec, with_metric
from hpo.study.definition.study_data import check_images
from objectives.description import Description
from storage import budget, studies
from storage.engine import Database
from storage.freeze_thaw import pauses
from storage.optuna import studies as optuna_studies

log = logging.getLogger(__name__)


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
    planned = planned_spec(database, request, reference, description, existing, digest)
    existing = existing or _create(database, request, planned)
    while True:
        now = versions.Trained(description.code, digest)
        # With --code, agents may train with either.
        versions.check_agents(database, existing, now if request.code is None else now._replace(code=""))
        spec = planned_spec(database, request, reference, description, existing, digest)
        kept = _update(database, existing, spec, request.trials, resume=request.run)
        if kept is not None:
            if existing.begun and spec.sampler != existing.spec.sampler:
                log.info(
                    f"{spec.sampler} proposes the trials from now on instead of {existing.spec.sampler}; agents that"
                    " are running keep theirs"
                )
            if spec.learned != existing.spec.learned:
                log.info(learn_from.log_line(spec.learned, asked=request.learn_from is not None))
            _report_size(spec, kept)
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


def planned_spec(
    database: Database,
    request: LaunchRequest,
    reference: str,
    description: Description,
    existing: LaunchedStudy | None,
    digest: str = "",
) -> StudySpec:
    """Return the spec that `create_or_continue` would store; nothing is written.

    Raises:
        HpoError: as `create_or_continue`.
    """
    if existing is not None:
        check_design(existing.spec, request)
    judged = with_metric(description, request, existing)
    check_open_space(request, judged)
    check_figures(request, judged)
    data = data_of(request, existing, digest)
    check_images(request, description, data)
    if existing is None:
        spec = new_spec(request, reference, description)
    else:
        raised = with_raised_epochs(existing, request, description)
        spec = agreed_spec(database, raised, request, reference, description)
    spec = replace(spec, data=data)
    spec = replace(spec, learned=learn_from.learned(database, request, spec, existing))
    if existing is None and request.seed is None:
        spec = replace(spec, seed=learn_from.default_seed(spec.learned))
    check_grid(spec)
    check_front(spec)
    check_curves(spec)
    if existing is None or request.trials is not None or request.repeats is not None:
        check_repeats(spec, request.trials or (existing.budget if existing else LaunchDefaults.trials))
    return spec


def _report_size(spec: StudySpec, trials: int) -> None:
    """Log that the space is finite, if its size ends the study or its order is that of a grid."""
    size = spec.configurations
    if size is None or (size > trials and spec.sampler != GRID):
        return
    number = formatting.counted(size, "configuration")
    fewer = f", fewer than the {trials} trials" if size < trials else ""
    order = ", in an order that --seed shuffles" if spec.sampler == GRID else ""
    trained = "it is trained once" if size == 1 else f"each is trained once{order}"
    log.info(f"the space has {number}{fewer}: {trained}")


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


def _create(database: Database, request: LaunchRequest, spec: StudySpec) -> LaunchedStudy:
    """Create the study in Optuna's tables and ours at once, so that a failure leaves neither behind."""
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
    if created.spec.learned:
        log.info(learn_from.log_line(created.spec.learned, asked=request.learn_from is not None))
    return created


def _update(
    database: Database, existing: LaunchedStudy, spec: StudySpec, trials: int | None, resume: bool
) -> int | None:
    """Store the spec and a requested budget; return the budget, or None if the stored spec has changed."""
    study_id = existing.study_id

    def write(c: Connection) -> tuple[int, int, int] | None:
        if not studies.update_spec(c, study_id, existing.spec_json, spec.to_json()):
            return None
        if spec.direction != existing.spec.direction:
            optuna_studies.set_direction(c, study_id, spec.direction)
        if trials is not None:
            # Preparation alone never lowers the budget: containers prepare the study at every start.
            least = 0 if resume else budget.count(c, study_id).budget
            budget.set_budget(c, study_id, max(trials, least))
        extended = extend_trials(c, existing, spec)
        reopened = pauses.reopen(c, study_id)
        if resume:
            studies.set_desired_state(c, study_id, "run")
        return budget.count(c, study_id).budget, extended, reopened

    updated = database.transaction(write)
    if updated is None:
        return None
    kept, extended, reopened = updated
    if extended:
        number = formatting.counted(extended, "complete trial")
        log.info(f"{number} may go on to epoch {spec.epochs}: the best third does, with a new schedule")
    if reopened:
        number = formatting.counted(reopened, "trial")
        log.info(f"{number} that were paused when the trials were spent may go on again")
    return kept
