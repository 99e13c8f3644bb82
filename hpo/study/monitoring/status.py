"""Status of a study, from a constant number of aggregating queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Double, and_, case, cast, func, select, text

from hpo.outcomes import COUNTED, FAILURES, SETTLED
from hpo.study.catalog import read_study, state_of
from hpo.study.definition.space_of_study import contains_of
from hpo.study.definition.versions import codes_of_study
from hpo.study.monitoring import retrain_progress
from hpo.study.monitoring.spent_time import elapsed_seconds, spent_seconds
from hpo.study.monitoring.study_status import AgentRow, ExpiredRow, RunningRow, StudyStatus
from hpo.study.notes import read_study_note
from hpo.study.predicates import (
    NOW,
    alive_agent,
    attempt_in_slot,
    live_attempt,
    seconds,
    seconds_of_attempt,
)
from hpo.study.results.added_trials import better_added
from hpo.study.results.best_trials import best_query
from hpo.study.results.front import second_of
from hpo.study.results.test_set import has_test_set
from storage import goals, repeats
from storage.attempts import NEXT
from storage.optuna import attributes
from storage.optuna.trials import count_enqueued
from storage.studies import StoredStudy
from storage.tables import agents, attempts, epochs, trials

if TYPE_CHECKING:
    from storage.engine import Database


def study_status(database: Database, name: str, checkpoints: Path | None = None) -> StudyStatus:
    """Return the status of a study, with that of its retrain on this host if the folder of checkpoints is given.

    Raises:
        UnknownStudyError: no study has that name.
    """

    def read(connection: Connection) -> tuple[StudyStatus, str]:
        study = read_study(connection, name, database)
        return read_status(connection, study), study.folder

    found, folder = database.transaction(read)
    return (
        found if checkpoints is None else replace(found, retrain=retrain_progress.read(checkpoints / folder))
    )


def read_status(connection: Connection, study: StoredStudy) -> StudyStatus:
    """Read the status inside a transaction."""
    counts, tags = _counts(connection, study.study_id), attributes.tags(connection)
    finished, held = counts["finished"], counts.pop("held")
    # Most paused trials never go on.
    judged = finished + counts["paused"]
    alive = _alive_agents(connection, study.study_id)
    elapsed = elapsed_seconds(connection, study.study_id)
    spent = spent_seconds(connection, study.study_id)
    state = state_of(study.desired_state, finished >= study.budget, counts["running"], held, len(alive))
    best = connection.execute(best_query(study)).first()
    return StudyStatus(
        **counts,
        name=study.name,
        objective=study.objective,
        state=state,
        desired_state=study.desired_state,
        metric=study.metric,
        direction=str(study.spec_json["direction"]),
        value_rule=study.value_rule,
        constraints=tuple(study.spec_json.get("constraints") or ()),
        also_minimize=second_of(study),
        codes=codes_of_study(connection, study.study_id),
        epochs_per_trial=int(study.spec_json["epochs"]),
        budget=study.budget,
        expired=_expired(connection, study.study_id),
        best_number=best.number if best else None,
        best_value=best.value if best else None,
        best_params=best.params if best else None,
        noise=next(reversed(repeats.read(connection, study.study_id)), None),
        goals=goals.read(connection, study.study_id, contains_of(study.spec_json)),
        trial_timeout_seconds=study.spec_json.get("trial_timeout_seconds"),
        elapsed_seconds=elapsed,
        remaining_seconds=(
            max(0, study.budget - judged) * spent / judged / sum(agent.slots for agent in alive)
            if judged and alive and state == "running"
            else None
        ),
        agents=alive,
        slots=_running_slots(connection, study),
        created_at=study.created_at,
        note=read_study_note(connection, study.study_id),
        tags=tags.get(study.study_id, ()),
        is_experiment=study.spec_json.get("design") is not None,
        has_test_set=has_test_set(connection, study.study_id),
        learned_from={one["study"]: one["trials"] for one in study.spec_json.get("learned", ())},
        better_added=better_added(connection, study, best.value if best else None),
    )


def _counts(connection: Connection, study_id: int) -> dict[str, Any]:
    """Return the fields of a `StudyStatus` that count trials and epochs."""
    # One query for all trials, so that their numbers add up.
    state = case(
        (and_(attempts.c.attempt_id.is_(None), trials.c.paused_epoch.is_not(None)), "paused"),
        (attempts.c.attempt_id.is_(None), "waiting"),
        (attempts.c.device == NEXT, "prepared"),
        else_="running",
    )
    rows = connection.execute(
        select(
            trials.c.outcome,
            state.label("state"),
            func.count().label("number"),
            func.count(attempts.c.held_at).label("held"),
            func.sum(trials.c.epochs).label("completed"),
        )
        .select_from(
            trials.outerjoin(
                attempts, and_(attempts.c.reservation_id == trials.c.reservation_id, live_attempt())
            )
        )
        .where(trials.c.study_id == study_id)
        .group_by(trials.c.outcome, state)
    ).all()
    number: Counter[str] = Counter()
    for row in rows:
        number[row.outcome or row.state] += row.number
    finished = sum(number[outcome] for outcome in COUNTED)
    completed = sum(row.completed for row in rows if row.outcome in COUNTED)
    enqueued = count_enqueued(connection, study_id)
    trained = connection.scalar(
        select(func.sum(attempts.c.epochs))
        .select_from(attempts.join(trials))
        .where(trials.c.study_id == study_id)
    )
    return {
        "outcomes": {outcome: number[outcome] for outcome in (*SETTLED, *FAILURES) if number[outcome]},
        "finished": finished,
        "failed": sum(number[outcome] for outcome in FAILURES),
        "running": number["running"],
        "held": sum(row.held for row in rows),
        "prepared": number["prepared"],
        "waiting": number["waiting"] + enqueued,
        "paused": number["paused"],
        "enqueued": enqueued,
        "epochs_trained": trained or 0,
        "mean_epochs": completed / finished if finished else None,
    }


def _alive_agents(connection: Connection, study_id: int) -> tuple[AgentRow, ...]:
    seen = func.greatest(seconds(NOW - agents.c.seen_at), 0.0).label("seen_seconds")
    query = (
        select(agents.c.host, agents.c.pid, agents.c.slots, seen)
        .where(agents.c.study_id == study_id, alive_agent())
        .order_by(agents.c.ordinal)
    )
    return tuple(AgentRow(**row._mapping) for row in connection.execute(query))


def _expired(connection: Connection, study_id: int) -> tuple[ExpiredRow, ...]:
    query = (
        select(
            trials.c.number,
            trials.c.epochs.label("epoch"),
            attempts.c.slot,
            attempts.c.host,
            seconds(NOW - attempts.c.lease_until).label("seconds"),
        )
        .select_from(attempts.join(trials))
        .where(trials.c.study_id == study_id, attempts.c.ended_at.is_(None), attempts.c.lease_until <= NOW)
        .order_by(trials.c.ordinal)
    )
    return tuple(ExpiredRow(**row._mapping) for row in connection.execute(query))


def _running_slots(connection: Connection, study: StoredStudy) -> tuple[RunningRow, ...]:
    last = (
        select(cast(epochs.c.metrics[study.metric].astext, Double).label("metric"))
        .where(epochs.c.reservation_id == trials.c.reservation_id)
        .order_by(epochs.c.epoch.desc())
        .limit(1)
        .lateral("last")
    )
    query = (
        select(
            trials.c.number,
            trials.c.epochs.label("epoch"),
            last.c.metric,
            attempts.c.slot,
            attempts.c.device,
            attempts.c.host,
            seconds_of_attempt().label("seconds"),
        )
        .select_from(attempts.join(trials).outerjoin(last, text("true")))
        .where(trials.c.study_id == study.study_id, attempt_in_slot())
        .order_by(attempts.c.host, attempts.c.slot, trials.c.ordinal)
    )
    return tuple(RunningRow(**row._mapping) for row in connection.execute(query))
