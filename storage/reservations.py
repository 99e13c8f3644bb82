"""Reservations that have no outcome yet, and those whose files stay although they have one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import NAME
from storage import budget


@dataclass(frozen=True)
class OpenReservations:
    """The trials of a study without an outcome."""

    running: frozenset[int] = frozenset()
    """Those that have a live attempt."""
    paused: tuple[int, ...] = ()
    """Those that freeze-thaw has paused, the least promising first: of the lowest rung, with the worst score."""
    waiting: frozenset[int] = frozenset()
    kept: tuple[int, ...] = ()
    """Complete trials that would go on if `--epochs` were raised, now or at the study's end, the worst first."""

    def __contains__(self, reservation_id: int) -> bool:
        return reservation_id in self.running or reservation_id in self.idle

    @cached_property
    def idle(self) -> frozenset[int]:
        """Those that no agent holds."""
        return self.waiting.union(self.paused)


def open_reservations(connection: Connection, study_id: int) -> OpenReservations:
    """Return the study's open reservations."""
    rows = connection.execute(
        text(
            "SELECT t.reservation_id, a.attempt_id IS NOT NULL AS running, t.paused_epoch IS NOT NULL AS paused"
            " FROM hpo.trials t"
            " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.ended_at IS NULL"
            " WHERE t.study_id = :s AND t.outcome IS NULL"
            " ORDER BY t.paused_epoch, t.paused_score DESC, t.reservation_id DESC"
        ),
        {"s": study_id},
    ).all()
    return OpenReservations(
        frozenset(row.reservation_id for row in rows if row.running),
        tuple(row.reservation_id for row in rows if row.paused and not row.running),
        frozenset(row.reservation_id for row in rows if not row.paused and not row.running),
        _kept(connection, study_id),
    )


def _kept(connection: Connection, study_id: int) -> tuple[int, ...]:
    """Return the complete trials that may be among the best third of a study whose trials can go on, the worst first.

    Trials that are complete later only make that third larger: it holds at most a third of these and those left.
    """
    best = connection.execute(
        text(
            "SELECT reservation_id FROM hpo.trials JOIN hpo.studies s USING (study_id)"
            " WHERE study_id = :s AND outcome = :complete AND value IS NOT NULL"
            " AND s.spec->>'pruner' = :pruner AND s.spec->>'takes_restarts' = 'true'"
            " ORDER BY CASE WHEN s.spec->>'direction' = 'maximize' THEN -value ELSE value END, reservation_id"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE, "pruner": NAME},
    )
    found = list(best.scalars())
    left = budget.count(connection, study_id).left if found else 0
    return tuple(reversed(found[: max(1, (len(found) + left) // 3)]))


def lock_waiting(connection: Connection, study_id: int, reservation_id: int) -> bool:
    """Whether a reservation is open and held by no agent; it stays so until the transaction ends."""
    budget.lock_study(connection, study_id)
    found: bool = connection.execute(
        text(
            "SELECT EXISTS (SELECT FROM hpo.trials WHERE reservation_id = :t AND study_id = :s AND outcome IS NULL)"
            " AND NOT EXISTS (SELECT FROM hpo.attempts WHERE reservation_id = :t AND ended_at IS NULL)"
        ),
        {"t": reservation_id, "s": study_id},
    ).scalar_one()
    return found


def lock_ended(connection: Connection, study_id: int, reservation_ids: Collection[int]) -> list[int]:
    """Return those of the reservations that are not open; they stay so until the transaction ends."""
    budget.lock_study(connection, study_id)
    still_open = connection.execute(
        text("SELECT reservation_id FROM hpo.trials WHERE reservation_id = ANY(:t) AND outcome IS NULL"),
        {"t": list(reservation_ids)},
    )
    return sorted(set(reservation_ids).difference(still_open.scalars()))
