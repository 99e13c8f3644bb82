"""Trials that are closed in Optuna's tables, and opened again: in statements of ours, as `study.tell` closes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome

NOW = "clock_timestamp() AT TIME ZONE 'UTC'"
"""SQL of the present time as Optuna stores it."""

_VALUED = (
    # A pruned trial gets its last report as its value, whatever its agent knows.
    " last AS (SELECT DISTINCT ON (trial_id) r.* FROM public.trial_intermediate_values r JOIN closed USING (trial_id)"
    "  WHERE closed.state = 'PRUNED' ORDER BY trial_id, step DESC),"
    " valued AS (INSERT INTO public.trial_values (trial_id, objective, value, value_type)"
    "  SELECT trial_id, 0, intermediate_value, CAST(CAST(intermediate_value_type AS text) AS trialvaluetype)"
    "   FROM last WHERE intermediate_value_type <> 'NAN'"
    "  UNION ALL SELECT trial_id, 0, CAST(:v AS float8), 'FINITE' FROM closed WHERE state = 'COMPLETE'"
    "  ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = excluded.value_type)"
)
"""SQL that gives the trials `closed` their values: a complete one `:v`, a pruned one its last report."""

TELLS = (
    "CAST(:state AS text) IS NOT NULL"
    " AND EXISTS (SELECT FROM public.trials o WHERE o.trial_id = t.trial_id AND o.state <> 'WAITING')"
)
"""SQL: whether Optuna knows the outcome of the trial `t` after `CLOSE`."""

CLOSE = (
    f" closed AS (UPDATE public.trials o SET state = CAST(:state AS trialstate), datetime_complete = {NOW} FROM decided"
    "  WHERE o.trial_id = decided.trial_id AND o.state = 'RUNNING' AND CAST(:state AS text) IS NOT NULL"
    f"  RETURNING o.trial_id, o.state),{_VALUED}"
)
"""Parts of a statement that close the trials `decided`, with the state of `closing_state` and the value `:v`."""


def closing_state(outcome: Outcome, value: float | None) -> str | None:
    """Return the state in which `CLOSE` closes a trial; None if Optuna gets the outcome by another way.

    That takes a constraint of its own for a configuration that the sampler should avoid.
    """
    if outcome.is_infeasible or (outcome is Outcome.COMPLETE and value is None):
        return None
    return outcome.optuna_state


def prune(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Close open trials as pruned, all at once."""
    values: dict[str, Any] = {"ids": list(trial_ids), "state": "PRUNED", "v": None}
    decided = "WITH decided AS (SELECT unnest(CAST(:ids AS integer[])) AS trial_id),"
    connection.execute(text(f"{decided}{CLOSE} SELECT 1"), values)


def reopen(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Open trials again, with their reports: Optuna itself never changes a trial that it has closed."""
    connection.execute(
        text(
            "WITH opened AS (UPDATE public.trials SET state = 'RUNNING', datetime_complete = NULL"
            "  WHERE trial_id = ANY(:ids) AND state IN ('PRUNED', 'COMPLETE') RETURNING trial_id)"
            " DELETE FROM public.trial_values v USING opened WHERE v.trial_id = opened.trial_id"
        ),
        {"ids": list(trial_ids)},
    )
