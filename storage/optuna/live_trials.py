"""Writes of an attempt to its trial in Optuna's tables: each takes effect only while the attempt is live.

They do what Optuna's storage does, and are guarded and written with our own rows in one statement or transaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from storage.attempts import HELD, RECORD, LeaseLostError, recorded
from storage.connection.prepared import prepared

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


def set_params(
    connection: Connection,
    attempt_id: int,
    internal: Mapping[str, float],
    distributions: Mapping[str, str],
    params: Mapping[str, Any],
) -> bool | None:
    """Add parameters to the attempt's trial, whose parameters are `params` then; return None if it is closed.

    Values are in Optuna's internal form, distributions JSON. Where Optuna has one of them already, it stays, and False
    is returned: `params` are not kept then.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    statement = (
        f"{_OPEN}, written AS (INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)"
        "  SELECT trial_id, given.name, given.value, given.distribution FROM open,"
        "  unnest(CAST(:names AS text[]), CAST(:values AS float8[]), CAST(:distributions AS text[]))"
        "   WITH ORDINALITY AS given (name, value, distribution, place) ORDER BY place"
        "  ON CONFLICT (trial_id, param_name) DO NOTHING RETURNING 1),"
        " complete AS (SELECT count(*) = cardinality(CAST(:names AS text[])) AS complete FROM written),"
        " kept AS (UPDATE hpo.trials t SET params = CAST(:params AS json) FROM open, complete"
        f"  WHERE t.reservation_id = open.reservation_id AND complete) {_FOUND}, complete FROM complete"
    )
    values = {
        "names": list(internal),
        "values": list(internal.values()),
        "distributions": [distributions[name] for name in internal],
        "params": json.dumps(dict(params)),
    }
    found = _written(connection, statement, attempt_id, values)
    return bool(found.complete) if found.open else None


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


_REPORT = (
    " written_reports AS (INSERT INTO public.trial_intermediate_values"
    "  (trial_id, step, intermediate_value, intermediate_value_type)"
    "  SELECT open.trial_id, given.step, given.value, CAST(given.kind AS trialintermediatevaluetype) FROM open,"
    "  unnest(CAST(:steps AS integer[]), CAST(:values AS float8[]), CAST(:kinds AS text[]),"
    "   CAST(:of_epochs AS integer[])) AS given (step, value, kind, epoch) {condition}"
    "  ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value,"
    "  intermediate_value_type = excluded.intermediate_value_type)"
)


def report(connection: Connection, attempt_id: int, values: Mapping[int, float]) -> bool:
    """Report the objective's metric, by step, of the attempt's trial; return False if the trial is closed.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    statement = f"{_OPEN},{_REPORT.format(condition='')} {_FOUND}"
    return _write(
        connection, statement, attempt_id, _reports({step: (0, value) for step, value in values.items()})
    )


_RECORD = prepared(
    f"{RECORD}, open AS (SELECT t.trial_id FROM held JOIN hpo.trials t USING (reservation_id)"
    "  JOIN public.trials o USING (trial_id) WHERE o.state = 'RUNNING'),"
    f"{_REPORT.format(condition='WHERE given.epoch IN (SELECT epoch FROM written)')}"
    " SELECT (SELECT count(*) FROM written) AS written, EXISTS (SELECT FROM open) AS open FROM held"
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Epochs that were stored together with their reports."""

    complete: bool
    """Whether all of them count; else some are known from an earlier write, and are not reported."""
    open: bool
    """Whether the trial is open in Optuna."""


def record(
    connection: Connection,
    attempt_id: int,
    epochs: Mapping[int, tuple[Mapping[str, float], float]],
    reports: Mapping[int, tuple[int, float]],
) -> Recorded:
    """Store epochs (metrics and seconds by epoch) of an attempt, and report values (epoch and value by step) of theirs.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    given = _reports(reports)
    row = connection.execute(_RECORD, recorded(attempt_id, epochs) | given).one_or_none()
    if row is None:
        raise LeaseLostError
    return Recorded(complete=row.written == len(epochs), open=row.open)


def _reports(reports: Mapping[int, tuple[int, float]]) -> dict[str, Any]:
    """Return the values of `_REPORT` for the epoch and value of each step."""
    values = [value for _, value in reports.values()]
    return {
        "steps": list(reports),
        "values": [value if math.isfinite(value) else None for value in values],
        "kinds": [_kind(value) for value in values],
        "of_epochs": [epoch for epoch, _ in reports.values()],
    }


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
    return bool(_written(connection, statement, attempt_id, values).open)


def _written(connection: Connection, statement: str, attempt_id: int, values: Mapping[str, Any]) -> Row[Any]:
    found = connection.execute(prepared(statement), {"a": attempt_id, **values}).one()
    if not found.held:
        raise LeaseLostError
    return found
