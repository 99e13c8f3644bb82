"""The trials of a study as rows, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Float, Select, cast, func, select

from hpo.errors import NoResultError
from hpo.study.catalog import StudyRow, read_study
from hpo.study.json_row import Shown
from hpo.study.predicates import live_attempt, may_be_best, seconds_of_attempt
from storage.budget import NEXT
from storage.tables import attempts, epochs, trials

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True)
class TrialRow(Shown):
    """One line of `hpo trials`."""

    number: int | None
    """Optuna's; None while the trial is being created."""
    state: str
    """The outcome, or `running` or `waiting` while there is none."""
    why: str
    """Why it ended, in words; empty while it is open."""
    value: float | None
    epochs: int
    seconds: float
    """Spent in all its attempts."""
    attempts: int
    params: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class BestTrial(Shown):
    """`hpo best`: the complete trial with the best value; the earlier one of equals."""

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
    """All that it reported after its last epoch."""


def trial_rows(database: Database, name: str) -> list[TrialRow]:
    """Every trial of a study, by number.

    Raises:
        UnknownStudyError: there is none of that name.
    """
    return database.transaction(
        lambda connection: trial_rows_of(connection, read_study(connection, name, database).study_id)
    )


def sorted_trials(database: Database, name: str, by: str) -> list[TrialRow]:
    """Every trial of a study: the best `value` first, or the most `seconds`; what has none comes last.

    Raises:
        UnknownStudyError: there is none of that name.
    """

    def read(connection: Connection) -> list[TrialRow]:
        study = read_study(connection, name, database)
        rows = trial_rows_of(connection, study.study_id)
        if by == "seconds":
            return sorted(rows, key=lambda row: -row.seconds)
        sign = -1 if study.maximize else 1
        return sorted(rows, key=lambda row: _last_if_none(row.value, sign))

    return database.transaction(read)


def _last_if_none(value: float | None, sign: int) -> tuple[bool, float]:
    missing = value is None or not math.isfinite(value)
    return missing, 0.0 if value is None or missing else sign * value


def best_trial(database: Database, name: str) -> BestTrial:
    """The best complete trial.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete.
    """
    return best_trials(database, name, 1)[0]


def best_trials(database: Database, name: str, most: int) -> list[BestTrial]:
    """Up to `most` complete trials of different configurations, the best first.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: none of its trials is complete.
    """
    return database.transaction(
        lambda connection: _best(connection, read_study(connection, name, database), most)
    )


def complete_trial(database: Database, name: str, number: int) -> BestTrial:
    """One complete trial by its number.

    Raises:
        UnknownStudyError: there is no study of that name.
        NoResultError: it has no such trial, or the trial is not complete.
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
    """`trial_rows` inside a transaction."""
    spent = (
        select(
            attempts.c.token,
            func.count().filter(attempts.c.device != NEXT).label("attempts"),
            func.sum(seconds_of_attempt()).label("seconds"),
            func.bool_or(live_attempt()).label("live"),
        )
        .select_from(attempts.join(trials, attempts.c.token == trials.c.token))
        .where(trials.c.study_id == study_id)
        .group_by(attempts.c.token)
        .subquery()
    )
    query = (
        select(
            trials.c.number,
            trials.c.outcome,
            trials.c.value,
            trials.c.epochs,
            trials.c.params,
            trials.c.lost,
            trials.c.error,
            trials.c.created_at,
            spent.c.attempts,
            cast(spent.c.seconds, Float).label("seconds"),
            spent.c.live,
        )
        .select_from(trials.outerjoin(spent, spent.c.token == trials.c.token))
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number.nulls_last(), trials.c.ordinal)
    )
    return [
        TrialRow(
            number=row.number,
            state=row.outcome or ("running" if row.live else "waiting"),
            why=why_ended(row.outcome, row.epochs, row.lost, row.error),
            value=row.value,
            epochs=row.epochs,
            seconds=max(0.0, row.seconds or 0.0),
            attempts=row.attempts or 0,
            params=row.params or {},
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]


def why_ended(outcome: str | None, completed: int, lost: int, error: str | None) -> str:
    """A trial's outcome in words; empty while it is open."""
    after = f"after epoch {completed}" if completed else "in the first epoch"
    words = {
        None: "",
        "complete": "trained to the end",
        "pruned": f"pruned {after}",
        "diverged": f"diverged {after}",
        "oom": f"out of memory {after}",
        "bug": f"error {after}",
        "lost": f"lost {lost} times",
        "hung": f"made no progress {after}",
    }.get(outcome, str(outcome))
    detail = " ".join((error or "").split())
    if not detail or outcome in (None, "complete", "pruned"):
        return words
    return detail if outcome in ("lost", "hung") else f"{words}: {detail}"


def best_query(study: StudyRow, most: int | None = 1) -> Select[Any]:
    """The `most` best complete trials, best first; all of them when None."""
    order = trials.c.value.desc() if study.maximize else trials.c.value.asc()
    return (
        select(trials)
        .where(trials.c.study_id == study.study_id, may_be_best(), trials.c.number.is_not(None))
        .order_by(order, trials.c.number)
        .limit(most)
    )


def _best(connection: Connection, study: StudyRow, most: int) -> list[BestTrial]:
    # A configuration may have been tried more than once: all are looked at only where several are wanted.
    found: list[BestTrial] = []
    for row in connection.execute(best_query(study, 1 if most == 1 else None)):
        if len(found) == most:
            break
        if all(one.params != (row.params or {}) for one in found):
            found.append(_best_trial(connection, study, row))
    if not found:
        number = connection.scalar(
            select(func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
        )
        raise NoResultError(
            f"study {study.name!r} has no complete trial among its {number or 0} yet: "
            f"hpo status --study {study.name} shows where it stands"
        )
    return found


def _best_trial(connection: Connection, study: StudyRow, row: Any) -> BestTrial:
    metrics = connection.scalar(
        select(epochs.c.metrics).where(epochs.c.token == row.token).order_by(epochs.c.epoch.desc()).limit(1)
    )
    return BestTrial(
        study=study.name,
        objective=study.objective,
        number=row.number,
        value=row.value,
        metric=study.metric,
        direction=str(study.spec["direction"]),
        params=row.params or {},
        epochs=row.epochs,
        seed=row.seed,
        metrics={name: float(value) for name, value in (metrics or {}).items()},
    )
