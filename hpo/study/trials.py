"""Trials of a study as rows, and the best trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Float, Integer, Select, and_, cast, func, or_, select

from hpo.errors import NoResultError
from hpo.formatting import JsonRow
from hpo.outcomes import Outcome
from hpo.study.added.trials import better_added, read_added
from hpo.study.catalog import read_study
from hpo.study.notes import read_notes
from hpo.study.predicates import live_attempt, may_be_best, seconds_of_attempt
from objectives.choices import identity
from storage.attempts import NEXT
from storage.studies import StoredStudy
from storage.tables import agents, attempts, epochs, studies, trials

if TYPE_CHECKING:
    from storage.engine import Database


RUNNING, WAITING = OPEN = ("running", "waiting")
"""States of trials without an outcome."""
ADDED = "added"
"""State of a result that was not trained here."""


@dataclass(frozen=True, kw_only=True)
class TrialRow(JsonRow):
    """One line of `hpo trials`."""

    number: int | None
    """Trial number in Optuna; None while the trial is being created."""
    state: str
    """Outcome; `running` or `waiting` while the trial is open; `added` for a result that was not trained here."""
    why: str
    """Explanation of the outcome; empty while the trial is open."""
    value: float | None
    epochs: int
    seconds: float
    """Seconds spent in all attempts."""
    attempts: int
    params: Mapping[str, Any]
    created_at: datetime | None
    note: str = ""
    """Note of `hpo note` or of the dashboard."""


@dataclass(frozen=True, kw_only=True)
class BestTrial(JsonRow):
    """`hpo best`: the complete trial with the best value; on a tie, the earlier trial."""

    study: str
    objective: str
    number: int
    value: float
    metric: str
    direction: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    metrics: Mapping[str, float]
    """Metrics reported after the last epoch."""
    better_added: str | None = None
    """Note on a better result that was added and not trained here."""


def trial_rows(database: Database, name: str) -> list[TrialRow]:
    """Return all trials of a study and those added with plain Optuna, ordered by number.

    Raises:
        UnknownStudyError: no study has that name.
    """
    return database.transaction(lambda c: _with_added(c, read_study(c, name, database).study_id))


def _with_added(connection: Connection, study_id: int) -> list[TrialRow]:
    """Return the rows of a study's trials and of those that only Optuna has."""
    notes = read_notes(connection, study_id)
    added = [
        TrialRow(
            number=trial.number,
            state=ADDED if trial.is_result else trial.state,
            why=trial.why,
            value=trial.value,
            epochs=0,
            seconds=0.0,
            attempts=0,
            params=trial.params,
            created_at=trial.created_at,
            note=notes.get(trial.number, ""),
        )
        for trial in read_added(connection, study_id)
    ]
    rows = trial_rows_of(connection, study_id)
    if not added:
        return rows
    return sorted([*rows, *added], key=lambda row: (row.number is None, row.number or 0))


def sorted_trials(database: Database, name: str, by: str) -> list[TrialRow]:
    """Return all trials of a study, the best `value` or the most `seconds` first; missing values come last.

    Raises:
        UnknownStudyError: no study has that name.
    """

    def read(connection: Connection) -> list[TrialRow]:
        study = read_study(connection, name, database)
        rows = _with_added(connection, study.study_id)
        if by == "seconds":
            return sorted(rows, key=lambda row: -row.seconds)
        sign = -1 if study.maximize else 1
        return sorted(rows, key=lambda row: _missing_last(row.value, sign))

    return database.transaction(read)


def _missing_last(value: float | None, sign: int) -> tuple[bool, float]:
    missing = value is None or not math.isfinite(value)
    return missing, 0.0 if value is None or missing else sign * value


def best_trial(database: Database, name: str) -> BestTrial:
    """Return the best complete trial.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: no trial is complete.
    """
    return best_trials(database, name, 1)[0]


def best_trials(database: Database, name: str, limit: int) -> list[BestTrial]:
    """Return up to `limit` complete trials with distinct parameters, the best first.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: no trial is complete.
    """
    return database.transaction(
        lambda connection: _best(connection, read_study(connection, name, database), limit)
    )


def complete_trial(database: Database, name: str, number: int) -> BestTrial:
    """Return a complete trial by its number.

    Raises:
        UnknownStudyError: no study has that name.
        NoResultError: the trial does not exist or is not complete.
    """

    def find(connection: Connection) -> BestTrial:
        study = read_study(connection, name, database)
        row = connection.execute(best_query(study, None).where(trials.c.number == number)).one_or_none()
        if row is None:
            raise NoResultError(
                f"study {name!r} has no complete trial {number}: hpo trials --study {name} lists them"
            )
        return _best_trial(connection, study, row)

    return database.transaction(find)


def trial_rows_of(connection: Connection, study_id: int) -> list[TrialRow]:
    """Read the rows of `trial_rows` inside a transaction."""
    spent = (
        select(
            attempts.c.reservation_id,
            func.count().filter(attempts.c.device != NEXT).label("attempts"),
            func.sum(seconds_of_attempt()).label("seconds"),
            func.bool_or(and_(live_attempt(), attempts.c.device != NEXT)).label("live"),
        )
        .select_from(attempts.join(trials))
        .where(trials.c.study_id == study_id)
        .group_by(attempts.c.reservation_id)
        .subquery()
    )
    query = (
        select(
            trials.c.number,
            trials.c.outcome,
            trials.c.value,
            trials.c.epochs,
            func.coalesce(studies.c.spec["epochs"].astext.cast(Integer), 0).label("total"),
            trials.c.params,
            trials.c.lost,
            trials.c.error,
            trials.c.created_at,
            spent.c.attempts,
            cast(spent.c.seconds, Float).label("seconds"),
            spent.c.live,
        )
        .select_from(trials.join(studies).outerjoin(spent, spent.c.reservation_id == trials.c.reservation_id))
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number.nulls_last(), trials.c.ordinal)
    )
    notes = read_notes(connection, study_id)
    return [
        TrialRow(
            number=row.number,
            state=row.outcome or (RUNNING if row.live else WAITING),
            why=why_ended(row.outcome, row.epochs, row.total, row.lost, row.error),
            value=row.value,
            epochs=row.epochs,
            seconds=max(0.0, row.seconds or 0.0),
            attempts=row.attempts or 0,
            params=row.params or {},
            created_at=row.created_at,
            note=notes.get(row.number, ""),
        )
        for row in connection.execute(query)
    ]


def trained_on(
    connection: Connection, study_id: int, numbers: Sequence[int]
) -> dict[int, tuple[str, Mapping[str, str]]]:
    """Return the device and the agent's versions of the process that trained each trial's last epoch, by number."""
    query = (
        select(trials.c.number, attempts.c.device, agents.c.versions)
        .select_from(attempts.join(trials).join(agents))
        .where(
            trials.c.study_id == study_id,
            trials.c.number.in_(numbers),
            or_(attempts.c.outcome == Outcome.COMPLETE, attempts.c.epochs > 0),
        )
        # An attempt that found the last epoch in a checkpoint has trained none itself.
        .order_by(attempts.c.epochs > 0, attempts.c.attempt_id)
    )
    return {row.number: (row.device, row.versions) for row in connection.execute(query)}


def why_ended(outcome: Outcome | None, completed: int, total: int, lost: int, error: str | None) -> str:
    """Explain the outcome of a trial after `completed` of `total` epochs; empty while the trial is open."""
    after = f"after epoch {completed}" if completed else "in the first epoch"
    explanation = {
        None: "",
        Outcome.COMPLETE: "trained to the end" if completed >= total else f"ended itself {after}",
        Outcome.PRUNED: f"pruned {after}",
        Outcome.DIVERGED: f"diverged {after}",
        Outcome.OUT_OF_MEMORY: f"out of memory {after}",
        Outcome.TIMED_OUT: f"timed out {after}",
        Outcome.INFEASIBLE: f"infeasible {after}" if completed else "infeasible",
        Outcome.BUG: f"error {after}",
        Outcome.LOST: f"lost {lost} times",
        Outcome.HUNG: f"made no progress {after}",
    }.get(outcome, str(outcome))
    detail = " ".join((error or "").split())
    if not detail or outcome in (None, Outcome.COMPLETE):
        return explanation
    return detail if outcome in (Outcome.LOST, Outcome.HUNG) else f"{explanation}: {detail}"


def best_query(study: StoredStudy, limit: int | None = 1) -> Select[Any]:
    """Select the `limit` best complete trials, best first; all of them if None."""
    order = trials.c.value.desc() if study.maximize else trials.c.value.asc()
    return (
        select(trials)
        .where(trials.c.study_id == study.study_id, may_be_best(), trials.c.number.is_not(None))
        .order_by(order, trials.c.number)
        .limit(limit)
    )


def _best(connection: Connection, study: StoredStudy, limit: int) -> list[BestTrial]:
    # Parameters may occur more than once, so several distinct ones require all rows.
    found: dict[str, BestTrial] = {}
    for row in connection.execute(best_query(study, 1 if limit == 1 else None)):
        if len(found) == limit:
            break
        key = identity(row.params or {})
        if key not in found:
            found[key] = _best_trial(connection, study, row)
    if not found:
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        raise NoResultError(
            f"study {study.name!r} has no complete trial among its {number or 0} yet: "
            f"hpo status --study {study.name} shows its progress"
        )
    return list(found.values())


def _best_trial(connection: Connection, study: StoredStudy, row: Any) -> BestTrial:
    metrics = connection.scalar(
        select(epochs.c.metrics)
        .where(epochs.c.reservation_id == row.reservation_id)
        .order_by(epochs.c.epoch.desc())
        .limit(1)
    )
    return BestTrial(
        study=study.name,
        objective=study.objective,
        number=row.number,
        value=row.value,
        metric=study.metric,
        direction=str(study.spec_json["direction"]),
        params=row.params or {},
        epochs=row.epochs,
        seed=row.seed,
        metrics={name: float(value) for name, value in (metrics or {}).items()},
        better_added=better_added(connection, study, row.value),
    )
