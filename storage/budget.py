"""A study's budget: trials are reserved before anything is sampled, and decided exactly once.

One row of `hpo.trials` is one reservation. It is *open* until an attempt decides its outcome; which
attempt may do so is settled by `storage.leases`. A budget of N means N finished trials (complete,
pruned, diverged or out of memory: all that a sampler learns from), however many agents come and go.
Every function takes an open transaction, and every write can be repeated when the answer to a
commit was lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import CUT_SHORT, FAILURES, Outcome
from storage import attempts

NEXT = "next"
"""Device of a prefetched attempt: it has no slot yet, so it does not train."""


class NoWork(Enum):
    """Reason that a claim gets no trial."""

    DONE = "the budget is spent"
    ELSEWHERE = "what is left of the budget is being trained by others"
    PAUSED = "the study is paused"
    STOPPED = "the study is stopped"


@dataclass(frozen=True)
class Claim:
    """A reservation and the attempt that may train it."""

    reservation_id: int
    attempt_id: int
    ordinal: int
    """Index of the reservation in its study, from 0; the first ones try the known good configurations."""
    seed: int
    trial_id: int | None
    """Optuna's id, if an earlier attempt created the trial."""
    number: int | None
    params: Mapping[str, Any] | None
    fresh: bool
    """Whether it was reserved by this claim: Optuna has no trial for it yet."""
    untrained: bool = False
    """Whether it was taken from the queue of another agent, and no trainer has started it."""


@dataclass(frozen=True)
class Counts:
    """Number of trials of a study, by state."""

    budget: int
    complete: int
    pruned: int
    """Pruned, diverged and out of memory."""
    failed: int
    running: int
    waiting: int
    """Reserved, but held by no agent now."""
    failing: int = 0
    """Failed since the study was last set to run; `max_failed` limits these."""

    @property
    def finished(self) -> int:
        """Trials that count towards the budget."""
        return self.complete + self.pruned

    @property
    def left(self) -> int:
        """Trials still to finish."""
        return max(0, self.budget - self.finished)


@dataclass(frozen=True)
class Failure:
    """A trial that failed."""

    outcome: Outcome
    error: str
    traceback: str


@dataclass(frozen=True)
class PendingTell:
    """A decided trial that is still open in Optuna."""

    reservation_id: int
    trial_id: int
    number: int
    outcome: Outcome
    value: float | None


def claim(
    connection: Connection,
    study_id: int,
    agent_id: int,
    host: str,
    slot: int,
    device: str,
    lease_seconds: float,
) -> Claim | NoWork:
    """Lease a waiting reservation, else a new one.

    Where none is left, a slot takes over the last prefetched trial of another agent, which would start it later.
    """
    study = connection.execute(
        text(
            "SELECT desired_state, budget, spec->>'seed' AS seed FROM hpo.studies WHERE study_id = :s FOR NO KEY UPDATE"
        ),
        {"s": study_id},
    ).one_or_none()
    if study is None or study.desired_state == "stop":
        return NoWork.STOPPED
    if study.desired_state == "pause":
        return NoWork.PAUSED
    # A claim whose answer was lost: its lease is being renewed, so it must not be made twice.
    held = connection.execute(
        text(
            "SELECT attempt_id, reservation_id FROM hpo.attempts"
            " WHERE agent_id = :a AND slot = :slot AND ended_at IS NULL"
        ),
        {"a": agent_id, "slot": slot},
    ).one_or_none()
    if held is not None:
        return _claim_of(connection, held.reservation_id, held.attempt_id, fresh=False)
    store = count(connection, study_id)
    if store.left == 0:
        return NoWork.DONE
    taken = None
    if store.running < store.left:
        begun = _waiting(connection, study_id)
    else:
        begun = taken = _taken(connection, study_id, agent_id) if device != NEXT else None
        if begun is None:
            return NoWork.ELSEWHERE
    reservation_id = begun if begun is not None else _reserve(connection, study_id, int(study.seed or 0))
    attempt_id = connection.execute(
        text(
            "INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, lease_until) VALUES"
            " (:t, :a, :slot, :device, :host, clock_timestamp() + :lease * interval '1 second')"
            " RETURNING attempt_id"
        ),
        {
            "t": reservation_id,
            "a": agent_id,
            "slot": slot,
            "device": device,
            "host": host,
            "lease": lease_seconds,
        },
    ).scalar_one()
    claimed = _claim_of(connection, reservation_id, attempt_id, fresh=begun is None)
    return (
        claimed
        if taken is None
        else replace(claimed, untrained=not _was_trained(connection, taken, attempt_id))
    )


def _waiting(connection: Connection, study_id: int) -> int | None:
    """Return an open reservation that no agent holds."""
    return connection.execute(
        text(
            "SELECT reservation_id FROM hpo.trials t WHERE study_id = :s AND outcome IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM hpo.attempts a WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL)"
            " ORDER BY ordinal LIMIT 1"
        ),
        {"s": study_id},
    ).scalar_one_or_none()


def _taken(connection: Connection, study_id: int, agent_id: int) -> int | None:
    """Take over the prefetched trial that another agent would start last.

    It must have been sampled, because an agent that is sampling does not notice.
    """
    # An attempt that its agent is placing now is locked: skip it rather than wait.
    row = connection.execute(
        text(
            "SELECT a.attempt_id, a.reservation_id FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id)"
            " WHERE t.study_id = :s AND a.ended_at IS NULL AND a.device = :next AND a.agent_id <> :a"
            " AND t.params IS NOT NULL ORDER BY a.attempt_id DESC LIMIT 1 FOR UPDATE OF a SKIP LOCKED"
        ),
        {"s": study_id, "next": NEXT, "a": agent_id},
    ).one_or_none()
    if row is None:
        return None
    attempts.end(connection, [row.attempt_id], Outcome.RELEASED, "trained by an agent that was idle")
    reservation_id: int = row.reservation_id
    return reservation_id


def _was_trained(connection: Connection, reservation_id: int, attempt_id: int) -> bool:
    """Whether an attempt before this one may have trained: it had a slot.

    That its trainer has begun is written only afterwards, and not at all by an agent that dies while the database
    is away.
    """
    found: bool = connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.attempts"
            " WHERE reservation_id = :t AND attempt_id <> :a AND (pid IS NOT NULL OR device <> :next))"
        ),
        {"t": reservation_id, "a": attempt_id, "next": NEXT},
    ).scalar_one()
    return found


def _claim_of(connection: Connection, reservation_id: int, attempt_id: int, fresh: bool) -> Claim:
    row = connection.execute(
        text("SELECT ordinal, seed, trial_id, number, params FROM hpo.trials WHERE reservation_id = :t"),
        {"t": reservation_id},
    ).one()
    return Claim(
        reservation_id, attempt_id, row.ordinal, row.seed, row.trial_id, row.number, row.params, fresh
    )


def _reserve(connection: Connection, study_id: int, study_seed: int) -> int:
    """Insert a reservation; the lock on the study's row makes its ordinal unique."""
    reservation_id: int = connection.execute(
        text(
            "INSERT INTO hpo.trials (study_id, ordinal, seed) SELECT :s, n, (:seed + n) % 2147483648 FROM"
            " (SELECT coalesce(max(ordinal) + 1, 0) AS n FROM hpo.trials WHERE study_id = :s) AS next"
            " RETURNING reservation_id"
        ),
        {"s": study_id, "seed": study_seed},
    ).scalar_one()
    return reservation_id


def count(connection: Connection, study_id: int) -> Counts:
    """Count a study's trials; all zero for a deleted study."""
    row = connection.execute(
        text(
            "SELECT s.budget,"
            " count(t.reservation_id) FILTER (WHERE t.outcome = :complete) AS complete,"
            " count(t.reservation_id) FILTER (WHERE t.outcome = ANY(:cut_short)) AS pruned,"
            " count(t.reservation_id) FILTER (WHERE t.outcome = ANY(:failures)) AS failed,"
            " count(t.reservation_id) FILTER (WHERE t.outcome = ANY(:failures)"
            "   AND t.decided_at >= s.failures_since) AS failing,"
            " count(t.reservation_id) FILTER (WHERE t.outcome IS NULL AND a.reservation_id IS NOT NULL) AS running,"
            " count(t.reservation_id) FILTER (WHERE t.outcome IS NULL AND a.reservation_id IS NULL) AS waiting"
            " FROM hpo.studies s LEFT JOIN hpo.trials t USING (study_id)"
            " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.ended_at IS NULL"
            " WHERE s.study_id = :s GROUP BY s.study_id"
        ),
        {
            "s": study_id,
            "complete": Outcome.COMPLETE,
            "cut_short": list(CUT_SHORT),
            "failures": list(FAILURES),
        },
    ).one_or_none()
    if row is None:
        return Counts(0, 0, 0, 0, 0, 0)
    return Counts(row.budget, row.complete, row.pruned, row.failed, row.running, row.waiting, row.failing)


def decide(
    connection: Connection,
    reservation_id: int,
    outcome: Outcome,
    value: float | None,
    error: str | None,
    traceback: str | None,
) -> bool:
    """Decide a trial; False if it was decided before, which changes nothing."""
    finite = value if value is not None and math.isfinite(value) else None
    result = connection.execute(
        text(
            "UPDATE hpo.trials SET outcome = :outcome, value = :value, error = :error, traceback = :traceback,"
            " decided_at = clock_timestamp() WHERE reservation_id = :t AND outcome IS NULL"
        ),
        {
            "t": reservation_id,
            "outcome": outcome,
            "value": finite,
            "error": error or None,
            "traceback": traceback or None,
        },
    )
    return bool(result.rowcount)


def untold(connection: Connection, study_id: int, after_seconds: float = 0.0) -> list[PendingTell]:
    """Return trials decided at least that long ago and still open in Optuna, oldest first."""
    rows = connection.execute(
        text(
            "SELECT reservation_id, trial_id, number, outcome, value FROM hpo.trials"
            " WHERE study_id = :s AND NOT told_optuna AND outcome IS NOT NULL AND trial_id IS NOT NULL"
            " AND decided_at <= clock_timestamp() - :after * interval '1 second' ORDER BY reservation_id"
        ),
        {"s": study_id, "after": after_seconds},
    )
    return [
        PendingTell(row.reservation_id, row.trial_id, row.number, Outcome(row.outcome), row.value)
        for row in rows
    ]


def untold_of_attempt(connection: Connection, attempt_id: int) -> list[PendingTell]:
    """Return the attempt's trial, if it is decided and still open in Optuna."""
    rows = connection.execute(
        text(
            "SELECT t.reservation_id, t.trial_id, t.number, t.outcome, t.value FROM hpo.trials t"
            " JOIN hpo.attempts a USING (reservation_id) WHERE a.attempt_id = :a AND NOT t.told_optuna"
            " AND t.outcome IS NOT NULL AND t.trial_id IS NOT NULL"
        ),
        {"a": attempt_id},
    )
    return [
        PendingTell(row.reservation_id, row.trial_id, row.number, Outcome(row.outcome), row.value)
        for row in rows
    ]


def mark_told(connection: Connection, reservation_id: int) -> None:
    """Note that Optuna knows the outcome."""
    connection.execute(
        text("UPDATE hpo.trials SET told_optuna = true WHERE reservation_id = :t"), {"t": reservation_id}
    )


def open_reservations(connection: Connection, study_id: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the study's open reservations, and those of them that have a live attempt."""
    rows = connection.execute(
        text(
            "SELECT t.reservation_id, a.attempt_id IS NOT NULL AS running FROM hpo.trials t"
            " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.ended_at IS NULL"
            " WHERE t.study_id = :s AND t.outcome IS NULL"
        ),
        {"s": study_id},
    ).all()
    return frozenset(row.reservation_id for row in rows), frozenset(
        row.reservation_id for row in rows if row.running
    )


def lock_waiting(connection: Connection, study_id: int, reservation_id: int) -> bool:
    """Whether a reservation is open and held by no agent; it stays so until the transaction ends."""
    _lock_study(connection, study_id)
    undecided, running = open_reservations(connection, study_id)
    return reservation_id in undecided - running


def set_budget(connection: Connection, study_id: int, trials: int) -> None:
    """Set the number of finished trials, at least those that were begun: they will finish."""
    _lock_study(connection, study_id)
    counts = count(connection, study_id)
    begun = counts.finished + counts.running + counts.waiting
    connection.execute(
        text("UPDATE hpo.studies SET budget = :n WHERE study_id = :s"),
        {"s": study_id, "n": max(trials, begun)},
    )


def _lock_study(connection: Connection, study_id: int) -> None:
    """Prevent reservations and claims until the transaction ends."""
    connection.execute(
        text("SELECT 1 FROM hpo.studies WHERE study_id = :s FOR NO KEY UPDATE"), {"s": study_id}
    )


def failures(connection: Connection, study_id: int, most: int) -> list[Failure]:
    """Return up to `most` trials that failed since the study was last set to run, the latest first."""
    rows = connection.execute(
        text(
            "SELECT outcome, coalesce(error, '') AS error, coalesce(traceback, '') AS traceback"
            " FROM hpo.trials JOIN hpo.studies USING (study_id)"
            " WHERE study_id = :s AND outcome = ANY(:failures) AND decided_at >= failures_since"
            " ORDER BY decided_at DESC, reservation_id DESC LIMIT :most"
        ),
        {"s": study_id, "failures": list(FAILURES), "most": most},
    )
    return [Failure(Outcome(row.outcome), row.error, row.traceback) for row in rows]
