"""Optuna's trials of reservations: those that were created, those still to be reported, and strays."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage import attempts, budget

RESERVATION_ATTRIBUTE = "hpo_token"
"""User attribute of a trial: the id of the reservation that it was created for."""
REFUSAL_ATTRIBUTE = "hpo_refused"
"""User attribute of an enqueued trial that was refused: the reason."""

IMPORT_ATTRIBUTE = "hpo_imported"
"""User attribute of a trial that was added as history: its file or study."""


@dataclass(frozen=True)
class PendingTell:
    """A decided trial that is still open in Optuna."""

    reservation_id: int
    trial_id: int
    number: int
    outcome: Outcome
    value: float | None


def find(connection: Connection, study_id: int, number: int) -> int | None:
    """Return the id of a study's trial; None if it has no trial of that number."""
    return connection.execute(
        text("SELECT trial_id FROM public.trials WHERE study_id = :s AND number = :n"),
        {"s": study_id, "n": number},
    ).scalar_one_or_none()


def find_created(connection: Connection, study_id: int, reservation_id: int) -> tuple[int, int] | None:
    """Return id and number of the open Optuna trial created for a reservation, if there is one.

    Of two such trials, one may have been closed as a stray.
    """
    row = connection.execute(
        text(
            "SELECT t.trial_id, t.number FROM trials t JOIN trial_user_attributes u USING (trial_id)"
            " WHERE t.study_id = :s AND t.state = 'RUNNING' AND u.key = :k AND u.value_json = :v"
            " ORDER BY t.trial_id LIMIT 1"
        ),
        {"s": study_id, "k": RESERVATION_ATTRIBUTE, "v": json.dumps(reservation_id)},
    ).one_or_none()
    return (row.trial_id, row.number) if row is not None else None


def attached(connection: Connection, reservation_id: int) -> tuple[int, int] | None:
    """Return id and number of the Optuna trial that a reservation has, if it has one."""
    row = connection.execute(
        text(
            "SELECT trial_id, number FROM hpo.trials WHERE reservation_id = :r AND trial_id IS NOT NULL"
            " AND number IS NOT NULL"
        ),
        {"r": reservation_id},
    ).one_or_none()
    return (row.trial_id, row.number) if row is not None else None


def next_enqueued(connection: Connection, study_id: int) -> tuple[int, int] | None:
    """Return id and number of the earliest trial that plain Optuna enqueued and that no reservation has."""
    row = connection.execute(
        text(
            "SELECT t.trial_id, t.number FROM trials t WHERE t.study_id = :s AND t.state = 'WAITING'"
            " AND NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
            " ORDER BY t.number LIMIT 1"
        ),
        {"s": study_id},
    ).one_or_none()
    return (row.trial_id, row.number) if row is not None else None


def count_enqueued(connection: Connection, study_id: int) -> int:
    """Return the number of trials that wait in Optuna for a place in the budget."""
    found: int = connection.execute(
        text(
            "SELECT count(*) FROM trials t WHERE t.study_id = :s AND t.state = 'WAITING'"
            " AND NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
        ),
        {"s": study_id},
    ).scalar_one()
    return found


def take_enqueued(connection: Connection, study_id: int, attempt_id: int, trial_id: int, number: int) -> bool:
    """Make an enqueued trial that of the attempt's reservation; return False if another has it or it was withdrawn.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    budget.lock_study(connection, study_id)
    reservation_id = attempts.guard(connection, attempt_id)
    taken = connection.execute(
        text("SELECT reservation_id FROM hpo.trials WHERE trial_id = :t"), {"t": trial_id}
    ).scalar_one_or_none()
    waiting = text("SELECT state = 'WAITING' FROM public.trials WHERE trial_id = :t")
    if taken not in (None, reservation_id):
        return False
    if taken is None and not connection.execute(waiting, {"t": trial_id}).scalar_one_or_none():
        return False
    attempts.attach(connection, attempt_id, trial_id, number, None)
    return True


def withdraw(connection: Connection, study_id: int, number: int, reason: str) -> bool:
    """Fail an enqueued trial that no reservation has, with a reason; return False if there is none of that number."""
    budget.lock_study(connection, study_id)
    trial_id = connection.execute(
        text(
            "UPDATE public.trials t SET state = 'FAIL', datetime_complete = clock_timestamp() AT TIME ZONE 'UTC'"
            " WHERE t.study_id = :s AND t.number = :n AND t.state = 'WAITING'"
            " AND NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id) RETURNING t.trial_id"
        ),
        {"s": study_id, "n": number},
    ).scalar_one_or_none()
    if trial_id is None:
        return False
    connection.execute(
        text(
            "INSERT INTO public.trial_user_attributes (trial_id, key, value_json) VALUES (:t, :k, :v)"
            " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
        ),
        {"t": trial_id, "k": REFUSAL_ATTRIBUTE, "v": json.dumps(reason)},
    )
    return True


def stray_trials(connection: Connection, study_id: int) -> list[tuple[int, int]]:
    """Return id and number of running Optuna trials that belong to no reservation.

    They result from a creation that was repeated because its answer was lost. Trials without our
    attribute come from plain Optuna and are left alone.
    """
    rows = connection.execute(
        text(
            "SELECT t.trial_id, t.number FROM trials t"
            " JOIN trial_user_attributes u ON u.trial_id = t.trial_id AND u.key = :k"
            " JOIN hpo.trials h ON to_jsonb(h.reservation_id)::text = u.value_json"
            " WHERE t.study_id = :s AND t.state = 'RUNNING' AND h.trial_id IS DISTINCT FROM t.trial_id"
            " AND (h.trial_id IS NOT NULL OR h.outcome IS NOT NULL)"
        ),
        {"s": study_id, "k": RESERVATION_ATTRIBUTE},
    )
    return [(row.trial_id, row.number) for row in rows]


def pending_tells(connection: Connection, study_id: int, after_seconds: float = 0.0) -> list[PendingTell]:
    """Return trials decided at least that long ago and still open in Optuna, oldest first.

    A decision in the future counts as old: the database's clock was set back.
    """
    condition = (
        "t.study_id = :id AND (t.decided_at <= clock_timestamp() - :after * interval '1 second'"
        " OR t.decided_at > clock_timestamp())"
    )
    return _pending(connection, condition, study_id, after_seconds)


def pending_tell_of_attempt(connection: Connection, attempt_id: int) -> list[PendingTell]:
    """Return the attempt's trial, if it is decided and still open in Optuna."""
    condition = "t.reservation_id = (SELECT reservation_id FROM hpo.attempts WHERE attempt_id = :id)"
    return _pending(connection, condition, attempt_id)


def pending_tell_of_trial(connection: Connection, reservation_id: int) -> list[PendingTell]:
    """Return the trial of a reservation, if it is decided and still open in Optuna."""
    return _pending(connection, "t.reservation_id = :id", reservation_id)


def _pending(
    connection: Connection, condition: str, id: int, after_seconds: float = 0.0
) -> list[PendingTell]:
    rows = connection.execute(
        text(
            "SELECT t.reservation_id, t.trial_id, t.number, t.outcome, t.value FROM hpo.trials t"
            f" WHERE {condition} AND NOT t.told_optuna AND t.outcome IS NOT NULL AND t.trial_id IS NOT NULL"
            " ORDER BY t.reservation_id"
        ),
        {"id": id, "after": after_seconds},
    )
    return [
        PendingTell(row.reservation_id, row.trial_id, row.number, Outcome(row.outcome), row.value)
        for row in rows
    ]


def mark_told(connection: Connection, reservation_id: int) -> None:
    """Note that Optuna knows the outcome."""
    connection.execute(
        text("UPDATE hpo.trials SET told_optuna = true WHERE reservation_id = :t"), {"t": reservation_id}
    )
