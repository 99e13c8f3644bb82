"""Attempts to train a trial: their progress and their end.

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


class LeaseLostError(Exception):
    """The attempt was ended by another agent: whatever it still has to say must not count."""


def guard(connection: Connection, attempt_id: int) -> int:
    """Lock a live attempt for the rest of the transaction; returns its trial's reservation_id.

    Raises:
        LeaseLostError: another agent has ended it.
    """
    reservation_id: int | None = connection.execute(
        text("SELECT reservation_id FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL FOR UPDATE"),
        {"a": attempt_id},
    ).scalar_one_or_none()
    if reservation_id is None:
        raise LeaseLostError
    return reservation_id


def attach(
    connection: Connection, attempt_id: int, trial_id: int, number: int, params: Mapping[str, Any] | None
) -> None:
    """Note which Optuna trial a share became; without `params` it is still being sampled.

    Guarded: an agent that was away while another began the share anew must not swap its trial.
    """
    reservation_id = guard(connection, attempt_id)
    connection.execute(
        text(
            "UPDATE hpo.trials SET trial_id = :trial, number = :number,"
            " params = coalesce(CAST(:params AS json), params) WHERE reservation_id = :t"
        ),
        {
            "t": reservation_id,
            "trial": trial_id,
            "number": number,
            "params": None if params is None else json.dumps(params),
        },
    )


def place(connection: Connection, attempt_id: int, slot: int, device: str) -> None:
    """Move an attempt to a slot, where it begins: until now it has only waited.

    Raises:
        LeaseLostError: another agent has ended it, to train its trial in an idle slot perhaps.
    """
    guard(connection, attempt_id)
    connection.execute(
        text(
            "UPDATE hpo.attempts SET slot = :s, device = :d, started_at = clock_timestamp() WHERE attempt_id = :a"
        ),
        {"a": attempt_id, "s": slot, "d": device},
    )


def begin(connection: Connection, attempt_id: int, pid: int, resumed_from: int) -> None:
    """Note the trainer of an attempt and the checkpoint it continues."""
    guard(connection, attempt_id)
    connection.execute(
        text("UPDATE hpo.attempts SET pid = :pid, resumed_from = :r WHERE attempt_id = :a"),
        {"a": attempt_id, "pid": pid, "r": resumed_from},
    )


def record(
    connection: Connection, attempt_id: int, epochs: Sequence[tuple[int, Mapping[str, float], float]]
) -> dict[int, dict[str, float]]:
    """Keep epochs (epoch, metrics, seconds) of an attempt; returns the metrics that now stand for them.

    What an earlier attempt reported of an epoch stands: no epoch is reported twice.
    """
    reservation_id = guard(connection, attempt_id)
    if not epochs:
        return {}
    for epoch, metrics, seconds in epochs:
        connection.execute(
            text(
                "INSERT INTO hpo.epochs (reservation_id, epoch, attempt_id, metrics, seconds) VALUES"
                " (:t, :e, :a, CAST(:m AS jsonb), :sec) ON CONFLICT DO NOTHING"
            ),
            {"t": reservation_id, "e": epoch, "a": attempt_id, "m": _metrics_json(metrics), "sec": seconds},
        )
    numbers = [epoch for epoch, _, _ in epochs]
    connection.execute(
        text("UPDATE hpo.trials SET epochs = greatest(epochs, :e) WHERE reservation_id = :t"),
        {"t": reservation_id, "e": max(numbers)},
    )
    connection.execute(
        text(
            "UPDATE hpo.attempts SET epochs = greatest(epochs, :e - coalesce(resumed_from, 0))"
            " WHERE attempt_id = :a"
        ),
        {"a": attempt_id, "e": max(numbers)},
    )
    rows = connection.execute(
        text("SELECT epoch, metrics FROM hpo.epochs WHERE reservation_id = :t AND epoch = ANY(:n)"),
        {"t": reservation_id, "n": numbers},
    )
    return {row.epoch: read_metrics(row.metrics) for row in rows}


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


def _metrics_json(metrics: Mapping[str, float]) -> str:
    """JSON has no NaN and no infinities: they are kept as strings."""
    return json.dumps({k: v if math.isfinite(v) else str(v) for k, v in metrics.items()})


def read_metrics(stored: Mapping[str, Any]) -> dict[str, float]:
    """The inverse of how `record` keeps metrics."""
    return {name: float(value) for name, value in stored.items()}
