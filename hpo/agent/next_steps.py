"""The end of a launch in the log: the results of the study so far, and the command to run next."""

from __future__ import annotations

import logging

from hpo import formatting
from hpo.agent.failure_policy import all_rejected, none_complete
from hpo.agent.store.snapshots import StudySnapshot
from hpo.search.open_overrides import without_parameter
from hpo.study.definition.goal_text import goal_text, noise_text
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.definition.space_of_study import contains_of
from hpo.study.results.test_set import has_test_set
from storage import budget, repeats
from storage.engine import Database
from storage.goals import read as read_goals
from storage.optuna.spaces import observed_distributions

log = logging.getLogger(__name__)


def log_next_steps(database: Database, snapshot: StudySnapshot, study: LaunchedStudy) -> None:
    """Log the results of a study so far, and the command to run next.

    Raises:
        NoResultError: the budget is spent, and no trial is complete.
    """
    counts = snapshot.counts
    if snapshot.best is None and counts.finished and not counts.left:
        raise none_complete(database.transaction(lambda c: budget.ends(c, study.study_id)), study.name)
    if snapshot.best is None and counts.rejected and not counts.begun and not counts.left:
        raise all_rejected(counts.rejected, study.name)
    log.info(
        f"{counts.finished} of {counts.budget} trials finished ({counts.complete} complete, {counts.cut_short}),"
        f" {counts.failed} failed" + (f", {counts.rejected} rejected" if counts.rejected else "")
    )
    goals = database.transaction(lambda c: read_goals(c, study.study_id, contains_of(study.spec_json)))
    if goals is not None and goals.reached:
        other = {
            "space": "a wider space and more --trials",
            "epochs": "a larger number (or none)",
            "flat": "--no-stop-when-flat and more --trials",
        }.get(goals.reached, "another value (or none) and more --trials")
        log.info(f"{goal_text(goals)}: to search on, give {other}")
    for noise in database.transaction(lambda c: repeats.read(c, study.study_id))[-1:]:
        log.info(f"noise: {noise_text(noise)}")
    if study.spec.narrowing and counts.finished:
        observed = database.transaction(lambda c: observed_distributions(c, study.study_id))
        for warning in without_parameter(study.spec.narrowing, dict(observed)):
            log.warning(warning)
    if snapshot.best is None and counts.finished:
        log.info(
            f"no trial is complete, so there is no best one: hpo trials --study {study.name} shows why each ended"
        )
    if snapshot.best is not None:
        number, value, params = snapshot.best
        log.info(
            f"best: {study.spec.metric} {formatting.metric(value)} in trial {number}: {formatting.parameters(params)}",
            extra={"fields": {"message": "best", "trial": number, "value": value, "params": dict(params)}},
        )
    if study.spec.design is not None:
        log.info(
            f"to continue: hpo launch --study {study.name}"
            if counts.left
            else f"next: hpo report --study {study.name}"
        )
    elif counts.left and (goals is None or goals.reached != "epochs"):
        log.info(f"to continue: hpo launch --study {study.name}")
    elif snapshot.best is not None:
        commands = [f"hpo {command} --study {study.name}" for command in ("report", "retrain", "export")]
        if not database.transaction(lambda c: has_test_set(c, study.study_id)):
            del commands[1]
        if study.spec.also_minimize is not None:
            commands.insert(0, f"hpo best --study {study.name} --front")
        log.info(f"next: {', '.join(commands)}, or hpo dashboard")
