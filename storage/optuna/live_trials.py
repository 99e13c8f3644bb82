"""Writes of an attempt to its trial in Optuna's tables: each takes effect only while the attempt is live.

They do what Optuna's storage does, and are guarded and written with our own rows in one statement or transaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, text

from storage.attempts import HELD, LeaseLostError

_OPEN = (
    f"{HELD}, open AS (SELECT t.reservation_id, t.trial_id FROM held JOIN hpo.trials t USING (reservation_id)"
    " JOIN public.trials o USING (trial_id) WHERE o.state = 'RUNNING')"
)
"""The attempt's trial if it is open in Optuna."""
_FOUND = " SELECT EXISTS (SELECT FROM held) AS held, EXISTS (SELECT FROM open) AS open"


def set_param(
    connection: Connection,
    attempt_id: int,
    name: str,
    internal: float,
    distribution: str,
    params: Mapping[str, Any],
) -> bool:
    """Add a parameter to the attempt's trial, whose parameters are `params` then; return False if it is closed.

    `internal` is the value in Optuna's internal form, `distribution` JSON. A value that Optuna has already is kept.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    statement = (
        f"{_OPEN}, written AS (INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)"
        "  SELECT trial_id, :name, :value, :distribution FROM open ON CONFLICT (trial_id, param_name) DO NOTHING),"
        " kept AS (UPDATE hpo.trials t SET params = CAST(:params AS json) FROM open"
        f"  WHERE t.reservation_id = open.reservation_id) {_FOUND}"
    )
    values = {
        "name": name,
        "value": internal,
        "distribution": distribution,
        "params": json.dumps(dict(params)),
    }
    return _write(connection, statement, attempt_id, values)


def set_attribute(
    connection: Connection,
    attempt_id: int,
    kind: Literal["user", "system"],
    key: str,
    value: Any,
    *,
    once: bool,
) -> bool:
    """Set an attribute of the attempt's trial, `once` for good; return False if the trial is closed.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    again = "NOTHING" if once else "UPDATE SET value_json = excluded.value_json"
    statement = (
        f"{_OPEN}, written AS (INSERT INTO public.trial_{kind}_attributes (trial_id, key, value_json)"
        f"  SELECT trial_id, :key, :value FROM open ON CONFLICT (trial_id, key) DO {again}) {_FOUND}"
    )
    return _write(connection, statement, attempt_id, {"key": key, "value": json.dumps(value)})


def report(connection: Connection, attempt_id: int, values: Mapping[int, float]) -> bool:
    """Report the objective's metric, by step, of the attempt's trial; return False if the trial is closed.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    statement = (
        f"{_OPEN}, written AS (INSERT INTO public.trial_intermediate_values"
        "  (trial_id, step, intermediate_value, intermediate_value_type)"
        "  SELECT open.trial_id, given.step, given.value, CAST(given.kind AS trialintermediatevaluetype) FROM open,"
        "  unnest(CAST(:steps AS integer[]), CAST(:values AS float8[]), CAST(:kinds AS text[]))"
        "   AS given (step, value, kind)"
        "  ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value,"
        f"  intermediate_value_type = excluded.intermediate_value_type) {_FOUND}"
    )
    given = {
        "steps": list(values),
        "values": [value if math.isfinite(value) else None for value in values.values()],
        "kinds": [_kind(value) for value in values.values()],
    }
    return _write(connection, statement, attempt_id, given)


def first_distribution(connection: Connection, study_id: int, name: str) -> str | None:
    """Return the distribution that a parameter has in a trial of the study, as JSON; None if no trial has it."""
    found: str | None = connection.execute(
        text(
            "SELECT p.distribution_json FROM public.trial_params p JOIN public.trials t USING (trial_id)"
            " WHERE t.study_id = :s AND p.param_name = :n LIMIT 1"
        ),
        {"s": study_id, "n": name},
    ).scalar_one_or_none()
    return found


def _kind(value: float) -> str:
    """Return Optuna's name of the kind of a value, of which only finite ones are stored as numbers."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INF_POS" if value > 0 else "INF_NEG"
    return "FINITE"


def _write(connection: Connection, statement: str, attempt_id: int, values: Mapping[str, Any]) -> bool:
    found = connection.execute(text(statement), {"a": attempt_id, **values}).one()
    if not found.held:
        raise LeaseLostError
    return bool(found.open)
