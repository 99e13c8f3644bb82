"""Advice of a model of learning curves to a claim: the order in which a free slot takes trials."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The order in which a free slot takes trials, computed before the study's row is locked."""

    ranked: tuple[int | None, ...]
    """Reservations of paused trials, the best first; None: a new configuration."""
    paused: int | None
    """Paused trials of the study when it was computed: of others it knows nothing. None: not counted."""


def available(connection: Connection, study_id: int, advice: Advice, others: list[str]) -> dict[int, bool]:
    """Return which trials of an advice are still paused, each with whether another host's agents have it."""
    rows = connection.execute(
        text(
            "SELECT t.reservation_id, last.host = ANY(:others) AS elsewhere FROM hpo.trials t"
            " CROSS JOIN LATERAL (SELECT a.host FROM hpo.attempts a"
            "  WHERE a.reservation_id = t.reservation_id ORDER BY a.attempt_id DESC LIMIT 1) AS last"
            " WHERE t.study_id = :s AND t.reservation_id = ANY(:ids)"
            " AND t.paused_epoch IS NOT NULL AND t.outcome IS NULL AND NOT EXISTS"
            "  (SELECT 1 FROM hpo.attempts a WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL)"
        ),
        {"s": study_id, "ids": [one for one in advice.ranked if one is not None], "others": others},
    )
    return {row.reservation_id: row.elsewhere for row in rows}
