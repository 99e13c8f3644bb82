"""Reads of single trials and their epochs, and of trials that were decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.outcomes import COUNTED, Outcome
from storage.attempts import NEXT, read_metrics


def best_trial(connection: Connection, study_id: int, *, maximize: bool) -> Row[Any] | None:
    """Return reservation_id, number, value and params of the best complete trial, the earliest of equals."""
    order = "DESC" if maximize else "ASC"
    return connection.execute(
        text(
            "SELECT reservation_id, number, value, params FROM hpo.trials"
            " WHERE study_id = :s AND outcome = :complete AND value IS NOT NULL"
            f" ORDER BY value {order}, number LIMIT 1"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE},
    ).one_or_none()


def trial_of_optuna(connection: Connection, trial_id: int) -> Row[Any] | None:
    """Return reservation_id, number, study_id and the study's spec of the trial with Optuna's id `trial_id`."""
    return connection.execute(
        text(
            "SELECT t.reservation_id, t.number, t.study_id, s.spec FROM hpo.trials t"
            " JOIN hpo.studies s USING (study_id) WHERE t.trial_id = :t"
        ),
        {"t": trial_id},
    ).one_or_none()


def states(connection: Connection, study_id: int) -> dict[int, tuple[str, str]]:
    """Return outcome and error of each trial that did not complete, by Optuna's trial_id.

    In place of an outcome, an open trial has `running` if a slot trains it, else `paused` or `waiting`.
    """
    rows = connection.execute(
        text(
            "SELECT trial_id, coalesce(error, '') AS error, coalesce(outcome, CASE WHEN EXISTS"
            " (SELECT 1 FROM hpo.attempts a WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL"
            " AND a.lease_until > clock_timestamp() AND a.device <> :next) THEN 'running'"
            " WHEN t.paused_epoch IS NOT NULL THEN 'paused' ELSE 'waiting' END) AS state"
            " FROM hpo.trials t WHERE study_id = :s AND trial_id IS NOT NULL AND outcome IS DISTINCT FROM :complete"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE, "next": NEXT},
    )
    return {row.trial_id: (row.state, row.error) for row in rows}


def epochs_of(connection: Connection, reservation_id: int) -> dict[int, dict[str, float]]:
    """Return the metrics of each epoch of a trial, in order."""
    rows = connection.execute(
        text("SELECT epoch, metrics FROM hpo.epochs WHERE reservation_id = :t ORDER BY epoch"),
        {"t": reservation_id},
    )
    return {row.epoch: read_metrics(row.metrics) for row in rows}


def median_epoch_seconds(connection: Connection, study_id: int) -> float | None:
    """Return the median time of an epoch of a study; None before its first one."""
    found: float | None = connection.execute(
        text(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY e.seconds) FROM hpo.epochs e"
            " JOIN hpo.trials t USING (reservation_id) WHERE t.study_id = :s"
        ),
        {"s": study_id},
    ).scalar_one()
    return found


def median_start_seconds(connection: Connection, study_id: int) -> float:
    """Return the median time of a trial that is not part of its epochs, of trials that were trained without a break."""
    found: float | None = connection.execute(
        text(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY greatest(a.seconds - e.seconds, 0)) FROM hpo.trials t"
            " CROSS JOIN LATERAL (SELECT sum(seconds) AS seconds FROM hpo.epochs"
            "   WHERE reservation_id = t.reservation_id) AS e"
            " CROSS JOIN LATERAL (SELECT max(extract(epoch FROM ended_at - started_at)) AS seconds, count(*) AS number"
            "   FROM hpo.attempts WHERE reservation_id = t.reservation_id AND held_seconds IS NULL) AS a"
            " WHERE t.study_id = :s AND t.outcome = :complete AND a.number = 1"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE},
    ).scalar_one()
    return float(found or 0.0)


def most_epochs(connection: Connection, study_id: int) -> int:
    """Return the number of epochs of the longest trial."""
    found: int = connection.execute(
        text("SELECT coalesce(max(epochs), 0) FROM hpo.trials WHERE study_id = :s"), {"s": study_id}
    ).scalar_one()
    return found


def counted_params(connection: Connection, study_id: int) -> list[Mapping[str, Any]]:
    """Return the parameters of the trials that count towards the budget."""
    rows = connection.execute(
        text(
            "SELECT params FROM hpo.trials WHERE study_id = :s AND params IS NOT NULL AND outcome = ANY(:counted)"
        ),
        {"s": study_id, "counted": list(COUNTED)},
    )
    return list(rows.scalars())


def ranked_params(connection: Connection, study_id: int, *, maximize: bool) -> list[Mapping[str, Any]]:
    """Return the parameters of the trials that count towards the budget, the best first.

    Complete trials come before those that were cut short, of which those with more epochs are better, and before those
    whose configuration cannot work.
    """
    order = "DESC" if maximize else "ASC"
    rows = connection.execute(
        text(
            "SELECT params FROM hpo.trials WHERE study_id = :s AND params IS NOT NULL AND outcome = ANY(:counted)"
            " ORDER BY outcome = ANY(:infeasible) OR value IS NULL OR value::text = ANY(:not_finite),"
            " outcome <> :complete, CASE WHEN outcome = :complete THEN 0 ELSE -epochs END,"
            f" value {order}, number"
        ),
        {
            "s": study_id,
            "counted": list(COUNTED),
            "infeasible": [outcome for outcome in COUNTED if outcome.is_infeasible],
            "not_finite": ["NaN", "Infinity", "-Infinity"],
            "complete": Outcome.COMPLETE,
        },
    )
    return list(rows.scalars())


def now(connection: Connection) -> datetime:
    """Return the time by the database's clock."""
    found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found


def decided(connection: Connection, study_id: int) -> set[int]:
    """Return the reservation ids of all decided trials."""
    rows = connection.execute(
        text("SELECT reservation_id FROM hpo.trials WHERE study_id = :s AND outcome IS NOT NULL"),
        {"s": study_id},
    )
    return set(rows.scalars())


def decided_after(
    connection: Connection, study_id: int, since: datetime, overlap: float
) -> Sequence[Row[Any]]:
    """Return the trials decided later than `overlap` seconds before `since`; `seconds` is their last attempt's time."""
    return connection.execute(
        text(
            "SELECT t.reservation_id, t.number, t.outcome, t.value, t.epochs, t.params, t.error, t.decided_at,"
            " (SELECT extract(epoch FROM a.ended_at - a.started_at)::float8 FROM hpo.attempts a"
            "  WHERE a.reservation_id = t.reservation_id ORDER BY a.attempt_id DESC LIMIT 1) AS seconds"
            " FROM hpo.trials t WHERE t.study_id = :s AND t.outcome IS NOT NULL"
            " AND t.decided_at > CAST(:since AS timestamptz) - :overlap * interval '1 second'"
            " ORDER BY t.decided_at"
        ),
        {"s": study_id, "since": since, "overlap": overlap},
    ).all()
