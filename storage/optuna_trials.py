"""Optuna's trials that were created for reservations."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text

RESERVATION_ATTRIBUTE = "hpo_token"
"""User attribute of a trial: the id of the reservation that it was created for."""


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
