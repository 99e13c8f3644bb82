"""Attempts to train a trial: their progress, their output and their end.

Every write of an attempt passes `guard` in its own transaction. An attempt that has ended is *fenced*:
`guard` raises `LeaseLostError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage.connection.prepared import prepared

RUNG_PREFIX = "completed_rung_"
"""Start of the names of the attributes in which Optuna's ASHA and Hyperband keep a trial's value at each rung."""

NEXT = "next"
"""Device of a prefetched attempt: it has no slot yet, so it does not train."""


class LeaseLostError(Exception):
    """Another agent has ended the attempt: its further reports are refused."""


HELD = "WITH held AS (SELECT reservation_id FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL FOR UPDATE)"
"""`guard` as the beginning of a statement, which so needs no transaction around it."""


def guard(connection: Connection, attempt_id: int) -> int:
    """Lock a live attempt until the transaction ends; returns its reservation_id.

    Raises:
        LeaseLostError: another agent has ended it.
    """
    reservation_id: int | None = connection.execute(
        text(f"{HELD} SELECT reservation_id FROM held"), {"a": attempt_id}
    ).scalar_one_or_none()
    if reservation_id is None:
        raise LeaseLostError
    return reservation_id


def attach(
    connection: Connection, attempt_id: int, trial_id: int, number: int, params: Mapping[str, Any] | None
) -> None:
    """Store the Optuna trial of the attempt's reservation; without `params` it is still being sampled.

    Guarded: an agent that was offline must not replace the trial that another agent has begun.
    """
    attached = connection.execute(
        text(
            f"{HELD} UPDATE hpo.trials t SET trial_id = :trial, number = :number,"
            " params = coalesce(CAST(:params AS json), t.params) FROM held"
            " WHERE t.reservation_id = held.reservation_id"
        ),
        {
            "a": attempt_id,
            "trial": trial_id,
            "number": number,
            "params": None if params is None else json.dumps(params),
        },
    )
    if not attached.rowcount:
        raise LeaseLostError


def place(connection: Connection, attempt_id: int, slot: int, device: str) -> None:
    """Start a prefetched attempt in a slot.

    Raises:
        LeaseLostError: another agent has ended it, for example to train its trial in an idle slot.
    """
    placed = connection.execute(
        text(
            "UPDATE hpo.attempts SET slot = :s, device = :d, started_at = clock_timestamp()"
            " WHERE attempt_id = :a AND ended_at IS NULL"
        ),
        {"a": attempt_id, "s": slot, "d": device},
    )
    if not placed.rowcount:
        raise LeaseLostError


_BEGIN = prepared(
    # Updated and so locked first, as `guard` does: the rest waits for this row.
    "WITH held AS (UPDATE hpo.attempts SET pid = :pid, resumed_from = :r"
    "  WHERE attempt_id = :a AND ended_at IS NULL RETURNING reservation_id),"
    " forgotten AS (DELETE FROM hpo.epochs e USING held"
    "  WHERE e.reservation_id = held.reservation_id AND e.epoch > :r),"
    " trial AS (UPDATE hpo.trials t SET epochs = :r FROM held"
    "  WHERE t.reservation_id = held.reservation_id AND t.epochs > :r),"
    " open AS (SELECT o.trial_id, EXISTS (SELECT FROM public.trial_intermediate_values v"
    "   WHERE v.trial_id = o.trial_id AND v.step > :r) AS trained_further"
    "  FROM held JOIN hpo.trials t USING (reservation_id) JOIN public.trials o USING (trial_id)"
    "  WHERE o.state = 'RUNNING'),"
    " rungs AS (DELETE FROM public.trial_system_attributes s USING open"
    f"  WHERE s.trial_id = open.trial_id AND trained_further AND starts_with(s.key, '{RUNG_PREFIX}')),"
    " reports AS (DELETE FROM public.trial_intermediate_values v USING open"
    "  WHERE v.trial_id = open.trial_id AND (v.step > :r OR :r = 0))"
    " SELECT 1 FROM held"
)


def begin(connection: Connection, attempt_id: int, pid: int, resumed_from: int) -> None:
    """Store the trainer's process id and the epoch that the attempt resumes from, in a single statement.

    Later epochs of earlier attempts are trained again: they are deleted, in Optuna too, with what its pruners noted
    on them, so that the history of a trial is always that of its state.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    if not connection.execute(_BEGIN, {"a": attempt_id, "pid": pid, "r": resumed_from}).all():
        raise LeaseLostError


def hold(connection: Connection, attempt_id: int) -> None:
    """Note that the trainer of an attempt waits, because its study is paused."""
    guard(connection, attempt_id)
    connection.execute(
        text("UPDATE hpo.attempts SET held_at = coalesce(held_at, clock_timestamp()) WHERE attempt_id = :a"),
        {"a": attempt_id},
    )


def unhold(connection: Connection, agent_id: int) -> None:
    """Note that an agent's trainers continue, and for how long they have waited."""
    connection.execute(
        text(
            "UPDATE hpo.attempts SET held_at = NULL,"
            " held_seconds = coalesce(held_seconds, 0)"
            "   + greatest(extract(epoch FROM clock_timestamp() - held_at), 0)"
            " WHERE agent_id = :a AND ended_at IS NULL AND held_at IS NOT NULL"
        ),
        {"a": agent_id},
    )


RECORD = (
    # Updated and so locked first, as `guard` does: the rest waits for this row.
    "WITH held AS (UPDATE hpo.attempts SET epochs = greatest(epochs, :last - coalesce(resumed_from, 0))"
    "  WHERE attempt_id = :a AND ended_at IS NULL RETURNING reservation_id),"
    " trial AS (UPDATE hpo.trials t SET epochs = greatest(t.epochs, :last) FROM held"
    "  WHERE t.reservation_id = held.reservation_id RETURNING t.reservation_id),"
    " written AS (INSERT INTO hpo.epochs (reservation_id, epoch, attempt_id, metrics, seconds)"
    "  SELECT trial.reservation_id, given.epoch, :a, CAST(given.metrics AS jsonb), given.seconds FROM trial,"
    "  unnest(CAST(:epochs AS integer[]), CAST(:metrics AS text[]), CAST(:seconds AS float8[]))"
    "   AS given (epoch, metrics, seconds)"
    "  ON CONFLICT (reservation_id, epoch) DO UPDATE SET attempt_id = excluded.attempt_id,"
    "  metrics = excluded.metrics, seconds = excluded.seconds, created_at = clock_timestamp()"
    "  WHERE epochs.attempt_id <> excluded.attempt_id AND epochs.metrics <> excluded.metrics"
    "  RETURNING epoch, metrics)"
)
"""Beginning of a statement that stores epochs, with the values of `recorded`; `written` are those that count."""


def recorded(attempt_id: int, epochs: Mapping[int, tuple[Mapping[str, float], float]]) -> dict[str, Any]:
    """Return the values of `RECORD` for epochs with their metrics and seconds."""
    numbers = sorted(epochs)
    return {
        "a": attempt_id,
        "last": numbers[-1],
        "epochs": numbers,
        "metrics": [_metrics_json(epochs[epoch][0]) for epoch in numbers],
        "seconds": [epochs[epoch][1] for epoch in numbers],
    }


def record(
    connection: Connection, attempt_id: int, epochs: Sequence[tuple[int, Mapping[str, float], float]]
) -> dict[int, dict[str, float]]:
    """Store epochs (epoch, metrics, seconds) of an attempt; returns the stored metrics by epoch.

    The first report of an epoch by an attempt counts; it replaces that of an earlier attempt, whose values differ
    where its checkpoint was not the one that this attempt resumed.
    """
    first = {epoch: (metrics, seconds) for epoch, metrics, seconds in reversed(epochs)}
    if not first:
        guard(connection, attempt_id)
        return {}
    found = "SELECT held.reservation_id, written.epoch, written.metrics FROM held LEFT JOIN written ON true"
    rows = connection.execute(text(f"{RECORD} {found}"), recorded(attempt_id, first)).all()
    if not rows:
        raise LeaseLostError
    stored = {row.epoch: read_metrics(row.metrics) for row in rows if row.epoch is not None}
    if len(stored) < len(first):
        known = connection.execute(
            text("SELECT epoch, metrics FROM hpo.epochs WHERE reservation_id = :t AND epoch = ANY(:n)"),
            {"t": rows[0].reservation_id, "n": sorted(first.keys() - stored.keys())},
        )
        stored |= {row.epoch: read_metrics(row.metrics) for row in known}
    return stored


def end(
    connection: Connection, attempt_ids: Collection[int], outcome: Outcome, error: str | None = None
) -> None:
    """End attempts; those that have ended stay as they are."""
    connection.execute(
        text(
            "UPDATE hpo.attempts SET ended_at = clock_timestamp(), outcome = :o, error = :e"
            " WHERE attempt_id = ANY(:ids) AND ended_at IS NULL"
        ),
        {"ids": sorted(attempt_ids), "o": outcome, "e": error or None},
    )


def keep_log(connection: Connection, attempt_id: int, tail: str, size: int) -> None:
    """Store the end of an attempt's output, unless a longer output is stored; `size` is the whole in bytes."""
    connection.execute(
        text(
            "INSERT INTO hpo.attempt_logs (attempt_id, tail, bytes) VALUES (:a, :tail, :size)"
            " ON CONFLICT (attempt_id) DO UPDATE SET tail = excluded.tail, bytes = excluded.bytes,"
            " updated_at = clock_timestamp() WHERE attempt_logs.bytes < excluded.bytes"
        ),
        {"a": attempt_id, "tail": tail, "size": size},
    )


def orphaned_logs(
    connection: Connection, study_id: int, attempts: Sequence[int], seconds: float
) -> dict[tuple[int, int], bool]:
    """Return whether the agents of these attempts are done with their logs, by trial number and attempt id.

    An agent is done when both have ended, or `seconds` after the end of the attempt: it may learn late that another
    agent has ended it. Attempts of other studies are left out.
    """
    rows = connection.execute(
        text(
            "SELECT t.number, a.attempt_id, a.ended_at IS NOT NULL AND (g.ended_at IS NOT NULL"
            "   OR a.ended_at < clock_timestamp() - :seconds * interval '1 second'"
            # The clock was set back.
            "   OR a.ended_at > clock_timestamp()) AS done"
            " FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id) JOIN hpo.agents g USING (agent_id)"
            " WHERE t.study_id = :s AND a.attempt_id = ANY(:attempts)"
        ),
        {"s": study_id, "attempts": list(attempts), "seconds": seconds},
    )
    return {(row.number, row.attempt_id): row.done for row in rows}


def _metrics_json(metrics: Mapping[str, float]) -> str:
    """Return JSON; NaN and infinities, which JSON lacks, become strings."""
    return json.dumps({k: v if math.isfinite(v) else str(v) for k, v in metrics.items()})


def read_metrics(stored: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as they were before `record` stored them."""
    return {name: float(value) for name, value in stored.items()}
