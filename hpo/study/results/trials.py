"""Trials of a study as rows, and the best trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Float, Integer, and_, cast, func, or_, select

from hpo.formatting import JsonRow
from hpo.outcomes import Outcome
from hpo.study.catalog import read_study
from hpo.study.notes import read_notes
from hpo.study.predicates import live_attempt, seconds_of_attempt
from hpo.study.results.added_trials import read_added
from storage import figures, repeats
from storage.attempts import NEXT
from storage.freeze_thaw import pauses
from storage.tables import agents, attempts, studies, trials

if TYPE_CHECKING:
    from storage.engine import Database


RUNNING, WAITING, PAUSED = OPEN = ("running", "waiting", "paused")
"""States of trials without an outcome."""
ADDED = "added"
"""State of a result that was not trained here."""


@dataclass(frozen=True, kw_only=True)
class TrialRow(JsonRow):
    """One line of `hpo trials`."""

    number: int | None
    """Trial number in Optuna; None while the trial is being created."""
    state: str
    """Outcome; `running`, `waiting` or `paused` while the trial is open; `added` for a result not trained here."""
    why: str
    """Explanation of the outcome, of a pause or of a repeat; else empty."""
    value: float | None
    """Value by which it is judged; so far, if it is paused."""
    epochs: int
    seconds: float
    """Seconds spent in all attempts."""
    attempts: int
    params: Mapping[str, Any]
    created_at: datetime | None
    figures: Mapping[str, float] = field(default_factory=dict)
    """Figures that the study asks for, as far as they are known."""
    note: str = ""
    """Note of `hpo note` or of the dashboard."""


def trial_rows(database: Database, name: str) -> list[TrialRow]:
    """Return all trials of a study and those added with plain Optuna, ordered by number.

    Raises:
        UnknownStudyError: no study has that name.
    """
    return database.transaction(lambda c: rows_with_added(c, read_study(c, name, database).study_id))


def rows_with_added(connection: Connection, study_id: int) -> list[TrialRow]:
    """Return the rows of a study's trials and of those that only Optuna has, inside a transaction."""
    added, rows = added_rows(connection, study_id), trial_rows_of(connection, study_id)
    if not added:
        return rows
    return sorted([*rows, *added], key=lambda row: (row.number is None, row.number or 0))


def added_rows(connection: Connection, study_id: int) -> list[TrialRow]:
    """Return the rows of trials that only Optuna has, inside a transaction."""
    notes = read_notes(connection, study_id)
    return [
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


def sorted_trials(database: Database, name: str, by: str) -> list[TrialRow]:
    """Return all trials of a study, the best `value` or the most `seconds` first; missing values come last.

    Raises:
        UnknownStudyError: no study has that name.
    """

    def read(connection: Connection) -> list[TrialRow]:
        study = read_study(connection, name, database)
        rows = rows_with_added(connection, study.study_id)
        if by == "seconds":
            return sorted(rows, key=lambda row: -row.seconds)
        sign = -1 if study.maximize else 1
        return sorted(rows, key=lambda row: _missing_last(row.value, sign))

    return database.transaction(read)


def _missing_last(value: float | None, sign: int) -> tuple[bool, float]:
    missing = value is None or not math.isfinite(value)
    return missing, 0.0 if value is None or missing else sign * value


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
            trials.c.reservation_id,
            trials.c.trial_id,
            trials.c.number,
            trials.c.outcome,
            trials.c.value,
            trials.c.epochs,
            func.coalesce(studies.c.spec["epochs"].astext.cast(Integer), 0).label("total"),
            trials.c.params,
            trials.c.lost,
            trials.c.error,
            trials.c.paused_epoch,
            trials.c.created_at,
            spent.c.attempts,
            cast(spent.c.seconds, Float).label("seconds"),
            spent.c.live,
        )
        .select_from(trials.join(studies).outerjoin(spent, spent.c.reservation_id == trials.c.reservation_id))
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number.nulls_last(), trials.c.ordinal)
    )
    notes, known = read_notes(connection, study_id), figures.of_trials(connection, study_id)
    repeated = repeats.originals(connection, study_id)
    rows = connection.execute(query).all()
    has_paused = any(row.outcome is None and row.paused_epoch is not None for row in rows)
    so_far = pauses.values_so_far(connection, study_id) if has_paused else {}
    return [
        TrialRow(
            number=row.number,
            state=row.outcome or (RUNNING if row.live else WAITING if row.paused_epoch is None else PAUSED),
            why="; ".join(filter(None, (_repeats(repeated.get(row.number)), _why(row)))),
            value=row.value if row.outcome is not None else so_far.get(row.reservation_id),
            epochs=row.epochs,
            seconds=max(0.0, row.seconds or 0.0),
            attempts=row.attempts or 0,
            params=row.params or {},
            created_at=row.created_at,
            figures=known.get(row.trial_id, {}),
            note=notes.get(row.number, ""),
        )
        for row in rows
    ]


def _repeats(number: int | None) -> str:
    return "" if number is None else f"repeats trial {number}"


def _why(row: Any) -> str:
    ended = why_ended(row.outcome, row.epochs, row.total, row.lost, row.error)
    return ended or ("" if row.paused_epoch is None else f"paused after epoch {row.paused_epoch}")


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
        Outcome.REJECTED: "not trained",
        Outcome.BUG: f"error {after}",
        Outcome.LOST: f"lost {lost} times",
        Outcome.HUNG: f"made no progress {after}",
    }.get(outcome, str(outcome))
    detail = " ".join((error or "").split())
    if not detail or outcome in (None, Outcome.COMPLETE):
        return explanation
    return detail if outcome in (Outcome.LOST, Outcome.HUNG) else f"{explanation}: {detail}"
