"""Who may report on a trial: leases that agents hold on attempts, by the database's clock.

An attempt may write as long as it has not been ended. An agent renews the leases of its attempts;
a lease that runs out is ended by whichever agent looks next, and its attempt is *fenced* from then
on: `guard`, which every write of an attempt passes in its own transaction, raises `LeaseLostError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage import attempt_ends, budget


class LeaseLostError(Exception):
    """The attempt was ended by another agent: whatever it still has to say must not count."""


@dataclass(frozen=True)
class LeaseTimes:
    """How long agents may be silent."""

    lease_seconds: float = 120.0
    """A claim outlives an outage of the database, or of the network, of a minute and more."""
    grace_renewals: float = 2.0
    """How many renewals others are given before their leases are judged, by an agent that was away itself."""

    @property
    def renew_seconds(self) -> float:
        """Between two renewals: eleven may fail before a lease runs out."""
        return self.lease_seconds / 12

    @property
    def grace_seconds(self) -> float:
        """After an outage, or at its start, before an agent ends leases that have run out."""
        return self.grace_renewals * self.renew_seconds


def new_agent_id(connection: Connection) -> int:
    """An id that no other agent gets: with it, joining can be repeated."""
    agent_id: int = connection.execute(
        text("SELECT nextval(pg_get_serial_sequence('hpo.agents', 'agent_id'))")
    ).scalar_one()
    return agent_id


def join(
    connection: Connection,
    agent_id: int,
    study_id: int,
    host: str,
    pid: int,
    process: str,
    slots: int,
    versions: Mapping[str, str],
    lease_seconds: float = LeaseTimes.lease_seconds,
) -> int:
    """Register an agent, once; returns its ordinal in the study, which seeds its sampler."""
    known: int | None = connection.execute(
        text("SELECT ordinal FROM hpo.agents WHERE agent_id = :a"), {"a": agent_id}
    ).scalar_one_or_none()
    if known is not None:
        return known
    ordinal: int = connection.execute(
        text(
            "UPDATE hpo.studies SET agents_seen = agents_seen + 1 WHERE study_id = :s RETURNING agents_seen - 1"
        ),
        {"s": study_id},
    ).scalar_one()
    connection.execute(
        text(
            "INSERT INTO hpo.agents"
            " (agent_id, study_id, ordinal, host, pid, process, slots, versions, lease_seconds) VALUES"
            " (:a, :s, :o, :host, :pid, :process, :slots, CAST(:versions AS jsonb), :lease)"
        ),
        {
            "a": agent_id,
            "s": study_id,
            "o": ordinal,
            "host": host,
            "pid": pid,
            "process": process,
            "slots": slots,
            "versions": json.dumps(dict(versions)),
            "lease": lease_seconds,
        },
    )
    return ordinal


def leave(connection: Connection, agent_id: int) -> None:
    """Note that an agent has ended; what it still holds is released."""
    release(connection, *_held(connection, agent_id))
    _agent_ended(connection, agent_id)


def renew(connection: Connection, agent_id: int, lease_seconds: float) -> frozenset[int]:
    """Extend the agent's leases; returns the attempts it still holds."""
    # Attempts before agents, as everywhere.
    rows = connection.execute(
        text(
            "UPDATE hpo.attempts SET lease_until = clock_timestamp() + :lease * interval '1 second'"
            " WHERE agent_id = :a AND ended_at IS NULL RETURNING attempt_id"
        ),
        {"a": agent_id, "lease": lease_seconds},
    )
    held = frozenset(rows.scalars())
    connection.execute(
        text("UPDATE hpo.agents SET seen_at = clock_timestamp(), ended_at = NULL WHERE agent_id = :a"),
        {"a": agent_id},
    )
    return held


@dataclass(frozen=True)
class SuspectLease:
    """A lease that its agent should have renewed, by the database's clock."""

    until: datetime
    lease_seconds: float
    """As that agent has it: it need not have our settings."""


def doubtful(
    connection: Connection, study_id: int, spared_agent: int | None = None
) -> dict[int, SuspectLease]:
    """Attempts of the study, but not of one agent, whose leases have run out by the database's clock, or
    end further ahead than its agent's can: the clock was set back.
    """
    rows = connection.execute(
        text(
            # Of an agent of before this was noted it is not known: it may be long.
            "SELECT a.attempt_id, a.lease_until, coalesce(g.lease_seconds, 3600) AS lease"
            " FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id) JOIN hpo.agents g USING (agent_id)"
            " WHERE t.study_id = :s AND a.ended_at IS NULL AND a.agent_id IS DISTINCT FROM CAST(:spared AS bigint)"
            " AND (a.lease_until < clock_timestamp()"
            "   OR a.lease_until > clock_timestamp() + 2 * coalesce(g.lease_seconds, 3600) * interval '1 second')"
        ),
        {"s": study_id, "spared": spared_agent},
    )
    return {row.attempt_id: SuspectLease(row.lease_until, row.lease) for row in rows}


def reap(connection: Connection, overdue: Mapping[int, SuspectLease], max_lost: int) -> int:
    """End attempts whose leases still end when they did; returns how many.

    Who decides that they are overdue has waited for a renewal by a clock of its own: see `hpo.agent.lease_expiry`.
    """
    ended = 0
    for attempt_id in sorted(overdue):
        still = connection.execute(
            text(
                "SELECT 1 FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL AND lease_until = :until"
                " FOR UPDATE SKIP LOCKED"
            ),
            {"a": attempt_id, "until": overdue[attempt_id].until},
        ).one_or_none()
        if still is not None:
            lose(connection, attempt_id, "its agent was not heard of any more", max_lost)
            ended += 1
    return ended


def reap_agent(connection: Connection, agent_id: int, max_lost: int) -> int:
    """End at once what an agent holds that is known to be dead; returns how many attempts."""
    held = _held(connection, agent_id)
    for attempt_id in held:
        lose(connection, attempt_id, "its agent was killed", max_lost)
    _agent_ended(connection, agent_id)
    return len(held)


def _held(connection: Connection, agent_id: int) -> list[int]:
    """What an agent holds, locked."""
    rows = connection.execute(
        text(
            "SELECT attempt_id FROM hpo.attempts WHERE agent_id = :a AND ended_at IS NULL"
            " ORDER BY attempt_id FOR UPDATE"
        ),
        {"a": agent_id},
    )
    return list(rows.scalars())


def _agent_ended(connection: Connection, agent_id: int) -> None:
    connection.execute(
        text("UPDATE hpo.agents SET ended_at = clock_timestamp() WHERE agent_id = :a"), {"a": agent_id}
    )


def agents_of_host(connection: Connection, study_id: int, host: str) -> list[tuple[int, int, str]]:
    """The study's agents on this host that have not said goodbye: id, process id and process."""
    rows = connection.execute(
        text(
            "SELECT agent_id, pid, process FROM hpo.agents WHERE study_id = :s AND host = :h AND ended_at IS NULL"
        ),
        {"s": study_id, "h": host},
    )
    return [(row.agent_id, row.pid, row.process) for row in rows]


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


def settle(
    connection: Connection,
    attempt_id: int,
    outcome: Outcome,
    value: float | None,
    error: str | None = None,
    traceback: str | None = None,
) -> None:
    """Decide the attempt's trial and end the attempt; repeating it changes nothing.

    Raises:
        LeaseLostError: the attempt was ended by another agent before.
    """
    row = connection.execute(
        text("SELECT reservation_id, ended_at, outcome FROM hpo.attempts WHERE attempt_id = :a FOR UPDATE"),
        {"a": attempt_id},
    ).one_or_none()
    if row is None or (row.ended_at is not None and row.outcome != outcome):
        raise LeaseLostError
    if row.ended_at is not None:
        return
    budget.decide(connection, row.reservation_id, outcome, value, error, traceback)
    attempt_ends.end(connection, [attempt_id], outcome, error)


def release(connection: Connection, *attempt_ids: int) -> None:
    """Give trials back: any agent may go on with them from their last checkpoints."""
    attempt_ends.end(connection, attempt_ids, Outcome.RELEASED)


def lose(
    connection: Connection, attempt_id: int, reason: str, max_lost: int, kind: Outcome = Outcome.LOST
) -> None:
    """End an attempt that died; its trial is resumed, or failed after `max_lost` such attempts."""
    row = connection.execute(
        text(
            "SELECT reservation_id, device FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL FOR UPDATE"
        ),
        {"a": attempt_id},
    ).one_or_none()
    if row is None:
        return
    if row.device == budget.NEXT:
        # Its trial has not begun, so it cannot be what its agent died of.
        attempt_ends.end(connection, [attempt_id], Outcome.RELEASED, reason)
        return
    attempt_ends.end(connection, [attempt_id], kind, reason)
    lost: int = connection.execute(
        text("UPDATE hpo.trials SET lost = lost + 1 WHERE reservation_id = :t RETURNING lost"),
        {"t": row.reservation_id},
    ).scalar_one()
    if lost >= max_lost:
        # What it is to blame for was seen each time: two machines that went away and one crash are no proof.
        outcome = kind if _ends(connection, row.reservation_id) == {kind} else Outcome.LOST
        budget.decide(
            connection, row.reservation_id, outcome, None, f"lost {lost} times, the last time: {reason}", None
        )


def _ends(connection: Connection, reservation_id: int) -> set[str]:
    """How a trial's attempts ended that were not given back."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT outcome FROM hpo.attempts WHERE reservation_id = :t AND ended_at IS NOT NULL"
            " AND outcome <> :released"
        ),
        {"t": reservation_id, "released": Outcome.RELEASED},
    )
    return set(rows.scalars())


def _metrics_json(metrics: Mapping[str, float]) -> str:
    """JSON has no NaN and no infinities: they are kept as strings."""
    return json.dumps({k: v if math.isfinite(v) else str(v) for k, v in metrics.items()})


def read_metrics(stored: Mapping[str, Any]) -> dict[str, float]:
    """The inverse of how `record` keeps metrics."""
    return {name: float(value) for name, value in stored.items()}
