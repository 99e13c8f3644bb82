"""Leases that agents hold on attempts, by the database's clock.

An attempt may write until it has ended. An agent renews the leases of its attempts; the next agent to
look ends an attempt whose lease has expired, which fences it: see `storage.attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage import attempts, budget
from storage.attempts import LeaseLostError
from storage.connection.prepared import prepared
from storage.optuna import closing


@dataclass(frozen=True)
class LeaseTimes:
    """Durations of leases and of the waits around them."""

    lease_seconds: float = 120.0
    """Seconds that a lease lasts; long enough for an outage of a minute."""
    grace_renewals: float = 2.0
    """Number of renewals that an agent waits for after it was offline, before it ends expired leases."""

    @property
    def renew_seconds(self) -> float:
        """Seconds between two renewals; eleven may fail before a lease expires."""
        return self.lease_seconds / 12

    @property
    def grace_seconds(self) -> float:
        """Seconds that an agent waits, at its start or after an outage, before it ends expired leases."""
        return self.grace_renewals * self.renew_seconds


def renew(connection: Connection, agent_id: int, lease_seconds: float) -> frozenset[int]:
    """Extend the agent's leases; returns the attempts it still holds."""
    # Lock order: attempts before agents, as in every transaction.
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
    """Lease duration of its agent, whose settings may differ from ours."""


def suspects(
    connection: Connection, study_id: int, spared_agent: int | None = None
) -> dict[int, SuspectLease]:
    """Return other agents' live attempts whose leases have expired by the database's clock.

    A lease that ends further ahead than a renewal could set it is included: the clock was set back.
    """
    rows = connection.execute(
        text(
            # Agents of older versions did not store their lease, which may be long.
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
    """Lose attempts whose leases were not renewed since they were read; returns their number.

    The caller has waited for a renewal by its own clock: see `hpo.agent.leases`.
    """
    ended = 0
    for attempt_id in sorted(overdue):
        unrenewed = connection.execute(
            text(
                "SELECT 1 FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL AND lease_until = :until"
                " FOR UPDATE SKIP LOCKED"
            ),
            {"a": attempt_id, "until": overdue[attempt_id].until},
        ).one_or_none()
        if unrenewed is not None:
            lose(connection, attempt_id, "its agent's lease expired", max_lost)
            ended += 1
    return ended


@dataclass(frozen=True)
class Settled:
    """A trial that was settled."""

    trial_id: int | None
    """Optuna's id; None if the trial had not been created."""
    told: bool
    """Whether Optuna has the outcome."""


_SETTLE = prepared(
    # Updated and so locked first, as `attempts.guard` does: the rest waits for this row.
    "WITH ended AS (UPDATE hpo.attempts SET ended_at = clock_timestamp(), outcome = :o, error = nullif(:e, '')"
    "  WHERE attempt_id = :a AND ended_at IS NULL RETURNING reservation_id),"
    f" decided AS ({budget.DECIDE}, told_optuna = {closing.TELLS} FROM ended"
    "  WHERE t.reservation_id = ended.reservation_id AND t.outcome IS NULL RETURNING t.trial_id),"
    f"{closing.CLOSE} SELECT (SELECT trial_id FROM decided) AS trial_id FROM ended"
)


def settle(
    connection: Connection,
    attempt_id: int,
    outcome: Outcome,
    value: float | None,
    error: str | None = None,
    traceback: str | None = None,
) -> Settled:
    """Decide the attempt's trial, in Optuna too, and end the attempt: all in one statement, which can be repeated.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    values = budget.decision(outcome, value, error, traceback)
    state = closing.closing_state(outcome, values["v"])
    row = connection.execute(_SETTLE, {"a": attempt_id, "state": state, **values}).one_or_none()
    if row is not None:
        return Settled(trial_id=row.trial_id, told=state is not None)
    # It may have been settled by a statement whose answer was lost.
    known = connection.execute(
        text(
            "SELECT t.trial_id FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id)"
            " WHERE a.attempt_id = :a AND a.ended_at IS NOT NULL AND a.outcome = :o"
        ),
        {"a": attempt_id, "o": outcome},
    ).one_or_none()
    if known is None:
        raise LeaseLostError
    return Settled(trial_id=known.trial_id, told=state is not None)


def kill(
    connection: Connection, study_id: int, reservation_id: int, value: float | None, reason: str
) -> bool:
    """Decide an open trial as pruned, and fence the attempt that trains it; False if it was decided before."""
    # As a claim does, so that none begins the trial meanwhile; attempts before trials, as in every transaction.
    budget.lock_study(connection, study_id)
    live = connection.execute(
        text("SELECT attempt_id FROM hpo.attempts WHERE reservation_id = :t AND ended_at IS NULL FOR UPDATE"),
        {"t": reservation_id},
    )
    attempt_ids = list(live.scalars())
    decided = budget.decide(connection, reservation_id, Outcome.PRUNED, value, reason, None)
    if decided:
        attempts.end(connection, attempt_ids, Outcome.PRUNED, reason)
    return decided


def release(connection: Connection, *attempt_ids: int, reason: str | None = None) -> None:
    """Release attempts: any agent may resume their trials from the last checkpoints."""
    attempts.end(connection, attempt_ids, Outcome.RELEASED, reason)


def lose(
    connection: Connection, attempt_id: int, reason: str, max_lost: int, kind: Outcome = Outcome.LOST
) -> None:
    """End an attempt that died; its trial is resumed, or failed after `max_lost` such attempts."""
    row = connection.execute(
        text(
            "SELECT reservation_id, device,"
            " (SELECT paused_epoch FROM hpo.trials t WHERE t.reservation_id = attempts.reservation_id) AS paused_epoch"
            " FROM hpo.attempts WHERE attempt_id = :a AND ended_at IS NULL FOR UPDATE"
        ),
        {"a": attempt_id},
    ).one_or_none()
    if row is None:
        return
    if row.device == attempts.NEXT or row.paused_epoch is not None:
        # The trial was only prefetched, so it did not cause the death of its agent; or it was paused, so nothing is
        # missing.
        attempts.end(connection, [attempt_id], Outcome.RELEASED, reason)
        return
    attempts.end(connection, [attempt_id], kind, reason)
    lost: int = connection.execute(
        text("UPDATE hpo.trials SET lost = lost + 1 WHERE reservation_id = :t RETURNING lost"),
        {"t": row.reservation_id},
    ).scalar_one()
    if lost >= max_lost:
        # A specific cause counts only if every attempt ended with it: two lost hosts and one crash prove nothing.
        outcome = kind if _ends(connection, row.reservation_id) == {kind} else Outcome.LOST
        budget.decide(
            connection, row.reservation_id, outcome, None, f"lost {lost} times, the last time: {reason}", None
        )


def _ends(connection: Connection, reservation_id: int) -> set[str]:
    """Return the distinct outcomes of the trial's attempts, apart from released ones."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT outcome FROM hpo.attempts WHERE reservation_id = :t AND ended_at IS NOT NULL"
            " AND outcome <> :released"
        ),
        {"t": reservation_id, "released": Outcome.RELEASED},
    )
    return set(rows.scalars())
