"""Claims of new trials in one round trip: where nothing waits, a trial is reserved, leased and created in Optuna.

Most claims are of this kind. `storage.claiming.claims` makes all others, one decision after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from hpo.outcomes import FAILURES, Outcome
from hpo.search.freeze_thaw import NAME as FREEZE_THAW
from storage.claiming.claims import Claim
from storage.connection.prepared import prepared
from storage.optuna.closing import NOW
from storage.optuna.trials import RESERVATION_ATTRIBUTE

_GOALS = ", ".join(
    f"spec->>'{name}'" for name in ("target", "patience", "configurations", "max_epochs", "repeats", "design")
)
"""Options of a study that decide which trial begins next, or whether one does."""

_CLAIM = prepared(
    # Each statement sees what was committed before it, so the last one what was committed before the locks were held.
    "SELECT FROM hpo.studies WHERE study_id = :s FOR NO KEY UPDATE;"
    # Optuna itself locks this row to number a trial.
    "SELECT FROM public.studies WHERE study_id = :s FOR NO KEY UPDATE;"
    "WITH place AS (SELECT study_id, budget, CAST(coalesce(spec->>'seed', '0') AS bigint) AS seed,"
    "  (SELECT coalesce(max(ordinal) + 1, 0) FROM hpo.trials t WHERE t.study_id = :s) AS ordinal,"
    "  (SELECT count(*) FROM hpo.trials t WHERE t.study_id = :s AND outcome = ANY(:uncounted)) AS uncounted,"
    # Optuna numbers trials in the order of their ids.
    "  coalesce((SELECT number + 1 FROM public.trials o WHERE o.study_id = :s ORDER BY trial_id DESC LIMIT 1), 0)"
    "   AS number"
    "  FROM hpo.studies s WHERE study_id = :s AND desired_state = 'run'"
    "  AND coalesce(spec->>'pruner', '') <> :freeze_thaw"
    "  AND (CAST(:epochs AS text) IS NULL OR spec->>'epochs' = :epochs)"
    f"  AND coalesce({_GOALS}, nullif(spec->>'stop_when_flat', 'false')) IS NULL"
    # A claim whose answer was lost.
    "  AND NOT EXISTS (SELECT FROM hpo.attempts WHERE agent_id = :a AND slot = :slot AND ended_at IS NULL)"
    "  AND NOT EXISTS (SELECT FROM hpo.trials t WHERE t.study_id = :s AND outcome IS NULL AND paused_epoch IS NULL"
    "   AND NOT EXISTS (SELECT FROM hpo.attempts a WHERE a.reservation_id = t.reservation_id AND ended_at IS NULL))"
    "  AND NOT EXISTS (SELECT FROM public.trials o WHERE o.study_id = :s AND o.state = 'WAITING')),"
    " created AS (INSERT INTO public.trials (study_id, number, state, datetime_start)"
    f"  SELECT study_id, number, 'RUNNING', {NOW} FROM place WHERE budget > ordinal - uncounted"
    "  RETURNING trial_id, number),"
    " reserved AS (INSERT INTO hpo.trials (study_id, ordinal, seed, trial_id, number)"
    "  SELECT place.study_id, ordinal, (seed + ordinal) % 2147483648, trial_id, created.number FROM place, created"
    "  RETURNING reservation_id, ordinal, seed, trial_id, number),"
    " marked AS (INSERT INTO public.trial_user_attributes (trial_id, key, value_json)"
    "  SELECT trial_id, :key, CAST(reservation_id AS text) FROM reserved),"
    " given AS (INSERT INTO public.trial_system_attributes (trial_id, key, value_json)"
    "  SELECT trial_id, first.key, CAST(first.value AS text) FROM reserved,"
    "   json_each(CAST(:first AS json)->CAST(ordinal AS integer)) AS first),"
    " leased AS (INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, lease_until)"
    "  SELECT reservation_id, :a, :slot, :device, :host, clock_timestamp() + :lease * interval '1 second'"
    "  FROM reserved RETURNING attempt_id)"
    " SELECT reserved.*, attempt_id FROM reserved, leased"
)


def claim(
    connection: Connection,
    study_id: int,
    agent_id: int,
    host: str,
    slot: int,
    device: str,
    lease_seconds: float,
    epochs: int | None = None,
    first: Sequence[Mapping[str, Any]] = (),
) -> Claim | None:
    """Reserve a trial and lease it; return None where `claims.claim` is to decide, which may do the same.

    `first` are Optuna's system attributes of the study's first trials, in their order.
    """
    row = connection.execute(
        _CLAIM,
        {
            "s": study_id,
            "a": agent_id,
            "host": host,
            "slot": slot,
            "device": device,
            "lease": lease_seconds,
            "epochs": None if epochs is None else str(epochs),
            "first": json.dumps([dict(attributes) for attributes in first]),
            "key": RESERVATION_ATTRIBUTE,
            "freeze_thaw": FREEZE_THAW,
            "uncounted": [*FAILURES, Outcome.REJECTED],
        },
    ).one_or_none()
    return None if row is None else Claim(**row._mapping, params=None, fresh=True)
