"""Configurations of a study whose space is finite: each is given to one trial, under the lock on the study's row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import COUNTED
from storage import attempts, budget

Choose = Callable[[list[Mapping[str, Any]], list[Mapping[str, Any]]], Mapping[str, Any]]
"""Chooses a configuration, given those of failed trials and those of all others."""


def give(
    connection: Connection, study_id: int, attempt_id: int, trial_id: int, choose: Choose
) -> Mapping[str, Any]:
    """Give an attempt's trial a configuration, which `choose` returns; return it. Can be repeated.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    budget.lock_study(connection, study_id)
    reservation_id = attempts.guard(connection, attempt_id)
    rows = connection.execute(
        text(
            "SELECT coalesce(CAST(t.params AS text), a.value_json) AS params,"
            " (t.outcome IS NULL OR t.outcome = ANY(:counted)) AS kept FROM hpo.trials t"
            " LEFT JOIN public.trial_system_attributes a ON a.trial_id = t.trial_id AND a.key = 'fixed_params'"
            " WHERE t.study_id = :s AND t.reservation_id <> :t ORDER BY t.ordinal"
        ),
        {"s": study_id, "t": reservation_id, "counted": list(COUNTED)},
    ).all()
    known = [(json.loads(row.params), row.kept) for row in rows if row.params is not None]
    chosen = choose([one for one, kept in known if not kept], [one for one, kept in known if kept])
    connection.execute(
        text(
            "INSERT INTO public.trial_system_attributes (trial_id, key, value_json) VALUES (:t, 'fixed_params', :v)"
            " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
        ),
        {"t": trial_id, "v": json.dumps(dict(chosen))},
    )
    return chosen


def begun(connection: Connection, study_id: int) -> tuple[int, int]:
    """Return how many different configurations have finished or will, and how many trials have none yet."""
    row = connection.execute(
        text(
            "SELECT count(DISTINCT CAST(params AS text)) AS configurations,"
            " count(*) FILTER (WHERE params IS NULL) AS pending FROM hpo.trials"
            " WHERE study_id = :s AND (outcome IS NULL OR outcome = ANY(:counted))"
        ),
        {"s": study_id, "counted": list(COUNTED)},
    ).one()
    return row.configurations, row.pending
